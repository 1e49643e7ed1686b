"""Decides how long to wait before looking at the reply, or at the GPU, again.

Each unchanged reply stretches the interval by a share of it, which keeps it near a fixed part of the silence so far:
an eighth until there is anything to see, a fifth afterwards. News is late by at most that part of the wait for it, and
the requests of a silence grow with its logarithm, until the interval reaches its bound. News makes it short again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from client.errors import Busy

FIRST_SECONDS: Final = 0.02
"""First interval: the first text of a warm GPU is there after some tens of milliseconds, and somebody waits for it."""

SHORTEST_SECONDS: Final = 0.05
"""Interval while text arrives; the worker writes no oftener than this."""

LONGEST_SECONDS: Final = 2.0
"""Bound while nothing changes, such as when a GPU boots."""

FIRST_STRETCH: Final = 1.15
"""Until the first text; the few requests more cost a millionth of a dollar."""

STRETCH: Final = 1.25
"""After it."""

FIRST_BACKOFF_SECONDS: Final = 0.25
LONGEST_BACKOFF_SECONDS: Final = 5.0

STATUS_SECONDS: Final = 3.0
"""Interval of looks at the GPU, the shortest that the service allows in the long run."""


class Pacing:
    """Remembers the last interval of one reply, in seconds. `chance` draws from [0, 1)."""

    def __init__(self, chance: Callable[[], float]) -> None:
        self._chance = chance
        self._interval = FIRST_SECONDS
        self._stretch = FIRST_STRETCH
        self._backoff = FIRST_BACKOFF_SECONDS

    def changed(self) -> float:
        """Return the wait after a new snapshot."""
        self._interval = SHORTEST_SECONDS
        self._stretch = STRETCH
        self._backoff = FIRST_BACKOFF_SECONDS
        return self._interval

    def unchanged(self) -> float:
        """Return the wait after an answer without news."""
        interval = self._interval
        self._interval = min(interval * self._stretch, LONGEST_SECONDS)
        self._backoff = FIRST_BACKOFF_SECONDS
        return interval

    def broken(self) -> float:
        """Return the wait after a failed try: doubling, and spread so that clients drift apart."""
        backoff = self._backoff
        self._backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
        return backoff * (0.5 + self._chance() / 2)


def status_again(busy: Busy | None = None) -> float:
    """Return the wait before the next look at the GPU; longer if the service was too busy for this one."""
    if busy is None:
        return STATUS_SECONDS
    return max(2 * STATUS_SECONDS, busy.retry_after_seconds or 0)
