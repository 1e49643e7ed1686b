"""A consumer of jobs without Redis: its queue hands out what a test puts in."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import anyio.lowlevel
import structlog

from router_lambda.job import is_job_id
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker.errors import QueueUnavailable
from worker.health import Health
from worker.jobs import Jobs
from worker.queue import Claim, Claimed, JobQueue, Renewal
from worker.run import Services


class ScriptedQueue(JobQueue):
    """Hands out what a test puts in, without Redis and without waiting."""

    def __init__(self, *popped: bytes | Exception) -> None:
        self.popped: list[bytes | Exception] = list(popped)
        self.given_back: list[str] = []
        self.released: list[str] = []
        self.acknowledged: list[str] = []
        self.claims: list[str] = []
        self.takes: list[tuple[int, bool, list[str] | None]] = []
        self.unanswered: list[tuple[str, Claim]] = []
        self.lost: set[str] = set()
        self.free: set[str] = set()
        self.retaken: list[str] = []
        self.unwanted: list[set[str] | Exception] = []
        self.sweeps: list[int | Exception] = []
        self.swept = False
        self.pings = 0
        self.traces: dict[str, str] = {}
        self.attempts: dict[str, int] = {}

    async def take(self, room: int, *, wait: bool = True, known: Iterable[str] | None = None) -> Claimed:
        """Grant the next ids, as many as there is room for; after a call without an answer, what that had granted."""
        await anyio.lowlevel.checkpoint()
        self.takes.append((room, wait, None if known is None else sorted(known)))
        claims, self.unanswered = self.unanswered, []
        while self.popped and len(claims) < room:
            found = self.popped.pop(0)
            if isinstance(found, Exception):
                self.unanswered = claims
                raise found
            claims.append(self._claim_of(found))
        return Claimed(claims, len(self.popped))

    def _claim_of(self, popped: bytes) -> tuple[str, Claim]:
        job_id = popped.decode("ascii", "replace")
        if not is_job_id(job_id):
            return job_id, Claim("bad")
        self.claims.append(job_id)
        job = make_job(id=job_id, traceparent=self.traces.get(job_id), prompt="Hello")
        return job_id, Claim("run", self.attempts.get(job_id, 1), 0.0, job.to_json().encode(), math.inf)

    async def acknowledge(self, job_id: str) -> bool:
        """Note it."""
        self.acknowledged.append(job_id)
        return True

    async def release(self, job_id: str) -> bool:
        """Note it."""
        self.released.append(job_id)
        return True

    async def give_back(self, job_ids: list[str]) -> None:
        """Note it."""
        self.given_back += job_ids

    async def renew(self, job_ids: Iterable[str]) -> Renewal:
        """Report the leases that the test takes away or lets run out."""
        return Renewal(self.lost & set(job_ids), self.free & set(job_ids))

    async def retake(self, job_id: str, claim: Claim) -> bool:
        """Give a lease that ran out back."""
        self.retaken.append(job_id)
        self.free.discard(job_id)
        return True

    async def cancelled(self, job_ids: Iterable[str]) -> set[str]:
        """Return or raise what the test has prepared."""
        found = self.unwanted.pop(0) if self.unwanted else set()
        if isinstance(found, Exception):
            raise found
        return found & set(job_ids)

    async def ping(self) -> None:
        """Fail as often as the test has prepared."""
        self.pings += 1
        if self.pings < 3:
            raise QueueUnavailable("away")

    async def sweep(self, *, first: bool = False) -> int:
        """Return or raise what the test has prepared."""
        assert first == (not self.swept)
        self.swept = True
        found = self.sweeps.pop(0) if self.sweeps else 0
        if isinstance(found, Exception):
            raise found
        return found


class Consumer:
    """`Jobs` with a scripted queue and an engine that waits for `go` after its first step."""

    def __init__(self, queue: ScriptedQueue, limit: int = 8) -> None:
        self.queue = queue
        self.go = anyio.Event()
        self.engine = FakeEngine(before_step=self._wait)
        self.health = Health()
        self.store = MemoryStore()
        self.now = 100.0
        self.jobs = Jobs(Services(self.engine, queue, self.store, self.health), limit, clock=lambda: self.now)

    async def _wait(self, step: int) -> None:
        structlog.get_logger("vllm").info("step", number=step)
        if step == 1:
            await self.go.wait()


@asynccontextmanager
async def consuming(consumer: Consumer) -> AsyncIterator[None]:
    """Run the consumer; leave by draining it."""
    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await consumer.jobs.consume(tasks)

        tasks.start_soon(consume)
        yield
        consumer.jobs.drain()
        await consumer.jobs.finished(math.inf)


async def until(condition: object) -> None:
    """Let other tasks run until the condition, a callable, holds."""
    assert callable(condition)
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


def ids(count: int) -> list[bytes]:
    """Return so many new job ids."""
    return [str(uuid4()).encode() for _ in range(count)]
