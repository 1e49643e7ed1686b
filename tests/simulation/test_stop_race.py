"""Stop against new job: many seeds, each a world in which jobs arrive while the GPU closes, stops and fails to start.

`TLFIF_STOP_RACES` says how many worlds there are, `TLFIF_SIMULATION_SEED` which is the first. In each of them no job is
stranded and no machine is left running; planted bugs are found.
"""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from router_lambda import gpu, logs, queue
from router_lambda.reaper import Reaper
from router_lambda.waker import Waker
from tests.simulation.planted import Plant, assert_is_found, in_script, printed
from tests.simulation.power import simulate_power
from worker.idle import IdleTimer

WORLDS: Final = int(os.environ.get("TLFIF_STOP_RACES", "1000"))
FIRST_SEED: Final = int(os.environ.get("TLFIF_SIMULATION_SEED", "0"))
ENOUGH: Final = 300
"""Worlds in which everything that can happen does."""

SHARES: Final = 4
HAPPENED: Final = {
    "starts",
    "refused starts",
    "failed boots",
    "lost events",
    "closed, idle",
    "closed, asked",
    "stops by hand",
    "drains",
    "crashes",
    "reaped",
    "machines that run on",
    "queued while stopped",
    "queued while pending",
    "queued while running",
    "queued while stopping",
    "queued while closing",
    "done",
    "expired",
}


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Keep the lines of the Lambdas to ourselves."""
    logs.send_to(io.StringIO())
    yield
    logs.send_to(None)


@pytest.fixture(scope="module")
def totals(pytestconfig: pytest.Config) -> Iterator[Counter[str]]:
    """Yield what the tests add their counts to; they are printed in the end."""
    names = ("worlds", "jobs", *sorted(HAPPENED))
    with printed(pytestconfig, "stop races", names, lambda _: "0 stranded, 0 left running") as found:
        yield found


@pytest.mark.parametrize("share", range(SHARES))
def test_no_world_strands_a_job_or_leaves_a_machine(share: int, totals: Counter[str]) -> None:
    """Each job ends, and each machine stops."""
    for seed in range(FIRST_SEED + share, FIRST_SEED + WORLDS, SHARES):
        outcome = simulate_power(seed)
        totals.update(outcome.counts)
        totals.update({"worlds": 1, "jobs": outcome.jobs})


def test_everything_has_happened(totals: Counter[str]) -> None:
    """A race that nobody runs is won by everybody."""
    if totals["worlds"] < ENOUGH:
        pytest.skip(f"{totals['worlds']} worlds are too few for everything to happen")
    assert {name for name in HAPPENED if not totals[name]} == set()


def test_a_world_follows_from_its_seed() -> None:
    """Twice the same events at the same virtual times, and other ones for another seed."""
    assert simulate_power(1).trace == simulate_power(1).trace
    assert simulate_power(1).trace != simulate_power(2).trace


def start_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the waker look on."""
    monkeypatch.setattr(Waker, "_start", lambda *_: "started")


def reap_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the reaper look on."""
    monkeypatch.setattr(Reaper, "reap", lambda _: {"stopped": []})


def count_down_never(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every look at the timer begin it anew."""
    monkeypatch.setattr(IdleTimer, "seconds_left", property(lambda timer: None if timer._running else 10.0))


BUGS: Final[dict[str, Plant]] = {
    "a worker closes without a look at what is open": in_script("CLOSE", "redis.call('ZCARD', KEYS[1]) > 0", "false"),
    "the waker starts nothing": start_nothing,
    "the waker takes no job for live": in_script("TAKE_OVERDUE_LUA", "live = live + 1", "", queue),
    "the reaper reaps nothing": reap_nothing,
    "the idle timer never ends": count_down_never,
    "a start that failed is noted for good": in_script("CLAIM_START_LUA", "< tonumber(ARGV[2])", "< 1e9", gpu),
    "an overdue job is answered and stays open": in_script(
        "FORGET_LUA", "redis.call('ZREM', KEYS[4], ARGV[1])", "", queue
    ),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Within `MOST_SEEDS` worlds a rule breaks."""
    BUGS[bug](monkeypatch)
    assert_is_found(bug, simulate_power, capsys)
