"""How long a caller goes on waiting."""

from __future__ import annotations

from collections.abc import Callable

from client.errors import DeadlinePassed, Unreachable


class Deadline:
    """A span in seconds from `started_at`, read on `clock`, in which `awaited` has to come.

    `trouble` is the last failure that was waited out; it tells why the time ran out.
    """

    def __init__(
        self, seconds: float, started_at: float, clock: Callable[[], float], awaited: str = "final reply"
    ) -> None:
        self.trouble: Unreachable | None = None
        self._seconds = seconds
        self._ends_at = started_at + seconds
        self._clock = clock
        self._awaited = awaited

    def left(self) -> float:
        """Return the seconds left, more than 0.

        Raises:
            DeadlinePassed: there are none.
        """
        left = self._ends_at - self._clock()
        if left <= 0:
            raise self.passed() from self.trouble
        return left

    def passed(self) -> DeadlinePassed:
        """Build the error for when the time is over."""
        because = f", the last trouble being: {self.trouble}" if self.trouble else ""
        return DeadlinePassed(
            f"no {self._awaited} within {self._seconds:g} s{because}; the job may still run, so allow more time"
        )
