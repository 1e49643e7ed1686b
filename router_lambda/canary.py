"""The canary Lambda: every minute, asks the API for `/ping` and `/queue-health`, as somebody from outside would.

It runs inside the VPC, whose addresses may ask both. What comes back is in its log, as samples of what clients get; the
log group keeps a day.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from router_lambda import fetch, logs
from router_lambda.watch_settings import CanarySettings

NAMESPACE: Final = "TLFIF/Canary"

SLOWEST_SECONDS: Final = 3.0
"""Longest wait for each of the two, and for each step of it."""

SAMPLE_BYTES: Final = 500
"""What is shown of a body."""

MOST_BYTES: Final = 65_536
"""What is read of one."""

CHECKS: Final[Mapping[str, tuple[str, Mapping[str, Any]]]] = {
    "PingFailures": ("/ping", {"status": "ok"}),
    "QueueHealthFailures": ("/queue-health", {"redis": "ok"}),
}
"""By metric: the path, and what its answer has to say."""


class Canary:
    """Asks the API at `url`; `clock` gives seconds, any monotonic."""

    def __init__(self, url: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._url = url
        self._clock = clock

    def look(self) -> dict[str, int]:
        """Ask for both, one after the other, and return the metrics that were written: 1 for a failure, 0 for none."""
        # Not at once: each would wake a function of its own.
        found = {metric: int(not self._is_fine(*check)) for metric, check in CHECKS.items()}
        logs.gauge(NAMESPACE, {metric: (failures, "Count") for metric, failures in found.items()})
        return found

    def _is_fine(self, path: str, wanted: Mapping[str, Any]) -> bool:
        began = self._clock()
        status, body, reason = None, b"", None
        try:
            answer = fetch.get(self._url + path, SLOWEST_SECONDS, MOST_BYTES)
        except fetch.GetFailed as error:
            reason = str(error)
        else:
            status, body = answer.status, answer.body
        took = self._clock() - began
        is_fine = status == 200 and took <= SLOWEST_SECONDS and _says(body, wanted)  # noqa: PLR2004 - HTTP's own name
        logs.line(
            event="canary",
            path=path,
            ok=is_fine,
            status=status,
            ms=round(took * 1e3, 1),
            body=body[:SAMPLE_BYTES].decode("utf-8", "replace"),
            reason=reason,
        )
        return is_fine


def _says(body: bytes, wanted: Mapping[str, Any]) -> bool:
    """Tell whether a body is a JSON object that says what is wanted; it may say more."""
    try:
        said: Any = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(said, dict) and all(said.get(name) == value for name, value in wanted.items())


@cache
def _canary() -> Canary:
    return Canary(CanarySettings.from_environment(os.environ).url)


def handler(_event: object, _context: object) -> dict[str, int]:
    """Lambda's entry point, for a schedule; what the event says does not matter. A failure of the API is no error.

    Raises:
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    return _canary().look()
