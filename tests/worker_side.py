"""The worker's end of the queue as a contract test sees it: two workers, a router, and the keys."""

from __future__ import annotations

import json
import time
from typing import Any

import fakeredis
import redis
import redis.asyncio

from router_lambda.job import Job, worker_key
from router_lambda.queue import Queue
from tests.fakes import make_job
from worker.line import Line
from worker.queue import Claim, JobQueue


class Side:
    """One Redis, seen by two workers, a router and a test that looks at the keys."""

    def __init__(self, server: fakeredis.FakeServer | str) -> None:
        self._server = server
        self.raw: redis.Redis = (
            redis.Redis.from_url(server) if isinstance(server, str) else fakeredis.FakeRedis(server=server)
        )
        self.router = Queue(self.raw)
        self.one, self.two = self.worker("one"), self.worker("two")

    def worker(self, name: str) -> JobQueue:
        """Return a further worker's view of the queue."""
        if isinstance(self._server, str):
            return JobQueue.from_url(self._server, name)
        blocking, commands = (fakeredis.FakeAsyncRedis(server=self._server) for _ in range(2))
        return JobQueue(Line(blocking), commands, name)

    def enqueue(self) -> Job:
        """Queue a job as the router does."""
        job = make_job(enqueued_at=time.time())
        self.router.enqueue(job)
        return job

    def pop(self) -> str:
        """Take the next id off the list, and let nobody have it."""
        found = self.raw.lpop("queue:ready")
        assert isinstance(found, bytes)
        return found.decode()

    def ready(self) -> list[bytes]:
        """Return the ids that wait."""
        return [job_id for job_id in self.raw.lrange("queue:ready", 0, -1) if isinstance(job_id, bytes)]

    def heartbeat(self, worker_id: str) -> Any:
        """Return a worker's heartbeat, `None` without one; with one it must live as long as the contract says."""
        shown = self.raw.get(worker_key(worker_id))
        assert shown is None or 8 <= self.raw.ttl(worker_key(worker_id)) <= 10
        return shown and json.loads(shown)


async def claim(side: Side, worker: JobQueue, job_id: str) -> Claim:
    """Let a worker take an id, whether it waits or not."""
    side.raw.lrem("queue:ready", 0, job_id)
    side.raw.lpush("queue:ready", job_id)
    ((found, claim),) = (await worker.take(1, wait=False)).claims
    assert found == job_id
    return claim
