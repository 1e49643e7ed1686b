"""Waiting times after failures."""

from __future__ import annotations

from itertools import islice

from worker.backoff import delays


def test_delays_double_up_to_the_longest() -> None:
    """Without jitter the ceiling shows."""
    assert list(islice(delays(1, 10, jitter=lambda: 1.0), 6)) == [1, 2, 4, 8, 10, 10]


def test_jitter_takes_at_most_half() -> None:
    """The shortest wait is half of the ceiling, never nothing."""
    assert list(islice(delays(1, 10, jitter=lambda: 0.0), 3)) == [0.5, 1, 2]
