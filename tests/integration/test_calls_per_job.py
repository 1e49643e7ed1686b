"""How often a job makes its worker talk to Redis and S3: counted, not timed, so that doing more work is noticed."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest
import redis
from redis.asyncio.connection import AbstractConnection as WorkerConnection
from redis.connection import AbstractConnection as RouterConnection

from router_lambda.job import worker_key
from router_lambda.queue import Queue
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker.health import Health
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services


class Trips:
    """What was sent to Redis, by the first words of each packet; counted only while `on`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.on = False
        self.router = 0
        self.worker = 0
        from_router, from_worker = RouterConnection.send_packed_command, WorkerConnection.send_packed_command

        def router(connection: RouterConnection, *args: Any, **options: Any) -> Any:
            self.router += self.on
            return from_router(connection, *args, **options)  # type: ignore[no-untyped-call]

        async def worker(connection: WorkerConnection, *args: Any, **options: Any) -> Any:
            self.worker += self.on
            return await from_worker(connection, *args, **options)

        monkeypatch.setattr(RouterConnection, "send_packed_command", router)
        monkeypatch.setattr(WorkerConnection, "send_packed_command", worker)


@pytest.fixture
def trips(monkeypatch: pytest.MonkeyPatch) -> Trips:
    """Return what counts."""
    return Trips(monkeypatch)


@pytest.fixture
def router(redis_url: str) -> Iterator[Queue]:
    """Yield a router's end of the queue, which sees a worker."""
    with redis.Redis.from_url(redis_url) as client:
        client.set(worker_key("one"), json.dumps({"slots": 16, "job_seconds": 0.05}))
        yield Queue(client)


class Worker:
    """One that takes jobs at its leisure, and a bucket."""

    def __init__(self, url: str) -> None:
        self.queue = JobQueue.from_url(url, "one")
        self.store = MemoryStore()
        self.jobs = Jobs(Services(FakeEngine(), self.queue, self.store, Health()), limit=16)

    async def until_written(self, finals: int) -> None:
        """Wait until so many jobs have ended, and Redis has been told so."""
        with anyio.fail_after(10):
            while len(self.store.objects) < finals or not self.jobs.is_idle:
                await anyio.lowlevel.checkpoint()


@asynccontextmanager
async def working(url: str, router: Queue) -> AsyncIterator[Worker]:
    """Run a worker that has had its first job, so that connections and scripts are there."""
    worker = Worker(url)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.jobs.consume, tasks)
            router.enqueue(make_job(enqueued_at=time.time()))
            await worker.until_written(1)
            await anyio.sleep(0.1)  # the next BLPOP is on its way
            yield worker
            worker.jobs.drain()
    finally:
        await worker.queue.aclose()


async def test_a_job_costs_two_packets_to_redis_and_two_writes(redis_url: str, router: Queue, trips: Trips) -> None:
    """The acknowledgement, and the next BLPOP with its claim; a snapshot with the first token, and the final reply."""
    async with working(redis_url, router) as worker:
        written = len(worker.store.written)
        trips.on = True
        router.enqueue(make_job(enqueued_at=time.time()))
        await worker.until_written(2)
        await anyio.sleep(0.1)
        trips.on = False
        found = (trips.router, trips.worker, len(worker.store.written) - written)
    assert found == (1, 2, 2)


async def test_jobs_that_come_together_share_packets(redis_url: str, router: Queue, trips: Trips) -> None:
    """Sixty-four that wait are taken in bunches, and acknowledged in bunches: one packet for two jobs, or fewer."""
    async with working(redis_url, router) as worker:
        jobs = [make_job(enqueued_at=time.time()) for _ in range(64)]
        trips.on = True
        for job in jobs:
            router.enqueue(job)
        await worker.until_written(1 + len(jobs))
        trips.on = False
    assert trips.router == len(jobs)
    assert trips.worker <= len(jobs) / 2
