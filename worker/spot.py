"""Watches EC2's instance metadata for the notice that Spot takes this instance back, two minutes ahead.

The protocol is IMDSv2 with the path `spot/instance-action` (Amazon EC2 User Guide, "Use the Instance Metadata Service"
and "Spot Instance interruption notices"): 404 means no notice, 401 that the token has run out.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Final

import anyio
import structlog

from worker import imds

POLL_SECONDS: Final = 5.0
"""Time between two looks, as AWS recommends."""

ABSENT_SECONDS: Final = 60.0
"""Time between two looks at metadata that never answered, as on a machine that is not EC2's."""

UNKNOWN: Final = "unknown"
"""The action of a notice that cannot be read."""

_NOTICE_PATH: Final = "/latest/meta-data/spot/instance-action"

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Notice:
    """What EC2 will do with this instance, `stop`, `terminate` or `hibernate`, and when, in ISO 8601 and UTC.

    The action is `UNKNOWN` and the time empty where the notice does not say it.
    """

    action: str
    time: str


async def noticed(endpoint: str) -> Notice:
    """Return when EC2 gives notice; look for ever as long as it does not.

    `endpoint` is the address of the metadata service without a path, such as `http://169.254.169.254`. Whatever the
    network does is logged and tried again.
    """
    pace = Pace()
    async with imds.session() as session:
        metadata = imds.Metadata(session, endpoint)
        while True:
            try:
                notice = await metadata.get(_NOTICE_PATH)
            except imds.Unanswered as failure:
                wait = pace.failed(str(failure))
            else:
                if notice is not None:
                    return parse(notice)
                wait = pace.answered()
            await anyio.sleep(wait)


class Pace:
    """Decides when to look next, and logs each change once instead of each failure."""

    def __init__(self) -> None:
        self._ever_answered = False
        self._failing = False

    def answered(self) -> float:
        """Note that there is no notice yet; return the seconds until the next look."""
        if not self._ever_answered:
            log.info("watching for a Spot interruption notice")
        elif self._failing:
            log.info("instance metadata answers again")
        self._ever_answered = True
        self._failing = False
        return POLL_SECONDS

    def failed(self, reason: str) -> float:
        """Note that the metadata did not answer; return the seconds until the next look."""
        if not self._failing:
            if self._ever_answered:
                log.warning("instance metadata does not answer", reason=reason)
            else:
                log.info("no instance metadata here, so no Spot interruption notice", reason=reason)
        self._failing = True
        return POLL_SECONDS if self._ever_answered else ABSENT_SECONDS


def parse(body: bytes) -> Notice:
    """Read a notice, whatever it looks like: an instance is better drained for nothing than killed at work."""
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        document = None
    fields = document if isinstance(document, dict) else {}
    action, time = fields.get("action"), fields.get("time")
    return Notice(action if isinstance(action, str) else UNKNOWN, time if isinstance(time, str) else "")
