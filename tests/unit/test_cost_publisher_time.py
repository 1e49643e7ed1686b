"""How long a run of the cost publisher takes: its calls go out side by side, and none that hangs is waited for."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from router_lambda import cost_publisher as module
from router_lambda.cost_publisher import GpuSecondsUnavailable
from tests.cost_world import NOW, World
from tests.router_world import Clock, metrics


@pytest.fixture
def world() -> World:
    """Return a world at the evening of a 26th, in which nothing was ever written."""
    return World(Clock(NOW.timestamp()))


class Rounds:
    """A gate that opens for all calls of a round at once, and breaks where one of them never comes."""

    def __init__(self, *rounds: set[str]) -> None:
        self._round_of = {call: (number, len(calls)) for number, calls in enumerate(rounds) for call in calls}
        self._barriers = [threading.Barrier(len(calls), timeout=10) for calls in rounds]
        self.passed: list[int] = []

    def __call__(self, call: str) -> None:
        """Wait for the others."""
        number, _ = self._round_of[call]
        self._barriers[number].wait()
        self.passed.append(number)


@pytest.mark.parametrize(
    ("hours", "rounds"),
    [
        (0, [{"get_object", "get_metric_statistics", "get_cost_and_usage"}, {"ask_rate"}, {"put_object"}]),
        (24, [{"get_object", "get_metric_statistics"}, {"get_cost_and_usage", "ask_rate"}, {"put_object"}]),
    ],
)
def test_calls_of_a_fifth_of_a_second_take_less_than_one(world: World, hours: int, rounds: list[set[str]]) -> None:
    """Five calls are three rounds, 0.6 s: each waits for all of its round, and would for ever if they came in turn."""
    world.gate = gate = Rounds(*rounds)
    world.publisher(bill_hours=hours).publish()

    assert len(gate.passed) == 5
    assert None not in (world.written()["bill"], world.written()["rate"])


@pytest.fixture
def hanging(world: World, monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """Yield the calls that do not come back before the test is over; nobody waits long for them."""
    monkeypatch.setattr(module, "DEADLINE_SECONDS", 0.2)
    over, calls = threading.Event(), set[str]()

    def gate(call: str) -> None:
        if call in calls:
            over.wait()

    world.gate = gate
    yield calls
    over.set()
    for thread in threading.enumerate():
        if thread.name.startswith("source"):
            thread.join()


@pytest.mark.parametrize(
    ("calls", "failures"),
    [
        ({"get_cost_and_usage"}, ["CostExplorerFailures"]),
        ({"ask_rate"}, ["RateFailures"]),
        ({"get_cost_and_usage", "ask_rate"}, ["CostExplorerFailures", "RateFailures"]),
        ({"get_object"}, ["RateFailures"]),
    ],
)
def test_nobody_waits_for_what_hangs(
    world: World, hanging: set[str], calls: set[str], failures: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is replaced like what fails; without its memory the publisher does not know whether it has a rate."""
    hanging |= calls
    world.publisher().publish()
    assert metrics(capsys.readouterr().out) == [*failures, "CurrentSpendEUR"]


def test_gpu_seconds_that_hang_are_none(world: World, hanging: set[str]) -> None:
    """Lambda would end the run at 3 s without a word."""
    hanging.add("get_metric_statistics")
    with pytest.raises(GpuSecondsUnavailable, match=r"within 0\.2 s"):
        world.publisher().publish()


def test_the_limits_leave_room_in_lambda_s_three_seconds() -> None:
    """All that is asked, then the document."""
    assert module.DEADLINE_SECONDS + module.CONNECT_SECONDS + module.READ_SECONDS < 3.0
