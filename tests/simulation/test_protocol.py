"""Many seeds, each a world of its own: crashes, pauses, outages, lost answers; the rules of the protocol hold in all.

`TLFIF_SIMULATIONS` says how many worlds there are in total, `TLFIF_SIMULATION_SEED` which is the first. A failure names
its seed and the command that runs that world alone once more.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Final

import pytest

from tests.simulation.planted import printed
from tests.simulation.world import simulate

SIMULATIONS: Final = int(os.environ.get("TLFIF_SIMULATIONS", "600"))
FIRST_SEED: Final = int(os.environ.get("TLFIF_SIMULATION_SEED", "0"))
ENOUGH: Final = 100
"""Worlds in which everything that can happen does."""

SHARES: Final = 4
"""Tests over which the worlds are spread."""

_HASH_OF_A_TRACE: Final = """
import hashlib, sys
from tests.simulation.planted import printed
from tests.simulation.world import simulate
print(hashlib.sha256(repr([simulate(int(seed)).trace for seed in sys.argv[1:]]).encode()).hexdigest())
"""


@pytest.fixture(scope="module")
def totals(pytestconfig: pytest.Config) -> Iterator[Counter[str]]:
    """Yield what the tests add their counts to; they are printed in the end."""
    names = ("runs", "jobs", "crashes", "pauses", "drains", "dead engines", "overtaken", "resumed", "lost answers")
    with printed(pytestconfig, "simulated", names, _hours) as found:
        yield found


def _hours(totals: Counter[str]) -> str:
    return f"{totals['virtual seconds'] / 3_600:.1f} virtual hours"


@pytest.mark.parametrize("share", range(SHARES))
def test_no_world_breaks_a_rule(share: int, totals: Counter[str]) -> None:
    """Each job ends once, with its whole text; no reader sees less than before; Redis forgets it all."""
    for seed in range(FIRST_SEED + share, FIRST_SEED + SIMULATIONS, SHARES):
        outcome = simulate(seed)
        totals.update(outcome.counts)
        totals.update({"runs": 1, "jobs": outcome.jobs, "virtual seconds": round(outcome.seconds)})


def test_everything_has_happened(totals: Counter[str]) -> None:
    """A simulation in which nothing goes wrong would prove nothing."""
    if totals["runs"] < ENOUGH:
        pytest.skip(f"{totals['runs']} worlds are too few for everything to happen")
    happened = {"crashes", "pauses", "drains", "dead engines", "overtaken", "resumed", "lost answers"}
    assert {name for name in happened if not totals[name]} == set()
    assert {name for name in ("done", "cancelled", "expired", "failed") if not totals[name]} == set()


def test_a_run_follows_from_its_seed() -> None:
    """Twice the same events at the same virtual times, and other ones for another seed."""
    assert simulate(1).trace == simulate(1).trace
    assert simulate(1).trace != simulate(2).trace


def test_a_run_follows_from_its_seed_in_every_interpreter() -> None:
    """Whatever order its sets are in."""
    hashes = {
        subprocess.run(
            [sys.executable, "-c", _HASH_OF_A_TRACE, "1", "2", "3"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(hashes) == 1
