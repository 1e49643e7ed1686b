"""What a storm consists of, by its seed alone: phases of jobs, each ended by a fault."""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

WORKERS: Final = ("one", "two")


class Kind(StrEnum):
    """A fault, as the report names it."""

    WORKER_KILLED = "worker: kill -9"
    ENGINE_KILLED = "engine core: kill -9"
    ENGINE_ENDED = "engine core: SIGTERM"
    WORKER_FROZEN = "worker: SIGSTOP past its leases"
    WORKER_DRAINED = "worker: SIGTERM"
    REDIS_KILLED = "Redis: kill -9"
    S3_KILLED = "S3: kill -9"


SERVERS: Final = frozenset({Kind.REDIS_KILLED, Kind.S3_KILLED})

SECONDS: Final = {Kind.WORKER_FROZEN: (16.0, 18.0), Kind.REDIS_KILLED: (1.0, 3.0), Kind.S3_KILLED: (2.0, 4.0)}
"""How long a fault lasts; a worker that dies is started again at once."""

JOBS_PER_ROUND: Final = 250
"""For so many jobs every fault strikes once, in some order, and one server once more, which costs no boot."""

PHASE_SECONDS: Final = (3.0, 6.0)
"""How long the jobs of one phase take to come; the fault strikes right after, while the last of them run."""

BURST_SHARE: Final = 0.5
"""Jobs of a phase that all come at its end, so that some have to wait and the others have just begun."""

LONG_SHARE: Final = 0.35
CANCELLED_SHARE: Final = 0.06

TALKATIVE: Final[dict[str, Any]] = {"temperature": 0, "frequency_penalty": -2}
"""Keeps the tiny model talking: what was said is ever more likely to be said again, and the end never was."""


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """A job that comes `at` seconds into its phase and is cancelled `cancel_after` seconds later, if at all."""

    at: float
    prompt: str
    params: dict[str, Any]
    cancel_after: float | None


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault that lasts `seconds`, on `worker` unless a server is meant."""

    kind: Kind
    worker: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Phase:
    """Jobs that come within `seconds`, and the fault that strikes then; the last phase has none."""

    seconds: float
    jobs: list[PlannedJob]
    fault: Fault | None


def plan(seed: int, jobs: int) -> list[Phase]:
    """Plan a storm of `jobs` jobs; the same for the same seed and number."""
    chance = random.Random(seed)
    faults = [*_faults(chance, rounds=max(1, round(jobs / JOBS_PER_ROUND))), None]
    share, rest = divmod(jobs, len(faults))
    return [_phase(chance, share + (number < rest), fault) for number, fault in enumerate(faults)]


def _faults(chance: random.Random, rounds: int) -> list[Fault]:
    """Return so many rounds of faults; those on workers strike them in turn."""
    workers = [*WORKERS]
    chance.shuffle(workers)
    faults = []
    for _ in range(rounds):
        kinds = [*Kind, chance.choice([Kind.REDIS_KILLED, Kind.S3_KILLED])]
        chance.shuffle(kinds)
        for kind in kinds:
            seconds = chance.uniform(*SECONDS.get(kind, (0.0, 0.0)))
            faults.append(Fault(kind, "" if kind in SERVERS else workers[0], seconds))
            if kind not in SERVERS:
                workers.reverse()
    return faults


def _phase(chance: random.Random, jobs: int, fault: Fault | None) -> Phase:
    seconds = chance.uniform(*PHASE_SECONDS)
    return Phase(seconds, [_job(chance, seconds) for _ in range(jobs)], fault)


def _job(chance: random.Random, latest: float) -> PlannedJob:
    at = latest - 0.2 if chance.random() < BURST_SHARE else chance.uniform(0, latest)
    prompt = "".join(chance.choices("abcdefghij äöü€", k=chance.randint(3, 60)))
    cancel_after = None
    if chance.random() < CANCELLED_SHARE:
        # Half of the owners think better of it at once, the others when the reply has begun.
        cancel_after = chance.choice([0.0, chance.uniform(0.3, 2.0)])
    return PlannedJob(at, prompt, _params(chance), cancel_after)


def _params(chance: random.Random) -> dict[str, Any]:
    if chance.random() < LONG_SHARE:
        return TALKATIVE | {"max_tokens": chance.randint(200, 500)}
    params: dict[str, Any] = {"max_tokens": chance.randint(5, 40)}
    if chance.random() < 0.3:
        params |= {"temperature": 0.9, "seed": chance.getrandbits(31)}
    if chance.random() < 0.1:
        params["n"] = 2
    if chance.random() < 0.1:
        params["logprobs"] = chance.randint(0, 3)
    return params
