"""When an idle GPU has waited long enough: the decision, without a clock or a timer of its own."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from router_lambda.job import DEFAULT_IDLE_MINUTES

MINUTE: Final = 60.0


class IdleTimer:
    """Counts down while nothing runs.

    Every job keeps the GPU up for its idle minutes after its end, so the longest of those that are not over yet holds.
    A job that asks for `DEFAULT_IDLE_MINUTES`, or for none, leaves it to the worker's own setting. Before the first
    job that setting counts from the start: somebody has just woken the GPU.
    """

    def __init__(self, default_minutes: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin to count; `clock` gives seconds that never run backwards."""
        self._default_minutes = default_minutes
        self._clock = clock
        self._running = 0
        self._has_served = False
        self._deadline = clock() + default_minutes * MINUTE

    def begin(self) -> None:
        """Suspend the countdown: a job runs."""
        self._running += 1

    def end(self, idle_minutes: int | None) -> None:
        """Restart the countdown after a job; `None` for one that never ran, after which it goes on as before."""
        self._running -= 1
        if idle_minutes is None:
            return
        minutes = self._default_minutes if idle_minutes == DEFAULT_IDLE_MINUTES else idle_minutes
        deadline = self._clock() + minutes * MINUTE
        self._deadline = max(self._deadline, deadline) if self._has_served else deadline
        self._has_served = True

    @property
    def seconds_left(self) -> float | None:
        """Seconds until the GPU may stop, at least 0; `None` while a job runs."""
        return None if self._running else max(0.0, self._deadline - self._clock())

    @property
    def seconds_late(self) -> float:
        """Seconds since the countdown ended, 0 before."""
        return max(0.0, self._clock() - self._deadline)
