"""What goes on beside running jobs: their leases, cancels, and the sweep."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import anyio
import anyio.lowlevel
import pytest

from router_lambda.job import reply_key
from tests.scripted_queue import Consumer, ScriptedQueue, consuming, ids, until
from worker import jobs as jobs_module
from worker.errors import QueueUnavailable
from worker.queue import Renewal


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


async def test_a_lease_that_ran_out_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on, unless it has ended meanwhile."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.jobs.keep_leases)
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            consumer.queue.free = set(consumer.queue.claims)
            await until(lambda: consumer.queue.retaken)
            consumer.go.set()
            await until(lambda: consumer.queue.acknowledged)
        tasks.cancel_scope.cancel()
    assert consumer.queue.retaken == consumer.queue.acknowledged == consumer.engine.closed


async def test_a_renewal_that_fails_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the next one would be due: the lease may have run out by then."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    asked_at: list[float] = []

    async def sleep(seconds: float) -> None:
        assert seconds >= 0
        consumer.now += seconds
        await anyio.lowlevel.checkpoint()

    async def renew(_ids: Iterable[str]) -> Renewal:
        asked_at.append(consumer.now)
        if len(asked_at) in {1, 2}:
            raise QueueUnavailable("away")
        if len(asked_at) == 4:
            consumer.now += 60  # the whole process stood still
        if len(asked_at) == 5:
            await anyio.sleep_forever()
        return Renewal(set(), set())

    monkeypatch.setattr(consumer.queue, "renew", renew)
    async with anyio.create_task_group() as tasks:
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            began = consumer.now
            monkeypatch.setattr(anyio, "sleep", sleep)
            tasks.start_soon(consumer.jobs.keep_leases)
            await until(lambda: len(asked_at) == 5)
            monkeypatch.undo()
            consumer.go.set()
        tasks.cancel_scope.cancel()
    assert [later - earlier for earlier, later in itertools.pairwise([began, *asked_at])] == [5, 1, 1, 5, 60]


async def test_the_sweep_goes_on_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once when Redis is back: the workers are to take their leases back first."""
    monkeypatch.setattr(jobs_module, "delays", lambda *_: iter([0.0] * 100))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    consumer = Consumer(ScriptedQueue())
    consumer.queue.sweeps = [QueueUnavailable("away"), 3, 0]
    async with anyio.create_task_group() as tasks:
        await tasks.start(consumer.jobs.sweep)
        assert consumer.health.components["redis"] == "away"
        await until(lambda: not consumer.queue.sweeps)
        tasks.cancel_scope.cancel()
    assert consumer.queue.pings == 3
    assert waits[:5] == [0, 0, 0, jobs_module.SWEEP_AFTER_OUTAGE_SECONDS, jobs_module.SWEEP_SECONDS]


async def test_cancelled_jobs_are_looked_for_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those; an outage in between is noted, and the look repeated."""
    monkeypatch.setattr(jobs_module, "CANCEL_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(2)))
    async with anyio.create_task_group() as tasks:
        async with consuming(consumer):
            await until(lambda: len(consumer.store.written) == 2)
            unwanted, other = consumer.queue.claims
            consumer.queue.unwanted = [QueueUnavailable("away"), {unwanted}]
            tasks.start_soon(consumer.jobs.watch_cancels)
            await until(lambda: consumer.queue.acknowledged == [unwanted])
            consumer.go.set()
        tasks.cancel_scope.cancel()
    assert consumer.queue.acknowledged == [unwanted, other]
    assert b'"cancelled"' in consumer.store.objects[reply_key(unwanted)][0]
    assert b'"done"' in consumer.store.objects[reply_key(other)][0]
