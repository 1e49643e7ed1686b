"""How fast several workers drain one queue: the part of `benchmarks.scale` about processes.

    python -m benchmarks.scale_workers URL NAME        one worker; only for the script itself

Each is the real `worker.jobs.Jobs` in a process of its own, run as the daemon does, with an engine that answers each
job with nothing at once and a store that keeps nothing. It says that it is ready, begins and ends at a line on its
standard input, and then writes what it has done.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import redis

from benchmarks.queue_ours import BUCKET, NoOp, Nowhere, tend
from local.server import StartFailed
from router_lambda.job import QUEUE_OPEN
from worker import heartbeat
from worker.health import Health
from worker.jobs import Jobs
from worker.log import configure_logging
from worker.parent_death import die_with
from worker.queue import JobQueue
from worker.run import Services

SLOTS: Final = 16
"""Jobs that a worker runs at once."""

DEADLINE_SECONDS: Final = 120.0
"""Only to end what hangs; a drain takes seconds."""

POLL_SECONDS: Final = 0.02
END_SECONDS: Final = 10.0
ROOT: Final = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Drain:
    """What came of one drain.

    Attributes:
        jobs: how many ran.
        twice: how many of them ran more than once.
        jobs_per_second: from the word to begin to the start of the last job.
        cpu_ms: of all workers, for a job.
        peak_mib: the most memory that any of the workers ever held.
    """

    jobs: int
    twice: int
    jobs_per_second: float
    cpu_ms: float
    peak_mib: float


def drain(client: redis.Redis, url: str, workers: int, leave: int) -> Drain:
    """Let so many workers run what waits, until only `leave` jobs are open.

    Raises:
        StartFailed: a worker ended early, or they did not get done.
    """
    with ExitStack() as stack:
        children = [stack.enter_context(_child(url, f"worker-{number}")) for number in range(workers)]
        for child in children:
            _line(child)
        began = time.monotonic()
        for child in children:
            _say(child)
        while _open(client) > leave:
            if time.monotonic() > began + DEADLINE_SECONDS or any(child.poll() is not None for child in children):
                raise StartFailed(f"{workers} workers did not drain the queue: {_open(client)} jobs are open")
            time.sleep(POLL_SECONDS)
        for child in children:
            _say(child)
        done = [json.loads(_line(child)) for child in children]
    ran = [number for each in done for number in each["ran"]]
    return Drain(
        jobs=len(ran),
        twice=len(ran) - len(set(ran)),
        jobs_per_second=len(ran) / (max(each["last_at"] for each in done) - began),
        cpu_ms=sum(each["cpu_seconds"] for each in done) * 1e3 / len(ran),
        peak_mib=max(each["peak_mib"] for each in done),
    )


@contextmanager
def _child(url: str, name: str) -> Iterator[subprocess.Popen[str]]:
    """Start one worker; it is dead in the end."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.scale_workers", url, name],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
    ) as child:
        try:
            yield child
            child.wait(END_SECONDS)
        finally:
            child.kill()


def _say(child: subprocess.Popen[str]) -> None:
    assert child.stdin is not None
    child.stdin.write("\n")
    child.stdin.flush()


def _line(child: subprocess.Popen[str]) -> str:
    """Return the next line that a worker writes.

    Raises:
        StartFailed: it has ended.
    """
    assert child.stdout is not None
    line = child.stdout.readline()
    if not line:
        raise StartFailed(f"a worker ended with exit code {child.wait()}; what it said is above")
    return line


def _open(client: redis.Redis) -> int:
    count: Any = client.zcard(QUEUE_OPEN)
    return int(count)


async def serve(url: str, name: str) -> None:
    """Be a worker: run jobs from the first line of standard input to the second."""
    # The log is written, as in the daemon, but nobody reads it here.
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    configure_logging()
    gc.freeze()  # as the daemon does
    ran: list[int] = []
    last_at = 0.0

    def started(number: int) -> None:
        nonlocal last_at
        ran.append(number)
        last_at = time.monotonic()

    queue = JobQueue.from_url(url, name)
    services = Services(NoOp(started), queue, Nowhere(None, BUCKET), Health())
    jobs = Jobs(services, SLOTS)
    async with anyio.create_task_group() as tasks:
        await tend(services, jobs, tasks)
        print("ready", file=answers)
        await anyio.to_thread.run_sync(sys.stdin.readline)
        began_cpu = time.process_time()
        tasks.start_soon(jobs.consume, tasks, name="consume")
        await anyio.to_thread.run_sync(sys.stdin.readline)
        cpu_seconds = time.process_time() - began_cpu
        jobs.drain()
        await jobs.finished(within=END_SECONDS)
        tasks.cancel_scope.cancel()
    await heartbeat.end(queue)
    await queue.aclose()
    answer = {"ran": ran, "last_at": last_at, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib()}
    print(json.dumps(answer), file=answers)


def _peak_mib() -> float:
    """Return the most memory that this process ever held; `getrusage` would count its parent's before the exec."""
    lines = Path("/proc/self/status").read_text().splitlines()
    (kib,) = (line.split()[1] for line in lines if line.startswith("VmHWM:"))
    return int(kib) / 1024


if __name__ == "__main__":
    anyio.run(serve, sys.argv[1], sys.argv[2])
