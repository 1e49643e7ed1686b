"""Whether the worker stays as small as it is: thousands of jobs that do nothing, and a look at it after each batch.

    python -m tests.process.steady              20,000 jobs, prints the table; exit 1 if anything grew

The real `worker.jobs.Jobs` on a real Redis runs in a process of its own, in a task group as the daemon's, fed by the
router's own queue. The engine says one token and the store keeps nothing, so whatever grows is the worker's.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from pathlib import Path
from typing import Final
from uuid import uuid4

import anyio
import redis

from benchmarks.report import table
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from router_lambda.job import QUEUE_OPEN, Job
from router_lambda.queue import Queue, connect
from tests.fakes import BUCKET, make_job
from tests.process.worker_process import COVERAGE, ROOT
from worker import heartbeat
from worker.engine import Delta, Step
from worker.health import Health
from worker.jobs import Jobs
from worker.log import configure_logging
from worker.parent_death import die_with
from worker.queue import JobQueue
from worker.reply import Document
from worker.run import Services
from worker.store import ReplyStore

JOBS: Final = 20_000
BATCH: Final = 2_000
"""Jobs between two looks. The worker is idle at each, so that what is on its way counts as nothing."""

WARM_UP: Final = 4_000
"""Jobs after which nothing may grow any more: by then every connection is made and every cache is full."""

RSS_BOUND_MIB: Final = 1.0
"""Most that the memory may grow between `WARM_UP` and `JOBS`: 65 bytes a job, less than the string of its id takes.

Measured: 0.00 to 0.02 MiB, as what a job frees is what the next one takes. A single thing kept of every job is found.
"""

WAITING: Final = 200
SLOTS: Final = 16
BACKGROUND: Final = 4
"""Tasks beside the jobs that talk to Redis: sweep, heartbeat, leases, cancels."""

DEADLINE_SECONDS: Final = 200.0
"""Only to end a worker that hangs; the jobs take a quarter of it."""
_FORGOTTEN_PROMPT: Final = "A prompt of usual length, which the worker is to forget as soon as it is answered. " * 4


@dataclass(frozen=True, slots=True)
class Sample:
    """What the worker holds after so many jobs, idle. `keys` are those in Redis; the heartbeat is one."""

    jobs: int
    seconds: float
    jobs_per_second: float
    rss_mib: float
    fds: int
    tasks: int
    keys: int = 0


@dataclass
class OneToken:
    """An engine that says one token and forgets the job, or keeps it: the leak that has to be found."""

    leaks: bool
    model: str = "one-token"
    answered: int = 0
    kept: list[Job] = field(default_factory=list)

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Answer at once."""
        await anyio.lowlevel.checkpoint()
        if self.leaks:
            self.kept.append(job)
        self.answered += 1
        yield Step(7, [Delta(0, "x", 1, "stop")])

    async def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:
        """Never needed: nothing interrupts these jobs."""
        raise AssertionError("a job was interrupted")
        yield

    def count_tokens(self, text: str) -> int:
        """Return the length of a text."""
        return len(text)

    async def check(self) -> None:
        """Live for ever."""

    async def stop(self) -> None:
        """Do nothing: there is no process."""


class Nowhere(ReplyStore):
    """A bucket that keeps nothing."""

    async def read(self, key: str) -> tuple[bytes, str] | None:
        """See `ReplyStore.read`."""
        await anyio.lowlevel.checkpoint()
        return None

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:
        """See `ReplyStore.write`."""
        await anyio.lowlevel.checkpoint()
        return f'"{len(b"".join(document.blocks))}"'


async def serve(redis_url: str, total: int, *, leaks: bool) -> None:
    """Run `total` jobs as the daemon does and write a sample to standard output after every batch."""
    # The log is written, as in the daemon, but nobody reads it here.
    samples = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    configure_logging()
    gc.freeze()  # as the daemon does
    engine = OneToken(leaks=leaks)
    queue = JobQueue.from_url(redis_url, "steady")
    services = Services(engine, queue, Nowhere(None, BUCKET), Health())
    jobs = Jobs(services, SLOTS)
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as pings:  # as many connections as there can ever be at once
            for _ in range(SLOTS + BACKGROUND):
                pings.start_soon(queue.ping)
        await tasks.start(jobs.sweep, name="sweep")
        await tasks.start(heartbeat.Heartbeat(services, jobs).keep, name="heartbeat")
        tasks.start_soon(jobs.keep_leases, name="leases")
        tasks.start_soon(jobs.watch_cancels, name="cancels")
        tasks.start_soon(jobs.consume, tasks, name="consume")
        began = before = time.monotonic()
        for due in range(BATCH, total + 1, BATCH):
            await _idle_after(due, engine, jobs)
            now = time.monotonic()
            sample = _sample(due, now - began, BATCH / (now - before), await _fewest_tasks())
            print(json.dumps(asdict(sample)), file=samples)
            before = now
        jobs.drain()
        await jobs.finished(within=5)
        tasks.cancel_scope.cancel()
    await heartbeat.end(queue)
    await queue.aclose()
    samples.close()


