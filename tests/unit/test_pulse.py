"""When a silent engine counts as hung."""

from __future__ import annotations

import pytest

from worker.errors import EngineDied
from worker.pulse import Pulse


def test_an_engine_without_work_may_be_silent() -> None:
    """However long."""
    pulse = Pulse(10)
    pulse.passed(1_000)
    with pulse.working():
        pulse.passed(10)


def test_an_engine_with_work_may_not() -> None:
    """Past the limit it is called dead, with a reason."""
    pulse = Pulse(10)
    with pulse.working(), pulse.working():
        pulse.passed(10)
        with pytest.raises(EngineDied, match="no token for 10 s while 2 jobs"):
            pulse.passed(0.5)


def test_any_token_starts_the_count_anew() -> None:
    """It need not be for the job that waits longest."""
    pulse = Pulse(10)
    with pulse.working():
        for _ in range(5):
            pulse.passed(9)
            pulse.beat()


def test_new_work_after_none_starts_the_count_anew() -> None:
    """What was silent before does not count."""
    pulse = Pulse(10)
    with pulse.working():
        pulse.passed(9)
    with pulse.working():
        pulse.passed(9)
