"""How a worker is seen while it lives, on a fake and a real Redis alike."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel
import pytest

from router_lambda.job import GPU_WAKING
from tests.fakes import FakeEngine, MemoryStore
from tests.worker_side import Side
from worker import heartbeat
from worker.health import Health
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services


@asynccontextmanager
async def beating(queue: JobQueue) -> AsyncIterator[Jobs]:
    """Keep a worker's heartbeat up meanwhile, and end it as the daemon does."""
    services = Services(FakeEngine(), queue, MemoryStore(), Health())
    jobs = Jobs(services, 8)
    async with anyio.create_task_group() as tasks:
        await tasks.start(heartbeat.Heartbeat(services, jobs).keep)
        yield jobs
        tasks.cancel_scope.cancel()
    await heartbeat.end(queue)


async def eventually(look: Callable[[], object]) -> None:
    """Wait until what another task writes can be seen."""
    with anyio.fail_after(5):
        while not look():
            await anyio.lowlevel.checkpoint()


async def test_a_worker_is_seen_while_it_lives_and_not_after(side: Side) -> None:
    """At once, as JSON that runs out in 10 s; draining is told at once; the end takes it away."""
    async with beating(side.one) as jobs:
        shown = side.heartbeat("one")
        assert (shown["state"], shown["running"], shown["model"], shown["slots"]) == ("ready", 0, "fake", 8)
        jobs.drain()
        await eventually(lambda: side.heartbeat("one")["state"] == "draining")
    assert side.raw.keys() == []


async def test_workers_are_seen_one_by_one(side: Side) -> None:
    """Each under its own id; the end of one leaves the other."""
    async with beating(side.one):
        async with beating(side.two):
            assert side.heartbeat("one")
            assert side.heartbeat("two")
        assert side.heartbeat("two") is None
        assert side.heartbeat("one")


async def test_the_first_beat_ends_the_wait_for_the_gpu(side: Side) -> None:
    """The routers' note that a start was asked for goes with it, and only with it."""
    side.raw.set(GPU_WAKING, "somebody")
    await side.one.beat("{}", 10)
    assert side.raw.get(GPU_WAKING) == b"somebody"
    async with beating(side.two):
        assert not side.raw.exists(GPU_WAKING)


async def test_a_redis_that_lost_everything_sees_the_worker_again(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the next beat."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.05)
    async with beating(side.one):
        side.raw.flushall()
        await eventually(lambda: side.heartbeat("one"))
