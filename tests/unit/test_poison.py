"""A job that kills every engine it meets: it ends, and nobody else does."""

from __future__ import annotations

import json
import math
import time

import anyio
import anyio.lowlevel
import fakeredis

from router_lambda.job import Job, reply_key
from router_lambda.queue import Queue
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker.errors import EngineDied
from worker.health import Health
from worker.jobs import Jobs
from worker.line import Line
from worker.queue import MAX_ATTEMPTS, JobQueue
from worker.run import Services


class PoisonedEngine(FakeEngine):
    """Dies as soon as the job `poison` has its first token, as do all others that run then."""

    poison = ""

    async def mind(self, step: int) -> None:
        """Let the others say something first."""
        await anyio.lowlevel.checkpoint()
        if self.dead or (step == 1 and self.poison in self.started + [job for job, _, _ in self.resumed]):
            self.dead = True
            raise EngineDied("killed by a poisonous job")
        if step == 1:
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
                if self.dead:
                    raise EngineDied("killed by a poisonous job")


async def live(server: fakeredis.FakeServer, store: MemoryStore, poison: Job, number: int) -> PoisonedEngine:
    """Run one life of a worker, until its engine dies or nothing is open any more."""
    blocking, commands = (fakeredis.FakeAsyncRedis(server=server) for _ in range(2))
    queue = JobQueue(Line(blocking), commands, f"life-{number}")
    engine = PoisonedEngine()
    engine.poison, engine.before_step = poison.id, engine.mind
    jobs = Jobs(Services(engine, queue, store, Health()), limit=16)
    watcher = fakeredis.FakeRedis(server=server)
    try:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(jobs.consume, tasks)
            with anyio.fail_after(20):
                while watcher.zcard("queue:open"):
                    await anyio.lowlevel.checkpoint()
            jobs.drain()
            await jobs.finished(math.inf)
            tasks.cancel_scope.cancel()
    except* EngineDied:
        pass
    finally:
        await queue.aclose()
        watcher.close()
    return engine


async def test_it_ends_after_three_tries_and_takes_no_other_job_along() -> None:
    """The others share the engine with it twice; its third try is alone, and so are theirs."""
    server, store = fakeredis.FakeServer(version=(6, 2)), MemoryStore()
    router = Queue(fakeredis.FakeRedis(server=server))
    jobs = [make_job(enqueued_at=time.time()) for _ in range(8)]
    poison = jobs[3]
    for job in jobs:
        router.enqueue(job)
    deaths = 0
    for number in range(20):
        deaths += (await live(server, store, poison, number)).dead
        if not fakeredis.FakeRedis(server=server).zcard("queue:open"):
            break
    replies = {job.id: json.loads(store.objects[reply_key(job.id)][0]) for job in jobs}
    assert (replies[poison.id]["status"], replies[poison.id]["error"]["code"]) == ("failed", "too_many_attempts")
    others = [replies[job.id] for job in jobs if job is not poison]
    assert {(reply["status"], reply["choices"][0]["text"]) for reply in others} == {("done", "Hello world")}
    assert all(reply["attempt"] <= MAX_ATTEMPTS for reply in others)
    assert deaths == MAX_ATTEMPTS
    assert [key for key in fakeredis.FakeRedis(server=server).scan_iter() if not key.startswith(b"worker:")] == []
