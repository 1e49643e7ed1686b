"""Decides when a growing reply is worth another snapshot.

A snapshot rewrites the whole document, so equal steps would cost the square of its length. The step here is
`size² / (size + SMOOTH_BYTES)`: nearly every token while the document is small, doubling once it is large. With `f`
the final and `s` the first size, all snapshots together then cost at most about `2 f + SMOOTH_BYTES · ln(f / s)`
bytes (docs/adr/ADR-2026-11-23-snapshot-pacing.md works it out).
"""

from __future__ import annotations

from typing import Final

SMOOTH_BYTES: Final = 8_192
"""Size around which the step turns from fine to doubling."""

MIN_INTERVAL_SECONDS: Final = 0.05
"""Shortest time between two snapshots: no reader sees more, and each costs a request."""


class Pacing:
    """Remembers the last snapshot of one reply. Sizes in bytes, times in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._next_size = 0.0
        self._next_time = float("-inf")

    def wait(self, size: int, now: float) -> float | None:
        """Return the seconds to wait before uploading a document of this size, 0 for at once.

        `None` means that the document has to grow first.
        """
        if size < self._next_size:
            return None
        return max(0.0, self._next_time - now)

    def uploaded(self, size: int, now: float) -> None:
        """Note that a snapshot of this size was taken at this time, whether or not S3 accepted it."""
        self._next_size = size + size * size / (size + SMOOTH_BYTES)
        self._next_time = now + MIN_INTERVAL_SECONDS
