"""Watches EC2's instance metadata for the notice that Spot takes this instance back, two minutes ahead.

The protocol is IMDSv2 with the path `spot/instance-action` (Amazon EC2 User Guide, "Use the Instance Metadata Service"
and "Spot Instance interruption notices"): 404 means no notice, 401 that the token has run out.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import aiohttp
import anyio
import structlog

POLL_SECONDS: Final = 5.0
"""Time between two looks, as AWS recommends."""

ABSENT_SECONDS: Final = 60.0
"""Time between two looks at metadata that never answered, as on a machine that is not EC2's."""

REQUEST_SECONDS: Final = 2.0
"""Longest time that one request may take."""

TOKEN_TTL_SECONDS: Final = 21_600
"""Life of a token, the longest that EC2 grants."""

UNKNOWN: Final = "unknown"
"""The action of a notice that cannot be read."""

_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from, not one
_NOTICE_PATH: Final = "/latest/meta-data/spot/instance-action"
# Anything else would break the header that it is sent in.
_TOKEN: Final = re.compile(rb"[!-~]+")

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
    timeout = aiohttp.ClientTimeout(total=REQUEST_SECONDS)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        metadata = _Metadata(session, endpoint.rstrip("/"))
        while True:
            try:
                notice = await metadata.notice()
            except _Unanswered as failure:
                wait = pace.failed(str(failure))
            else:
                if notice is not None:
                    return notice
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


class _Unanswered(Exception):
    """The metadata service does not answer, or not as EC2's does."""


class _Metadata:
    """The metadata service through one session, with the token of the moment."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        self._session = session
        self._endpoint = endpoint
        self._token = ""

    async def notice(self) -> Notice | None:
        """Return the notice, `None` while there is none.

        Raises:
            _Unanswered: nobody knows whether there is one.
        """
        try:
            if not self._token:
                self._token = await self._new_token()
            status, body = await self._instance_action()
            if status == HTTPStatus.UNAUTHORIZED:
                self._token = await self._new_token()
                status, body = await self._instance_action()
        except (aiohttp.ClientError, OSError) as error:
            raise _Unanswered(f"{type(error).__name__}: {error}") from error
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status == HTTPStatus.OK:
            return parse(body)
        raise _Unanswered(f"{_NOTICE_PATH} answered {status}")

    async def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_SECONDS)}
        url = self._endpoint + _TOKEN_PATH
        async with self._session.put(url, headers=headers, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise _Unanswered(f"{_TOKEN_PATH} answered {response.status}")
            token = await response.read()
        if not _TOKEN.fullmatch(token):
            raise _Unanswered(f"{_TOKEN_PATH} answered no token")
        return token.decode()

    async def _instance_action(self) -> tuple[int, bytes]:
        headers = {"X-aws-ec2-metadata-token": self._token}
        url = self._endpoint + _NOTICE_PATH
        async with self._session.get(url, headers=headers, allow_redirects=False) as response:
            try:
                return response.status, await response.read()
            except (aiohttp.ClientError, OSError):
                # The status alone says whether there is a notice.
                return response.status, b""
