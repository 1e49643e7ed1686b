"""An average that follows what is measured."""

from __future__ import annotations

import pytest

from worker.average import MovingAverage


def averaged(*values: float) -> float | None:
    """Return the average after these values."""
    average = MovingAverage()
    for value in values:
        average.add(value)
    return average.value


def test_without_a_value_there_is_no_average() -> None:
    """Not zero, which would promise that jobs take no time."""
    assert averaged() is None


def test_the_first_value_is_the_average() -> None:
    """Zero does not count as one that came before it; and may itself be the first."""
    assert averaged(5.0) == 5.0
    assert averaged(0.0, 10.0) == pytest.approx(2.0)


def test_each_value_moves_it_by_a_fifth_of_the_way() -> None:
    """10, then 20: 12; then 2: 10."""
    assert averaged(10.0, 20.0) == pytest.approx(12.0)
    assert averaged(10.0, 20.0, 2.0) == pytest.approx(10.0)


def test_it_forgets() -> None:
    """After ten values of another size, nine tenths of the way are done; it stays between the two."""
    average = averaged(100.0, *[1.0] * 10)
    assert average is not None
    assert 1.0 < average < 1.0 + 0.11 * 99
