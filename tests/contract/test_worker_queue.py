"""The worker's end of the queue, held against a fake and a real Redis alike."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import fakeredis
import pytest
import redis
import redis.asyncio

from router_lambda.job import GPU_WAKING, JOB_TTL_SECONDS, Job, cancel_key, job_key, lease_key, worker_key
from router_lambda.queue import Queue
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker import heartbeat, lua
from worker.errors import QueueUnavailable
from worker.health import Health
from worker.jobs import Jobs
from worker.lua import LEASE_SECONDS
from worker.queue import JobQueue, Renewal
from worker.run import Services


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
        return JobQueue(blocking, commands, name)

    def enqueue(self) -> Job:
        """Queue a job as the router does."""
        job = make_job(enqueued_at=time.time())
        self.router.enqueue(job)
        return job

    def ready(self) -> list[bytes]:
        """Return the ids that wait."""
        return [job_id for job_id in self.raw.lrange("queue:ready", 0, -1) if isinstance(job_id, bytes)]

    def heartbeat(self, worker_id: str) -> Any:
        """Return a worker's heartbeat, `None` without one; with one it must live as long as the contract says."""
        shown = self.raw.get(worker_key(worker_id))
        assert shown is None or 8 <= self.raw.ttl(worker_key(worker_id)) <= 10
        return shown and json.loads(shown)


