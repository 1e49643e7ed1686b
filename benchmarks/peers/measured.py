"""One round of one queue: it is filled, a worker drains it, and then gets one job at a time."""

from __future__ import annotations

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.peers.environment import ROOT
from local.child import spawn, stop, tail
from local.redis_server import RedisServer
from local.server import StartFailed

POLL_SECONDS: Final = 0.02
PATIENCE_SECONDS: Final = 60.0
"""Longest time for one batch; the slowest queue takes a fifth of it."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much a queue gets to do in a round.

    Attributes:
        drain: jobs that wait when the worker begins.
        single: jobs that are then sent one at a time.
        gap_seconds: least time between two of them, at most twice as long; enough for the worker to be idle again.
        warm_up: how many more of them come first and do not count, as the producer connects.
    """

    drain: int
    single: int
    gap_seconds: float
    warm_up: int = 10


@dataclass(frozen=True, slots=True)
class System:
    """A queue that is measured.

    Attributes:
        name: as the tables have it.
        module: with its two sides, see `benchmarks.peers.side`.
        variant: of the module, if it has several.
        environment: in which it runs, see `benchmarks.peers.environment`; empty for our own.
        sizes: of its rounds.
    """

    name: str
    module: str
    variant: str
    environment: str
    sizes: Sizes

    def command(self, python: Path) -> list[str]:
        """Return the beginning of the command of either side."""
        return [str(python), "-m", self.module, f"--variant={self.variant}"]


def measure(system: System, python: Path, server: RedisServer, folder: Path, sizes: Sizes) -> dict[str, float]:
    """Run a round on an empty Redis.

    Returns `p50_ms`, `p95_ms` and `p99_ms` from before the send to the start of the handler, one job at a time; and
    `jobs_per_second` and the worker's `cpu_ms` a job, from the first start to the last of the drain.

    Raises:
        StartFailed: a side did not do its part.
    """
    server.flush()
    here = folder / f"{system.name.replace(' ', '-')}-{time.monotonic_ns()}"
    here.mkdir()
    command = system.command(python)
    single = sizes.single + sizes.warm_up
    _produce([*command, "produce", server.url, str(here / "filled.json"), "0", str(sizes.drain), "0"], here)
    log = here / "worker.log"
    worker = spawn([*command, "work", server.url, str(here), str(sizes.drain), str(single)], log=log, folder=ROOT)
    try:
        drained = _batch(here / "0.json", worker, log)
        sent_file = here / "sent.json"
        sending = ["produce", server.url, str(sent_file), str(sizes.drain), str(single), str(sizes.gap_seconds)]
        _produce([*command, *sending], here)
        started = _batch(here / "1.json", worker, log)["at"]
    finally:
        stop(worker)
    sent = json.loads(sent_file.read_text())["at"]
    waits = [(after - before) * 1e3 for before, after in zip(sent, started, strict=True)][sizes.warm_up :]
    counted = sizes.drain - 1  # the first start is where the time begins
    return {f"{name}_ms": wait for name, wait in report.percentiles(waits).items()} | {
        "jobs_per_second": counted / (max(drained["at"]) - min(drained["at"])),
        "cpu_ms": drained["cpu_seconds"] * 1e3 / counted,
    }


def _produce(command: list[str], folder: Path) -> None:
    log = folder / "producer.log"
    producer = spawn(command, log=log, folder=ROOT)
    try:
        code = producer.wait(PATIENCE_SECONDS)
    except subprocess.TimeoutExpired:
        code = None
    finally:
        stop(producer)
    if code != 0:
        raise StartFailed(f"the producer ended with {code}. Its log ends with:\n{tail(log)}")


def _batch(file: Path, worker: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    """Wait for a worker's batch."""
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    while not file.exists():
        if worker.poll() is not None or time.monotonic() > give_up_at:
            raise StartFailed(f"the worker did not run all jobs. Its log ends with:\n{tail(log)}")
        time.sleep(POLL_SECONDS)
    batch: dict[str, Any] = json.loads(file.read_text())
    return batch
