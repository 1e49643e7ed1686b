"""Pauses between two starts of the worker."""

from __future__ import annotations

from local.supervisor import Backoff


def test_pauses_double_up_to_ten_seconds() -> None:
    """A worker that keeps dying is started less and less often."""
    backoff = Backoff()
    assert [backoff.after(ran_seconds=1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]


def test_a_long_run_starts_anew() -> None:
    """A worker that ran for a minute is started again at once, as if it had never failed."""
    backoff = Backoff()
    for _ in range(7):
        backoff.after(ran_seconds=1)
    assert [backoff.after(ran_seconds=60), backoff.after(ran_seconds=59.9)] == [0.5, 1]