@pytest.fixture(params=["fake", "real"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Yield an empty queue on each kind of server."""
    server = fakeredis.FakeServer(version=(6, 2)) if request.param == "fake" else request.getfixturevalue("redis_url")
    made = Side(server)
    yield made
    for worker in (made.one, made.two):
        await worker.aclose()
    made.raw.close()


async def popped(queue: JobQueue) -> str:
    """Pop an id that must be there."""
    found = await queue.pop()
    assert found is not None
    return found.decode()


async def test_claimed_job_is_the_queued_one(side: Side) -> None:
    """Pop and claim give the payload, the first attempt and the router's time, and take the lease."""
    job = side.enqueue()
    assert await popped(side.one) == job.id
    claim = await side.one.claim(job.id)
    assert (claim.state, claim.attempt) == ("run", 1)
    assert claim.enqueued_at == pytest.approx(job.enqueued_at)
    assert Job.from_json(claim.payload) == job
    assert side.raw.get(lease_key(job.id)) == b"one"
    assert LEASE_SECONDS - 1 <= side.raw.ttl(lease_key(job.id)) <= LEASE_SECONDS


async def test_ids_come_in_the_order_they_were_queued(side: Side) -> None:
    """First in, first out."""
    jobs = [side.enqueue() for _ in range(3)]
    assert [await popped(side.one) for _ in jobs] == [job.id for job in jobs]


async def test_pop_of_an_empty_queue_returns_nothing(side: Side) -> None:
    """After its second of waiting it says so, and the next pop works."""
    assert await side.one.pop() is None
    job = side.enqueue()
    assert await popped(side.one) == job.id


async def test_only_one_worker_gets_a_job(side: Side) -> None:
    """The second claim is told that the job is taken, and counts no attempt."""
    job = side.enqueue()
    await side.one.claim(job.id)
    assert (await side.two.claim(job.id)).state == "taken"
    assert side.raw.hget("queue:attempts", job.id) == b"1"


async def test_acknowledging_leaves_nothing_behind(side: Side) -> None:
    """Not one key remains of a finished job."""
    job = side.enqueue()
    side.raw.set(cancel_key(job.id), "1")
    await side.one.claim(await popped(side.one))
    assert await side.one.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_only_the_holder_acknowledges(side: Side) -> None:
    """A worker without the lease changes nothing."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    assert not await side.two.acknowledge(job.id)
    assert side.raw.exists(job_key(job.id), lease_key(job.id)) == 2


async def test_a_job_that_ended_is_gone(side: Side) -> None:
    """A second entry in the ready list of a finished job is turned away and leaves no lease."""
    job = side.enqueue()
    await side.one.claim(job.id)
    await side.one.acknowledge(job.id)
    assert (await side.two.claim(job.id)).state == "gone"
    assert side.raw.exists(lease_key(job.id)) == 0


async def test_a_payload_that_ran_out_is_expired(side: Side) -> None:
    """The worker that finds it holds the lease, so that exactly one tells the client."""
    job = side.enqueue()
    side.raw.delete(job_key(job.id))
    claim = await side.one.claim(job.id)
    assert claim.state == "expired"
    assert claim.enqueued_at == pytest.approx(job.enqueued_at)
    assert (await side.two.claim(job.id)).state == "taken"
    assert await side.one.acknowledge(job.id)
    assert not side.raw.exists("queue:open")


async def test_a_payload_of_another_type_is_handed_over_empty(side: Side) -> None:
    """A list under a job's key does not break the claim; as a job it is refused later."""
    job = side.enqueue()
    side.raw.delete(job_key(job.id))
    side.raw.rpush(job_key(job.id), "what?")
    claim = await side.one.claim(job.id)
    assert (claim.state, claim.payload) == ("run", b"")
    assert await side.one.acknowledge(job.id)


async def test_renewing_extends_lease_and_payload(side: Side) -> None:
    """Both live on while the job runs; what is not ours is reported."""
    mine, other, gone = side.enqueue(), side.enqueue(), str(uuid4())
    await side.one.claim(mine.id)
    await side.two.claim(other.id)
    side.raw.expire(lease_key(mine.id), 2)
    side.raw.expire(job_key(mine.id), 2)
    assert await side.one.renew([mine.id, other.id, gone]) == Renewal(lost={other.id}, free={gone})
    assert side.raw.ttl(lease_key(mine.id)) > LEASE_SECONDS - 2
    assert side.raw.ttl(job_key(mine.id)) > JOB_TTL_SECONDS - 5


async def test_a_released_job_is_next_in_line(side: Side) -> None:
    """It goes to the head of the queue, without a lease, and only its holder can do that."""
    first, second = side.enqueue(), side.enqueue()
    await side.one.claim(await popped(side.one))
    assert not await side.two.release(first.id)
    assert await side.one.release(first.id)
    assert side.ready() == [first.id.encode(), second.id.encode()]
    assert (await side.two.claim(await popped(side.two))).attempt == 2


async def test_put_back_undoes_a_pop(side: Side) -> None:
    """The order stays."""
    first, second = side.enqueue(), side.enqueue()
    await side.one.put_back((await popped(side.one)).encode())
    assert side.ready() == [first.id.encode(), second.id.encode()]


async def test_sweep_finds_what_nobody_has(side: Side) -> None:
    """Popped and unclaimed comes back; waiting and leased stay as they are; a second sweep finds nothing."""
    side.raw.flushall()
    lost, leased, waiting = side.enqueue(), side.enqueue(), side.enqueue()
    assert [await popped(side.one), await popped(side.one)] == [lost.id, leased.id]
    await side.one.claim(leased.id)
    assert await side.two.sweep() == 1
    assert side.ready() == [lost.id.encode(), waiting.id.encode()]
    assert await side.two.sweep() == 0


async def test_sweep_puts_the_oldest_first(side: Side) -> None:
    """Those that it puts back have waited longer than those that wait."""
    jobs = [side.enqueue() for _ in range(4)]
    for _ in jobs[:3]:
        await popped(side.one)
    assert await side.two.sweep() == 3
    assert side.ready() == [job.id.encode() for job in jobs]


async def test_sweep_looks_at_the_head_of_a_long_queue(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost job among those that are next is found at once, one further back before its turn."""
    monkeypatch.setattr(lua, "SWEEP_SLACK", 3)
    jobs = [side.enqueue() for _ in range(12)]
    taken = {await popped(side.one), await popped(side.one)}
    near, far = jobs[3].id, jobs[10].id
    for job_id in (near, far):
        assert side.raw.lrem("queue:ready", 0, job_id) == 1

    assert await side.two.sweep() == 3
    assert {job_id.decode() for job_id in side.ready()[:3]} == taken | {near}
    assert far.encode() not in side.ready()

    order = []
    while side.ready():
        job_id = await popped(side.one)
        order.append(job_id)
        await side.one.claim(job_id)
        await side.one.acknowledge(job_id)
        await side.two.sweep()
    assert len(order) == 12
    assert order.index(far) <= 10


async def test_sweep_forgets_attempts_of_what_is_not_open(side: Side) -> None:
    """They would stay for ever; those of an open job stay as long as it is."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    side.raw.hset("queue:attempts", str(uuid4()), "2")
    await side.two.sweep()
    assert side.raw.hgetall("queue:attempts") == {job.id.encode(): b"1"}


async def test_a_worker_that_begins_takes_back_what_an_earlier_life_left(side: Side) -> None:
    """At once instead of when the leases have run out; other workers' leases stay."""
    mine, other = side.enqueue(), side.enqueue()
    await side.one.claim(await popped(side.one))
    await side.two.claim(await popped(side.two))
    assert await side.one.sweep() == 0
    assert await side.one.sweep(first=True) == 1
    assert side.ready() == [mine.id.encode()]
    assert side.raw.get(lease_key(other.id)) == b"two"
    assert (await side.one.claim(mine.id)).attempt == 2


async def test_a_second_worker_of_the_same_name_takes_nothing_from_the_first(side: Side) -> None:
    """As long as the other one's heartbeat is there."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    await side.one.beat("{}", 10)
    assert await side.one.sweep(first=True) == 0
    assert side.raw.get(lease_key(job.id)) == b"one"


async def test_a_claim_that_was_not_answered_is_found_again(side: Side) -> None:
    """It counts no second attempt; somebody else's lease stays somebody else's."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    claim = await side.one.claim(job.id, again=True)
    assert (claim.state, claim.attempt) == ("run", 1)
    assert (await side.two.claim(job.id, again=True)).state == "taken"
    side.raw.delete(lease_key(job.id))
    assert (await side.two.claim(job.id, again=True)).attempt == 2


async def test_a_job_that_its_owner_cancelled_is_not_run(side: Side) -> None:
    """The claim says so, and holds the lease, so that exactly one worker tells the client; expired or not."""
    job = side.enqueue()
    assert side.router.cancel(job.id, job.sub)
    claim = await side.one.claim(await popped(side.one))
    assert (claim.state, Job.from_json(claim.payload)) == ("cancelled", job)
    assert (await side.two.claim(job.id)).state == "taken"
    side.raw.delete(job_key(job.id), lease_key(job.id))
    assert (await side.two.claim(job.id)).state == "cancelled"
    assert await side.two.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_cancelled_ones_are_told_among_many(side: Side) -> None:
    """By their marks."""
    jobs = [side.enqueue() for _ in range(3)]
    assert side.router.cancel(jobs[1].id, jobs[1].sub)
    assert await side.one.cancelled([job.id for job in jobs]) == {jobs[1].id}


async def test_a_lease_that_ran_out_is_free_until_somebody_takes_it(side: Side) -> None:
    """Renewing says so and does not touch it; taking it back works for one of two."""
    job = side.enqueue()
    claim = await side.one.claim(await popped(side.one))
    side.raw.delete(lease_key(job.id))
    assert await side.one.renew([job.id]) == Renewal(set(), {job.id})
    assert not side.raw.exists(lease_key(job.id))
    assert await side.one.retake(job.id, claim)
    assert await side.one.retake(job.id, claim)
    assert not await side.two.retake(job.id, claim)
    assert side.raw.get(lease_key(job.id)) == b"one"
    assert LEASE_SECONDS - 1 <= side.raw.ttl(lease_key(job.id)) <= LEASE_SECONDS
    assert side.ready() == []


async def test_a_redis_that_lost_everything_is_told_of_a_running_job(side: Side) -> None:
    """Should its worker die now, the job is found as if nothing had happened, its attempts included."""
    job = side.enqueue()
    side.raw.hset("queue:attempts", job.id, "1")
    claim = await side.one.claim(await popped(side.one))
    side.raw.flushall()
    assert await side.one.renew([job.id]) == Renewal(set(), {job.id})
    assert await side.one.retake(job.id, claim)
    assert (await side.two.claim(await popped(side.two))).state == "taken"
    side.raw.delete(lease_key(job.id))
    assert await side.two.sweep() == 1
    found = await side.two.claim(await popped(side.two))
    assert (found.state, found.attempt, found.payload) == ("run", 3, claim.payload)
    assert found.enqueued_at == pytest.approx(job.enqueued_at)
    assert side.raw.ttl(job_key(job.id)) > JOB_TTL_SECONDS - 5


async def test_a_finished_job_is_acknowledged_though_its_lease_ran_out(side: Side) -> None:
    """Its final reply is written, whoever holds the lease; but one who holds it does this himself."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    side.raw.delete(lease_key(job.id))
    assert await side.one.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_two_workers_share_a_queue_fairly(side: Side) -> None:
    """Of eighty jobs that wait each gets at least a quarter."""
    for _ in range(80):
        side.enqueue()
    taken = {"one": 0, "two": 0}

    async def work(name: str, queue: JobQueue) -> None:
        while (found := await queue.pop()) is not None:
            claim = await queue.claim(found.decode())
            assert claim.state == "run"
            taken[name] += 1
            assert await queue.acknowledge(found.decode())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, "one", side.one)
        tasks.start_soon(work, "two", side.two)
    assert sum(taken.values()) == 80
    assert min(taken.values()) >= 20
    assert side.raw.keys() == []


async def test_sweep_finds_a_dead_worker_s_job(side: Side) -> None:
    """Once its lease has run out, another worker gets it as the second attempt."""
    job = side.enqueue()
    await side.one.claim(await popped(side.one))
    side.raw.delete(lease_key(job.id))
    assert await side.two.sweep() == 1
    assert (await side.two.claim(await popped(side.two))).attempt == 2


async def test_forgetting_an_id_that_names_no_job(side: Side) -> None:
    """It leaves the open set, so that no sweep brings it back."""
    side.raw.zadd("queue:open", {b"\xffgarbage": 1})
    await side.one.forget(b"\xffgarbage")
    assert await side.one.sweep() == 0


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


async def test_an_unreachable_redis_is_reported_as_such() -> None:
    """Every call says QueueUnavailable, within its bound."""
    queue = JobQueue.from_url("redis://127.0.0.1:1/0", "one")
    for call in (
        queue.pop(),
        queue.claim(str(uuid4())),
        queue.sweep(),
        queue.renew([str(uuid4())]),
        queue.beat("{}", 10),
        queue.begin("{}", 10),
        queue.is_stop_wanted(),
        queue.close("{}", 10),
        queue.note_phases("{}"),
        queue.withdraw(),
    ):
        with pytest.raises(QueueUnavailable):
            await call
    await queue.aclose()
