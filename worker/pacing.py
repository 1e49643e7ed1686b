"""Decides when a growing reply is worth another snapshot.

A snapshot rewrites the whole document, so equal steps would cost the square of its length. The step here is
`size² / (size + SMOOTH_BYTES)`: nearly every token while the document is small, doubling once it is large. Doubling
alone would let a reader of a chat wait for half of it, so up to `LARGE_BYTES` a step is at most `LARGEST_SHARE` of the
document; beyond, what exceeds `LARGE_BYTES` doubles. With `f` the final size, all snapshots together then cost at most
`9 f + SMOOTH_BYTES` bytes, and at most `2 f + LARGE_BYTES · (11 + log2(f / LARGE_BYTES))`
(docs/adr/ADR-2026-11-25-snapshots-of-an-eighth.md works it out).

Each one also costs a request, and CPU time next to vLLM's output. So all replies of a worker together get one snapshot
in `MIN_INTERVAL_SECONDS`: the more of them stream, the longer each waits for its next one
(docs/adr/ADR-2026-11-25-snapshots-share-a-budget.md). Only the first snapshot of a reply never waits.
"""

from __future__ import annotations

from typing import Final

SMOOTH_BYTES: Final = 8_192
"""Size around which the step would turn from fine to doubling."""

LARGEST_SHARE: Final = 1 / 8
"""Largest step of a document that is not large, as a share of it; an eighth costs nine times the bytes, not twice."""

LARGE_BYTES: Final = 32_768
"""Size from which on bytes count more than smoothness; a chat reply of 2,048 tokens has two fifths of it."""

MIN_INTERVAL_SECONDS: Final = 0.05
"""Shortest time between two snapshots of a reply that streams alone: no reader sees more."""


def step(size: int) -> float:
    """Return by how many bytes a document of this size has to grow until it is worth another snapshot."""
    return min(size * size / (size + SMOOTH_BYTES), max(size * LARGEST_SHARE, size - LARGE_BYTES))


class Pacing:
    """Remembers the last snapshot of one reply. Sizes in bytes, times in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._next_size = 0.0
        self._last_time = float("-inf")

    def is_due(self, size: int) -> bool:
        """Tell whether a document of this size has grown enough for another snapshot."""
        return size >= self._next_size

    def wait(self, now: float, streams: int) -> float:
        """Return the seconds until the next snapshot may be taken, while so many replies stream; 0 for at once."""
        return max(0.0, self._last_time + MIN_INTERVAL_SECONDS * streams - now)

    def uploaded(self, size: int, now: float) -> None:
        """Note that a snapshot of this size was taken at this time, whether or not S3 accepted it."""
        self._next_size = size + step(size)
        self._last_time = now
