"""What is made in a thread while somebody waits for something else."""

from __future__ import annotations

import threading

import pytest

from worker.meanwhile import Meanwhile


def test_it_is_made_in_a_thread_of_its_own() -> None:
    """Once, however often it is asked for."""
    made: list[str] = []

    def make() -> int:
        made.append(threading.current_thread().name)
        return 7

    meanwhile = Meanwhile(make, name="maker")
    meanwhile.start()
    assert [meanwhile.result(), meanwhile.result()] == [7, 7]
    assert made == ["maker"]


def test_it_is_made_here_if_nobody_has_started_it() -> None:
    """It is late then, and there all the same; once too."""
    made: list[threading.Thread] = []

    def make() -> int:
        made.append(threading.current_thread())
        return 7

    meanwhile = Meanwhile(make, name="maker")
    assert [meanwhile.result(), meanwhile.result()] == [7, 7]
    assert made == [threading.current_thread()]


@pytest.mark.parametrize("started", [True, False])
def test_what_goes_wrong_is_raised_where_the_result_is_wanted(*, started: bool) -> None:
    """And not where nobody looks."""

    def make() -> int:
        raise ValueError("no such tokenizer")

    meanwhile = Meanwhile(make, name="maker")
    if started:
        meanwhile.start()
    with pytest.raises(ValueError, match="no such tokenizer"):
        meanwhile.result()