async def _idle_after(due: int, engine: OneToken, jobs: Jobs) -> None:
    while engine.answered < due or jobs._tasks:  # noqa: ASYNC110 - an event would be one more thing in the worker
        await anyio.sleep(0.01)
    await anyio.sleep(0.05)  # for the last tasks to be taken off the loop


async def _fewest_tasks() -> int:
    """Return how many tasks there are between two commands to Redis, each of which is a task for a moment."""
    looks = []
    for _ in range(3):
        looks.append(len(asyncio.all_tasks()))
        await anyio.sleep(0.02)
    return min(looks)


def _sample(jobs: int, seconds: float, jobs_per_second: float, tasks: int) -> Sample:
    gc.collect()  # else a cycle that waits for the collector would count as held
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Sample(
        jobs,
        seconds,
        jobs_per_second,
        rss_mib=pages * resource.getpagesize() / 2**20,
        fds=sum(1 for _ in Path("/proc/self/fd").iterdir()),
        tasks=tasks,
    )


def measure(total: int = JOBS, *, leaks: bool = False) -> tuple[list[Sample], list[bytes]]:
    """Run `total` jobs in a worker of their own; return its samples and the keys that it left in Redis.

    Raises:
        RuntimeError: it ended early, or did not get done within `DEADLINE_SECONDS`.
    """
    with RunDirectory("tl-fif-steady-") as directory:
        server = RedisServer(directory.path)
        server.start()
        with connect(server.url, timeout_seconds=10) as client:
            try:
                return _feed(client, server.url, total, leaks=leaks), client.keys()
            finally:
                server.stop()


def _feed(client: redis.Redis, redis_url: str, total: int, *, leaks: bool) -> list[Sample]:
    """Queue batch after batch, each once the worker has said what it holds after the one before."""
    command = [sys.executable, "-m", "tests.process.steady", "--serve", redis_url, "--jobs", str(total)]
    queue = Queue(client)
    samples: list[Sample] = []
    with subprocess.Popen(
        command + ["--leak"] * leaks,
        cwd=ROOT,
        env={name: value for name, value in os.environ.items() if name != COVERAGE},
        stdout=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
    ) as worker:
        assert worker.stdout is not None
        deadline = threading.Timer(DEADLINE_SECONDS, worker.kill)
        deadline.start()
        try:
            for _ in range(BATCH, total + 1, BATCH):
                _queue_batch(queue, client, worker)
                line = worker.stdout.readline()
                if not line:
                    raise RuntimeError(f"the worker ended with exit code {worker.wait()} after {samples[-1:]}")
                samples.append(Sample(**json.loads(line) | {"keys": client.dbsize()}))
            worker.wait()
        finally:
            deadline.cancel()
            worker.kill()
    return samples


def _queue_batch(queue: Queue, client: redis.Redis, worker: subprocess.Popen[bytes]) -> None:
    """Queue `BATCH` jobs, of which about `WAITING` wait at any time; gives up on a worker that has ended."""
    for number in range(BATCH):
        queue.enqueue(make_job(id=str(uuid4()), enqueued_at=time.time(), prompt=_FORGOTTEN_PROMPT))
        while number % 50 == 0 and client.zcard(QUEUE_OPEN) > WAITING and worker.poll() is None:
            time.sleep(0.005)


def growth(samples: Sequence[Sample]) -> list[str]:
    """Say what grew after the warm-up: memory by more than `RSS_BOUND_MIB`, anything else at all."""
    base, last = next(sample for sample in samples if sample.jobs >= WARM_UP), samples[-1]
    return [
        f"{name} grew from {before:g} to {after:g} between {base.jobs} and {last.jobs} jobs"
        for name, before, after, allowed in [
            ("file descriptors", base.fds, last.fds, 0),
            ("tasks", base.tasks, last.tasks, 0),
            ("resident memory (MiB)", base.rss_mib, last.rss_mib, RSS_BOUND_MIB),
            ("keys in Redis", base.keys, last.keys, 0),
        ]
        if after - before > allowed
    ]


def shown(samples: Sequence[Sample]) -> str:
    """Return the samples as a table."""
    header = [each.name.replace("_", " ") for each in fields(Sample)]
    return table(header, [astuple(sample) for sample in samples])


def main(arguments: list[str]) -> int:
    """Measure, or be what is measured."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.steady", description="Looks for leaks.")
    parser.add_argument("--jobs", type=int, default=JOBS, help="default %(default)s")
    parser.add_argument("--leak", action="store_true", help="keep every job, to see the leak found")
    parser.add_argument("--serve", metavar="REDIS_URL", help="be the worker; only for the script itself")
    options = parser.parse_args(arguments)
    if options.serve is not None:
        anyio.run(lambda: serve(options.serve, options.jobs, leaks=options.leak))
        return 0
    samples, keys = measure(options.jobs, leaks=options.leak)
    found = growth(samples) + [f"left in Redis: {key!r}" for key in keys]
    print(shown(samples), *found, sep="\n")  # noqa: T201 - a command line prints
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
