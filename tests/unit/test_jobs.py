"""Taking jobs off the queue: the limit, the drain, lost leases and ids that name no job."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from tests.fakes import FakeEngine, MemoryStore, make_job
from worker import jobs as jobs_module
from worker.errors import QueueUnavailable
from worker.health import Health
from worker.jobs import Jobs
from worker.queue import Claim, JobQueue
from worker.run import Services


class ScriptedQueue(JobQueue):
    """Hands out what a test puts in, without Redis and without waiting."""

    def __init__(self, *popped: bytes | Exception) -> None:
        self.popped: list[bytes | Exception] = list(popped)
        self.put: list[bytes] = []
        self.forgotten: list[bytes] = []
        self.released: list[str] = []
        self.acknowledged: list[str] = []
        self.claims: list[str] = []
        self.lost: set[str] = set()
        self.sweeps: list[int | Exception] = []

    async def pop(self) -> bytes | None:
        """Return the next id, or nothing."""
        await anyio.lowlevel.checkpoint()
        if not self.popped:
            return None
        found = self.popped.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def claim(self, job_id: str) -> Claim:
        """Grant every claim."""
        self.claims.append(job_id)
        return Claim("run", 1, 0.0, make_job(id=job_id).to_json().encode())

    async def acknowledge(self, job_id: str) -> bool:
        """Note it."""
        self.acknowledged.append(job_id)
        return True

    async def release(self, job_id: str) -> bool:
        """Note it."""
        self.released.append(job_id)
        return True

    async def put_back(self, popped: bytes) -> None:
        """Note it."""
        self.put.append(popped)

    async def forget(self, popped: bytes) -> None:
        """Note it."""
        self.forgotten.append(popped)

    async def renew(self, job_ids: Iterable[str]) -> set[str]:
        """Report the leases that the test takes away."""
        return self.lost & set(job_ids)

    async def sweep(self) -> int:
        """Return or raise what the test has prepared."""
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
        self.jobs = Jobs(Services(self.engine, queue, self.store, self.health), limit)

    async def _wait(self, step: int) -> None:
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


async def test_no_more_jobs_than_the_limit_run_at_once() -> None:
    """The third job stays in Redis until one of the two has ended."""
    consumer = Consumer(ScriptedQueue(*ids(3)), limit=2)
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 2)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert len(consumer.queue.popped) == 1
        consumer.go.set()
        await until(lambda: len(consumer.queue.acknowledged) == 3)
    assert consumer.jobs.running == 0


async def test_a_drain_lets_running_jobs_finish() -> None:
    """What runs is finished; what is popped while draining goes back."""
    late = ids(1)[0]
    consumer = Consumer(ScriptedQueue(*ids(2)))
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 2)
        consumer.queue.popped.append(late)
        consumer.jobs.drain()
        await until(lambda: consumer.queue.put == [late])
        consumer.go.set()
    assert len(consumer.queue.acknowledged) == 2


async def test_a_drain_does_not_wait_for_a_free_place() -> None:
    """With every place taken the consumer ends at once, so that the drain deadline counts from the signal."""
    consumer = Consumer(ScriptedQueue(*ids(3)), limit=2)
    async with anyio.create_task_group() as tasks:

        async def consume_then_drain() -> None:
            await consumer.jobs.consume(tasks)
            await consumer.jobs.finished(0)

        tasks.start_soon(consume_then_drain)
        await until(lambda: len(consumer.store.written) == 2)
        consumer.jobs.drain()
    assert sorted(consumer.queue.released) == sorted(consumer.queue.claims)
    assert len(consumer.queue.popped) == 1


async def test_past_the_deadline_jobs_hand_themselves_back() -> None:
    """A job that does not end in time is released with its text so far."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with consuming(consumer):
        await until(lambda: consumer.store.written)
        consumer.jobs.drain()
        await consumer.jobs.finished(0)
    assert consumer.queue.released == consumer.queue.claims
    assert consumer.queue.acknowledged == []


@pytest.mark.parametrize("junk", [b"", b"not-an-id", b"\xff\xfe", b"5F0C0000-0000-4000-8000-000000000000"])
async def test_what_names_no_job_is_dropped(junk: bytes) -> None:
    """It is taken out of the open set, no claim is made, and the next job runs."""
    good = ids(1)[0]
    consumer = Consumer(ScriptedQueue(junk, good))
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: consumer.queue.acknowledged)
    assert (consumer.queue.forgotten, consumer.queue.claims) == ([junk], [good.decode()])


async def test_redis_away_is_noted_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the outage jobs come again."""
    monkeypatch.setattr(jobs_module, "delays", lambda *_: iter([0.0] * 100))
    good = ids(1)[0]
    consumer = Consumer(ScriptedQueue(QueueUnavailable("away"), QueueUnavailable("away"), good))
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: consumer.health.components["redis"] == "away")
        await until(lambda: consumer.queue.acknowledged)
        assert consumer.health.components["redis"] == "ok"


async def test_a_job_that_still_runs_here_is_not_claimed_again() -> None:
    """A second entry of a running job, after a pause longer than its lease, starts nothing."""
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job, job))
    async with consuming(consumer):
        await until(lambda: not consumer.queue.popped)
        await until(lambda: consumer.jobs.running == 1)
        consumer.go.set()
    assert consumer.queue.claims == [job.decode()]


async def test_a_lost_lease_stops_the_job_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither released nor acknowledged, and its engine request is closed."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.jobs.keep_leases)
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            consumer.queue.lost = set(consumer.queue.claims)
            await until(lambda: consumer.jobs.running == 0)
        tasks.cancel_scope.cancel()
    assert (consumer.queue.released, consumer.queue.acknowledged) == ([], [])
    assert consumer.engine.closed == consumer.queue.claims


async def test_the_sweep_goes_on_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """One failed sweep is noted; the next one runs."""
    monkeypatch.setattr(jobs_module, "SWEEP_SECONDS", 0)
    consumer = Consumer(ScriptedQueue())
    consumer.queue.sweeps = [QueueUnavailable("away"), 3]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.jobs.sweep)
        await until(lambda: not consumer.queue.sweeps)
        tasks.cancel_scope.cancel()
    assert consumer.health.components["redis"] == "away"
