"""How the client spaces its looks at the reply, and when it gives up."""

from __future__ import annotations

import pytest

from client.deadline import Deadline
from client.errors import Busy, DeadlinePassed, NotConnected
from client.pacing import (
    FIRST_BACKOFF_SECONDS,
    FIRST_SECONDS,
    LONGEST_BACKOFF_SECONDS,
    LONGEST_SECONDS,
    SHORTEST_SECONDS,
    STATUS_SECONDS,
    Pacing,
    status_again,
)
from tests.client_service import Clock


def test_news_keeps_the_interval_short() -> None:
    """While text arrives, every wait is the shortest."""
    pacing = Pacing(lambda: 0.0)

    assert [pacing.changed() for _ in range(3)] == [SHORTEST_SECONDS] * 3


def test_silence_stretches_the_interval_up_to_its_bound() -> None:
    """Waits without news grow steadily and stop at the longest."""
    pacing = Pacing(lambda: 0.0)

    waits = [pacing.unchanged() for _ in range(40)]

    assert waits[0] == FIRST_SECONDS
    assert waits == sorted(waits)
    assert waits[-1] == LONGEST_SECONDS


def test_the_first_text_is_seen_at_most_a_seventh_of_the_wait_late() -> None:
    """Below the bound, each wait is at most that part of the time without anything plus the first wait."""
    pacing = Pacing(lambda: 0.0)
    silence = 0.0

    for _ in range(30):
        wait = pacing.unchanged()
        assert wait <= FIRST_SECONDS + silence / 6.6
        silence += wait


def test_a_look_comes_at_most_a_quarter_of_the_silence_late() -> None:
    """Below the bound, each wait is at most a quarter of the time without news plus the shortest wait."""
    pacing = Pacing(lambda: 0.0)
    pacing.changed()
    silence = 0.0

    for _ in range(15):
        wait = pacing.unchanged()
        assert wait <= SHORTEST_SECONDS + silence / 4 + 1e-9
        silence += wait


def test_news_after_a_silence_makes_the_interval_short_again() -> None:
    """The first change brings the next waits back to the shortest."""
    pacing = Pacing(lambda: 0.0)
    for _ in range(20):
        pacing.unchanged()

    assert pacing.changed() == SHORTEST_SECONDS
    assert pacing.unchanged() == SHORTEST_SECONDS


def test_failures_back_off_doubling_up_to_a_bound() -> None:
    """Failed tries wait twice as long each, never longer than the bound."""
    pacing = Pacing(lambda: 1.0)

    assert [pacing.broken() for _ in range(7)] == [
        0.25,
        0.5,
        1,
        2,
        4,
        LONGEST_BACKOFF_SECONDS,
        LONGEST_BACKOFF_SECONDS,
    ]


def test_failures_are_spread_over_half_the_backoff() -> None:
    """Chance moves the wait between half the back-off and all of it."""
    assert Pacing(lambda: 0.0).broken() == FIRST_BACKOFF_SECONDS / 2
    assert Pacing(lambda: 1.0).broken() == FIRST_BACKOFF_SECONDS


@pytest.mark.parametrize("recovered", ["changed", "unchanged"])
def test_an_answer_ends_the_backoff(recovered: str) -> None:
    """After any answer the next failure starts from the first back-off."""
    pacing = Pacing(lambda: 1.0)
    for _ in range(4):
        pacing.broken()

    getattr(pacing, recovered)()

    assert pacing.broken() == FIRST_BACKOFF_SECONDS


def test_a_deadline_counts_down_on_the_injected_clock() -> None:
    """What is left shrinks with the clock."""
    clock = Clock()
    deadline = Deadline(10, clock(), clock)
    clock.now += 4

    assert deadline.left() == 6


def test_a_deadline_that_passed_names_the_last_trouble() -> None:
    """The error tells the span and what went wrong last, and is chained to it."""
    clock = Clock()
    deadline = Deadline(10, clock(), clock)
    deadline.trouble = NotConnected("no route")
    clock.now += 10

    with pytest.raises(DeadlinePassed, match=r"within 10 s, the last trouble being: no route") as caught:
        deadline.left()

    assert caught.value.__cause__ is deadline.trouble


@pytest.mark.parametrize(
    ("retry_after", "wait"), [(None, 2 * STATUS_SECONDS), (0, 2 * STATUS_SECONDS), (1, 2 * STATUS_SECONDS), (90, 90)]
)
def test_a_busy_service_is_asked_more_slowly(retry_after: int | None, wait: float) -> None:
    """Never sooner than it wants, and at half the usual rate at least."""
    assert status_again(Busy("busy", status=429, retry_after_seconds=retry_after)) == wait
    assert status_again() == STATUS_SECONDS
