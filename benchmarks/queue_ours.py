"""Our own queue, as `benchmarks.queue` measures it: the router's end and the worker's, with all that guards a job.

The producer is the router's `Queue.enqueue`. The worker is `worker.jobs.Jobs` as the daemon runs it: leases that are
renewed, a sweep, a watch for cancels, a heartbeat, its log. Its engine answers each job with nothing at once, and its
store keeps nothing, so that the queue and the worker around it are what is measured.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio
from anyio.abc import TaskGroup

from benchmarks.peers.side import PROMPT, SLOTS, Send, Started, run
from router_lambda.job import Job, reply_path, worker_key
from router_lambda.queue import Queue, connect
from worker import heartbeat
from worker.engine import Step
from worker.health import Health
from worker.jobs import Jobs
from worker.log import configure_logging
from worker.queue import JobQueue
from worker.reply import Document
from worker.run import Services
from worker.store import ReplyStore

BUCKET: Final = "tl-fif"
_NUMBERED: Final = "00000000-0000-4000-8000-{:012x}"
"""Ids that say which job it is."""

_HEARTBEAT: Final = json.dumps({"slots": SLOTS, "job_seconds": 0.05})
"""Without a worker that says so, the router takes no more jobs than it knows it can have run in time."""


class NoOp:
    """An engine that has nothing to say."""

    model = "no-op"

    def __init__(self, started: Started) -> None:
        self._started = started

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """End at once."""
        self._started(int(job.id[-12:], 16))
        nothing: tuple[Step, ...] = ()
        for step in nothing:
            yield step

    async def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:  # noqa: ARG002
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

    async def read(self, key: str) -> tuple[bytes, str] | None:  # noqa: ARG002
        """See `ReplyStore.read`."""
        return None

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:  # noqa: ARG002
        """See `ReplyStore.write`."""
        return f'"{document.size}"'


async def tend(services: Services, jobs: Jobs, tasks: TaskGroup) -> None:
    """Start all that the daemon does for its jobs beside running them."""
    await tasks.start(jobs.sweep, name="sweep")
    await tasks.start(heartbeat.Heartbeat(services, jobs).keep, name="heartbeat")
    tasks.start_soon(jobs.keep_leases, name="leases")
    tasks.start_soon(jobs.watch_cancels, name="cancels")


async def work(url: str, _variant: str, started: Started) -> None:
    """Run jobs as the daemon does."""
    configure_logging()
    gc.freeze()  # as the daemon does
    services = Services(NoOp(started), JobQueue.from_url(url, "bench"), Nowhere(None, BUCKET), Health())
    jobs = Jobs(services, SLOTS)
    async with anyio.create_task_group() as tasks:
        await tend(services, jobs, tasks)
        await jobs.consume(tasks)


@asynccontextmanager
async def sender(url: str, _variant: str) -> AsyncIterator[Send]:
    """Queue by `Queue.enqueue`."""
    with connect(url) as client:
        client.set(worker_key("stand-in"), _HEARTBEAT)
        queue = Queue(client)

        async def send(number: int) -> None:
            queue.enqueue(_job(number))

        yield send


def _job(number: int) -> Job:
    job_id = _NUMBERED.format(number)
    return Job(
        id=job_id,
        sub="somebody",
        prompt=PROMPT,
        messages=None,
        raw=False,
        params={},
        idle_minutes=5,
        reply_path=reply_path(BUCKET, job_id),
        enqueued_at=time.time(),
    )


if __name__ == "__main__":
    run(work, sender)
