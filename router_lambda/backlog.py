"""How many jobs may wait: as many as can be run before the last of them expires."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

from router_lambda.job import JOB_TTL_SECONDS

DEFAULT_BOOT_SECONDS: Final = 90.0
"""From a stopped instance to a ready worker, until boots have been measured."""

DEFAULT_SLOTS: Final = 64
"""Jobs that a worker runs at once; the default of the worker's TLFIF_MAX_CONCURRENCY."""

DEFAULT_JOB_SECONDS: Final = 10.0
"""How long a job keeps its slot, until a worker has measured it."""

_LARGEST: Final = 1e9
"""No worker has so many slots and no job takes so many seconds."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What can be run in the time that a job has.

    Attributes:
        slots: jobs at once.
        job_seconds: how long a job keeps its slot, on average.
        is_awake: whether they start right away or wait for a boot first.
    """

    slots: int = DEFAULT_SLOTS
    job_seconds: float = DEFAULT_JOB_SECONDS
    is_awake: bool = False

    @classmethod
    def from_heartbeat(cls, heartbeat: bytes | str | None) -> Capacity:
        """Read what a worker says of itself; what it does not say, or says wrong, is taken from the defaults.

        One that drains takes no jobs any more, and is as good as none.
        """
        if heartbeat is None:
            return cls()
        try:
            said: Any = json.loads(heartbeat)
        except (ValueError, RecursionError):
            said = None
        said = said if isinstance(said, dict) else {}
        if said.get("state") == "draining":
            return cls()
        seconds = _number(said.get("job_seconds"), DEFAULT_JOB_SECONDS)
        return cls(
            slots=max(1, int(_number(said.get("slots"), DEFAULT_SLOTS))),
            job_seconds=min(max(seconds, 0.05), JOB_TTL_SECONDS),
            is_awake=True,
        )

    def most_waiting(self) -> int:
        """Return how long the queue may get: what can be run before a job expires, but at least what runs at once."""
        seconds = JOB_TTL_SECONDS - (0 if self.is_awake else DEFAULT_BOOT_SECONDS)
        return max(self.slots, int(seconds * self.slots / self.job_seconds))

    def backlog_seconds(self, waiting: int) -> float:
        """Return how long this worker would need for so many jobs."""
        return waiting * self.job_seconds / self.slots

    def seconds_until_room(self, waiting: int) -> int:
        """Return when one more may wait, in whole seconds from now, 1 to `JOB_TTL_SECONDS`."""
        excess = waiting - self.most_waiting() + 1
        boot = 0 if self.is_awake else DEFAULT_BOOT_SECONDS
        return min(max(1, math.ceil(boot + excess * self.job_seconds / self.slots)), JOB_TTL_SECONDS)


def _number(value: object, default: float) -> float:
    """Return `value` if it is a length or a count, the largest sensible one at most."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return default
    try:
        number = float(value)
    except OverflowError:
        return default
    return min(number, _LARGEST) if math.isfinite(number) and number >= 0 else default
