"""When an idle GPU may stop."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.idle import MINUTE, IdleTimer


@dataclass
class Clock:
    """Seconds that the test moves."""

    now: float = 1_000.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


def run(timer: IdleTimer, clock: Clock, seconds: float, idle_minutes: int | None = 5) -> None:
    """Let a job run for so long."""
    timer.begin()
    clock.now += seconds
    timer.end(idle_minutes)


def test_it_counts_from_the_start(clock: Clock) -> None:
    """A GPU that was woken for nothing stops, too; it never goes below zero and says how late it is."""
    timer = IdleTimer(5, clock)
    assert (timer.seconds_left, timer.seconds_late) == (300.0, 0.0)
    clock.now += 299
    assert timer.seconds_left == 1.0
    clock.now += 3
    assert (timer.seconds_left, timer.seconds_late) == (0.0, 2.0)


def test_a_job_suspends_it_and_its_end_restarts_it(clock: Clock) -> None:
    """However long the job runs."""
    timer = IdleTimer(5, clock)
    timer.begin()
    clock.now += 10_000
    assert timer.seconds_left is None
    timer.end(5)
    assert timer.seconds_left == 300.0


def test_it_waits_for_the_last_of_several(clock: Clock) -> None:
    """Jobs run side by side."""
    timer = IdleTimer(5, clock)
    timer.begin()
    timer.begin()
    timer.end(5)
    assert timer.seconds_left is None
    clock.now += 10
    timer.end(5)
    assert timer.seconds_left == 300.0


def test_the_longest_wish_holds(clock: Clock) -> None:
    """Until it is over: a short one after a long one takes nothing from it, and the other way round it is extended."""
    timer = IdleTimer(5, clock)
    run(timer, clock, 1, idle_minutes=30)
    clock.now += 60
    run(timer, clock, 1, idle_minutes=1)
    assert timer.seconds_left == 30 * MINUTE - 61
    clock.now += 29 * MINUTE
    run(timer, clock, 1, idle_minutes=2)
    assert timer.seconds_left == 2 * MINUTE


def test_the_first_job_ends_the_grace_of_the_start(clock: Clock) -> None:
    """It may ask for less than what holds before anybody has asked."""
    timer = IdleTimer(5, clock)
    run(timer, clock, 1, idle_minutes=1)
    assert timer.seconds_left == MINUTE


@pytest.mark.parametrize("default", [0.05, 2, 30])
def test_the_default_is_the_workers(clock: Clock, default: float) -> None:
    """A job that asks for nothing carries the five minutes of the API, which stand for the worker's setting."""
    timer = IdleTimer(default, clock)
    run(timer, clock, 1, idle_minutes=5)
    assert timer.seconds_left == pytest.approx(default * MINUTE)


def test_a_job_that_never_ran_changes_nothing(clock: Clock) -> None:
    """One that was cancelled or had expired is no use of the GPU."""
    timer = IdleTimer(5, clock)
    run(timer, clock, 100, idle_minutes=None)
    assert timer.seconds_left == 200.0
    run(timer, clock, 0, idle_minutes=1)
    assert timer.seconds_left == MINUTE


@given(
    st.lists(st.tuples(st.floats(0, 4_000), st.floats(0, 500), st.integers(1, 30)), max_size=20), st.floats(0.01, 30)
)
def test_it_is_the_latest_of_all_wishes(jobs: list[tuple[float, float, int]], default: float) -> None:
    """For any jobs one after the other; each is (pause before, duration, idle minutes)."""
    clock = Clock()
    timer = IdleTimer(default, clock)
    wishes = [] if jobs else [clock.now + default * MINUTE]
    for pause, seconds, minutes in jobs:
        clock.now += pause
        run(timer, clock, seconds, minutes)
        wishes.append(clock.now + (default if minutes == 5 else minutes) * MINUTE)
    assert timer.seconds_left == max(0.0, max(wishes) - clock.now)
