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
from worker.line import Line
from worker.lua import LEASE_SECONDS
from worker.queue import MAX_ATTEMPTS, Claim, Claimed, JobQueue, Renewal
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


@pytest.fixture(params=["fake", "real"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Yield an empty queue on each kind of server."""
    server = fakeredis.FakeServer(version=(6, 2)) if request.param == "fake" else request.getfixturevalue("redis_url")
    made = Side(server)
    yield made
    for worker in (made.one, made.two):
        await worker.aclose()
    made.raw.close()


async def claim(side: Side, worker: JobQueue, job_id: str) -> Claim:
    """Let a worker take an id, whether it waits or not."""
    side.raw.lrem("queue:ready", 0, job_id)
    side.raw.lpush("queue:ready", job_id)
    ((found, claim),) = (await worker.take(1, wait=False)).claims
    assert found == job_id
    return claim


async def test_claimed_job_is_the_queued_one(side: Side) -> None:
    """Pop and claim give the payload, the first attempt and the router's time, and take the lease."""
    job = side.enqueue()
    assert side.pop() == job.id
    claimed = await claim(side, side.one, job.id)
    assert (claimed.state, claimed.attempt) == ("run", 1)
    assert claimed.enqueued_at == pytest.approx(job.enqueued_at)
    assert Job.from_json(claimed.payload) == job
    assert side.raw.get(lease_key(job.id)) == b"one"
    assert LEASE_SECONDS - 1 <= side.raw.ttl(lease_key(job.id)) <= LEASE_SECONDS


async def test_ids_come_in_the_order_they_were_queued(side: Side) -> None:
    """First in, first out."""
    jobs = [side.enqueue() for _ in range(3)]
    taken = [(await side.one.take(1)).claims[0][0] for _ in jobs]
    assert taken == [job.id for job in jobs]


async def test_an_empty_queue_gives_nothing(side: Side) -> None:
    """After its second of waiting it says so, and the next call works."""
    assert (await side.one.take(1)).claims == []
    job = side.enqueue()
    assert [job_id for job_id, _ in (await side.one.take(1)).claims] == [job.id]


async def test_only_one_worker_gets_a_job(side: Side) -> None:
    """The second claim is told that the job is taken, and counts no attempt."""
    job = side.enqueue()
    await claim(side, side.one, job.id)
    assert (await claim(side, side.two, job.id)).state == "taken"
    assert side.raw.hget("queue:attempts", job.id) == b"1"


async def test_acknowledging_leaves_nothing_behind(side: Side) -> None:
    """Not one key remains of a finished job."""
    job = side.enqueue()
    side.raw.set(cancel_key(job.id), "1")
    await claim(side, side.one, side.pop())
    assert await side.one.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_only_the_holder_acknowledges(side: Side) -> None:
    """A worker without the lease changes nothing."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    assert not await side.two.acknowledge(job.id)
    assert side.raw.exists(job_key(job.id), lease_key(job.id)) == 2


async def test_a_job_that_ended_is_gone(side: Side) -> None:
    """A second entry in the ready list of a finished job is turned away and leaves no lease."""
    job = side.enqueue()
    await claim(side, side.one, job.id)
    await side.one.acknowledge(job.id)
    assert (await claim(side, side.two, job.id)).state == "gone"
    assert side.raw.exists(lease_key(job.id)) == 0


async def test_a_payload_that_ran_out_is_expired(side: Side) -> None:
    """The worker that finds it holds the lease, so that exactly one tells the client."""
    job = side.enqueue()
    side.raw.delete(job_key(job.id))
    claimed = await claim(side, side.one, job.id)
    assert claimed.state == "expired"
    assert claimed.enqueued_at == pytest.approx(job.enqueued_at)
    assert (await claim(side, side.two, job.id)).state == "taken"
    assert await side.one.acknowledge(job.id)
    assert not side.raw.exists("queue:open")


async def test_a_payload_of_another_type_is_handed_over_empty(side: Side) -> None:
    """A list under a job's key does not break the claim; as a job it is refused later."""
    job = side.enqueue()
    side.raw.delete(job_key(job.id))
    side.raw.rpush(job_key(job.id), "what?")
    claimed = await claim(side, side.one, job.id)
    assert (claimed.state, claimed.payload) == ("run", b"")
    assert await side.one.acknowledge(job.id)


async def test_renewing_extends_lease_and_payload(side: Side) -> None:
    """Both live on while the job runs; what is not ours is reported."""
    mine, other, gone = side.enqueue(), side.enqueue(), str(uuid4())
    await claim(side, side.one, mine.id)
    await claim(side, side.two, other.id)
    side.raw.expire(lease_key(mine.id), 2)
    side.raw.expire(job_key(mine.id), 2)
    assert await side.one.renew([mine.id, other.id, gone]) == Renewal(lost={other.id}, free={gone})
    assert side.raw.ttl(lease_key(mine.id)) > LEASE_SECONDS - 2
    assert side.raw.ttl(job_key(mine.id)) > JOB_TTL_SECONDS - 5


async def test_a_released_job_is_next_in_line(side: Side) -> None:
    """It goes to the head of the queue, without a lease, and only its holder can do that."""
    first, second = side.enqueue(), side.enqueue()
    await claim(side, side.one, side.pop())
    assert not await side.two.release(first.id)
    assert await side.one.release(first.id)
    assert side.ready() == [first.id.encode(), second.id.encode()]
    assert (await claim(side, side.two, side.pop())).attempt == 2


async def test_giving_back_undoes_a_take(side: Side) -> None:
    """The order stays, no lease is left, and no attempt has been counted; what is somebody else's stays."""
    jobs = [side.enqueue() for _ in range(4)]
    taken = [job_id for job_id, _ in (await side.one.take(2, wait=False)).claims]
    assert taken == [job.id for job in jobs[:2]]
    other = (await side.two.take(1, wait=False)).claims[0][0]
    await side.one.give_back([*taken, other])
    assert side.ready() == [job.id.encode() for job in (*jobs[:2], jobs[3])]
    assert not side.raw.exists(*(lease_key(job_id) for job_id in taken))
    assert side.raw.get(lease_key(other)) == b"two"
    assert (await side.two.take(1, wait=False)).claims[0][1].attempt == 1


async def test_sweep_finds_what_nobody_has(side: Side) -> None:
    """Popped and unclaimed comes back; waiting and leased stay as they are; a second sweep finds nothing."""
    side.raw.flushall()
    lost, leased, waiting = side.enqueue(), side.enqueue(), side.enqueue()
    assert [side.pop(), side.pop()] == [lost.id, leased.id]
    await claim(side, side.one, leased.id)
    assert await side.two.sweep() == 1
    assert side.ready() == [lost.id.encode(), waiting.id.encode()]
    assert await side.two.sweep() == 0


async def test_sweep_puts_the_oldest_first(side: Side) -> None:
    """Those that it puts back have waited longer than those that wait."""
    jobs = [side.enqueue() for _ in range(4)]
    for _ in jobs[:3]:
        side.pop()
    assert await side.two.sweep() == 3
    assert side.ready() == [job.id.encode() for job in jobs]


async def test_sweep_looks_at_the_head_of_a_long_queue(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lost job among those that are next is found at once, one further back before its turn."""
    monkeypatch.setattr(lua, "SWEEP_SLACK", 3)
    jobs = [side.enqueue() for _ in range(12)]
    taken = {side.pop(), side.pop()}
    near, far = jobs[3].id, jobs[10].id
    for job_id in (near, far):
        assert side.raw.lrem("queue:ready", 0, job_id) == 1

    assert await side.two.sweep() == 3
    assert {job_id.decode() for job_id in side.ready()[:3]} == taken | {near}
    assert far.encode() not in side.ready()

    order = []
    while side.ready():
        job_id = side.pop()
        order.append(job_id)
        await claim(side, side.one, job_id)
        await side.one.acknowledge(job_id)
        await side.two.sweep()
    assert len(order) == 12
    assert order.index(far) <= 10


async def test_sweep_forgets_attempts_of_what_is_not_open(side: Side) -> None:
    """They would stay for ever; those of an open job stay as long as it is."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    side.raw.hset("queue:attempts", str(uuid4()), "2")
    await side.two.sweep()
    assert side.raw.hgetall("queue:attempts") == {job.id.encode(): b"1"}


async def test_a_worker_that_begins_takes_back_what_an_earlier_life_left(side: Side) -> None:
    """At once instead of when the leases have run out; other workers' leases stay."""
    mine, other = side.enqueue(), side.enqueue()
    await claim(side, side.one, side.pop())
    await claim(side, side.two, side.pop())
    assert await side.one.sweep() == 0
    assert await side.one.sweep(first=True) == 1
    assert side.ready() == [mine.id.encode()]
    assert side.raw.get(lease_key(other.id)) == b"two"
    assert (await claim(side, side.one, mine.id)).attempt == 2


async def test_a_second_worker_of_the_same_name_takes_nothing_from_the_first(side: Side) -> None:
    """As long as the other one's heartbeat is there."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    await side.one.beat("{}", 10)
    assert await side.one.sweep(first=True) == 0
    assert side.raw.get(lease_key(job.id)) == b"one"


async def test_what_was_granted_without_an_answer_is_handed_over(side: Side) -> None:
    """It counts no second attempt; what the worker knows of, and somebody else's, stay as they are."""
    known, granted, foreign, waiting = (side.enqueue() for _ in range(4))
    for worker, job in ((side.one, known), (side.one, granted), (side.two, foreign)):
        await claim(side, worker, job.id)
    side.raw.expire(lease_key(granted.id), 2)
    taken = await side.one.take(8, wait=False, unknown_to=[known.id])
    assert [(job_id, each.state, each.attempt) for job_id, each in taken.claims] == [
        (granted.id, "run", 1),
        (waiting.id, "run", 1),
    ]
    assert side.raw.ttl(lease_key(granted.id)) > LEASE_SECONDS - 2
    everything = [known.id, granted.id, waiting.id]
    assert (await side.one.take(8, wait=False, unknown_to=everything)).claims == []


async def test_what_is_handed_over_is_so_once(side: Side) -> None:
    """Also when the id that was popped meanwhile has to be asked for by itself, as others wait behind it."""
    granted, popped, behind = (side.enqueue() for _ in range(3))
    await claim(side, side.one, granted.id)
    taken = await side.one.take(8, unknown_to=[])
    assert [(job_id, each.attempt) for job_id, each in taken.claims] == [
        (granted.id, 1),
        (popped.id, 1),
        (behind.id, 1),
    ]


async def test_one_that_was_granted_and_popped_is_handed_over_once(side: Side) -> None:
    """Redis leased it before the connection broke; its second entry in the ready list starts nothing."""
    job = side.enqueue()
    await side.one.take(1)
    side.raw.lpush("queue:ready", job.id)
    taken = await side.one.take(8, unknown_to=[])
    assert [(job_id, each.state) for job_id, each in taken.claims] == [(job.id, "run")]
    assert side.raw.hget("queue:attempts", job.id) == b"1"


async def test_one_job_is_popped_and_claimed_in_one_go(side: Side) -> None:
    """A worker that waits has its lease, its payload and its attempt as soon as it is queued."""
    taken: list[Claimed] = []
    await side.one.take(8, wait=False)  # Redis knows the script

    async def wait() -> None:
        taken.append(await side.one.take(8))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        await anyio.sleep(0.1)
        before = time.monotonic()
        job = side.enqueue()
    ((job_id, claimed),) = taken[0].claims
    assert claimed.asked_at <= before, "a lease must not be believed to last longer than it does"
    assert (job_id, claimed.state, claimed.attempt, taken[0].waiting) == (job.id, "run", 1, 0)
    assert side.raw.get(lease_key(job.id)) == b"one"


async def test_what_was_popped_is_claimed_though_another_one_is_younger(side: Side) -> None:
    """As when routers' clocks differ, or when others wait behind it."""
    stranger = side.enqueue()
    side.raw.delete("queue:ready")
    side.raw.zadd("queue:open", {stranger.id: time.time() + 0.5})
    popped = side.enqueue()
    states = {job_id: each.state for job_id, each in (await side.one.take(8)).claims}
    assert states[popped.id] == "run"
    assert side.raw.llen("queue:ready") == 0


async def test_no_more_are_taken_than_there_is_room_for(side: Side) -> None:
    """A younger one that another worker is about to claim takes the place of what was popped, which waits again."""
    await side.one.take(1, wait=False)  # Redis knows the script
    older, younger = side.enqueue(), side.enqueue()
    side.raw.lrem("queue:ready", 0, younger.id)
    assert [job_id for job_id, _ in (await side.one.take(1)).claims] == [younger.id]
    assert side.ready() == [older.id.encode()]


async def test_nothing_old_is_taken_for_what_was_popped(side: Side) -> None:
    """After an outage its worker gets time to take its lease back: only a sweep, which knows, may requeue it."""
    job = side.enqueue()
    side.pop()
    side.raw.zadd("queue:open", {job.id: time.time() - 10})
    assert (await side.one.take(8)).claims == []
    assert not side.raw.exists(lease_key(job.id))


async def test_half_of_what_waits_is_left_to_others(side: Side) -> None:
    """Rounded down, and never more than there is room for."""
    jobs = [side.enqueue() for _ in range(7)]
    first = await side.one.take(16)
    assert [job_id for job_id, _ in first.claims] == [job.id for job in jobs[:4]]
    assert first.waiting == 3
    second = await side.one.take(1, wait=False)
    assert ([job_id for job_id, _ in second.claims], second.waiting) == ([jobs[4].id], 2)
    third = await side.one.take(16, wait=False)
    assert ([job_id for job_id, _ in third.claims], third.waiting) == ([jobs[5].id], 1)


async def test_nothing_is_taken_behind_a_last_try(side: Side) -> None:
    """If it kills its worker, no other job has lost a try with it."""
    jobs = [side.enqueue() for _ in range(6)]
    side.raw.hset("queue:attempts", jobs[1].id, MAX_ATTEMPTS - 1)
    taken = await side.one.take(16, wait=False)
    assert [job_id for job_id, _ in taken.claims] == [jobs[0].id, jobs[1].id]
    assert side.raw.hkeys("queue:attempts") == [jobs[1].id.encode(), jobs[0].id.encode()]


async def test_a_redis_that_forgot_the_script_is_told_it_again(side: Side) -> None:
    """After a restart; the id that was popped meanwhile is claimed."""
    first, second = side.enqueue(), side.enqueue()
    for job, wait in ((first, True), (second, False)):
        side.raw.script_flush()
        ((job_id, claimed),) = (await side.one.take(1, wait=wait)).claims
        assert (job_id, claimed.state) == (job.id, "run")


async def test_ends_are_told_together(side: Side) -> None:
    """Each of them hears of its own job; one whose lease is somebody else's is refused alone."""
    jobs = [side.enqueue() for _ in range(5)]
    foreign = jobs[2]
    for job in jobs:
        await claim(side, side.two if job is foreign else side.one, job.id)
    heard: dict[str, bool] = {}

    async def acknowledge(job_id: str) -> None:
        heard[job_id] = await side.one.acknowledge(job_id)

    async with anyio.create_task_group() as tasks:
        for job in jobs:
            tasks.start_soon(acknowledge, job.id)
    assert heard == {job.id: job is not foreign for job in jobs}
    assert side.raw.zrange("queue:open", 0, -1) == [foreign.id.encode()]


async def test_an_end_is_told_though_the_one_that_tells_it_is_interrupted(side: Side) -> None:
    """The others tell it themselves."""
    jobs = [side.enqueue() for _ in range(3)]
    for job in jobs:
        await claim(side, side.one, job.id)
    heard: list[bool] = []

    async def acknowledge(job_id: str) -> None:
        heard.append(await side.one.acknowledge(job_id))

    async with anyio.create_task_group() as tasks:
        first = anyio.CancelScope()

        async def interrupted() -> None:
            with first:
                await acknowledge(jobs[0].id)

        tasks.start_soon(interrupted)
        for job in jobs[1:]:
            tasks.start_soon(acknowledge, job.id)
        await anyio.lowlevel.checkpoint()
        first.cancel()
    assert heard == [True, True]
    assert side.raw.zrange("queue:open", 0, -1) == [jobs[0].id.encode()]


async def test_a_job_that_its_owner_cancelled_is_not_run(side: Side) -> None:
    """The claim says so, and holds the lease, so that exactly one worker tells the client; expired or not."""
    job = side.enqueue()
    assert side.router.cancel(job.id, job.sub)
    claimed = await claim(side, side.one, side.pop())
    assert (claimed.state, Job.from_json(claimed.payload)) == ("cancelled", job)
    assert (await claim(side, side.two, job.id)).state == "taken"
    side.raw.delete(job_key(job.id), lease_key(job.id))
    assert (await claim(side, side.two, job.id)).state == "cancelled"
    assert await side.two.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_a_mark_of_its_owner_lives_as_long_as_the_payload(side: Side) -> None:
    """Else a job whose worker dies with the cancel in its hands would run after all."""
    job = side.enqueue()
    assert side.router.cancel(job.id, job.sub)
    side.raw.expire(cancel_key(job.id), 5)
    await claim(side, side.one, job.id)
    assert side.raw.ttl(cancel_key(job.id)) >= side.raw.ttl(job_key(job.id)) > JOB_TTL_SECONDS - 5


async def test_cancelled_ones_are_told_among_many(side: Side) -> None:
    """By their marks."""
    jobs = [side.enqueue() for _ in range(3)]
    assert side.router.cancel(jobs[1].id, jobs[1].sub)
    assert await side.one.cancelled([job.id for job in jobs]) == {jobs[1].id}


async def test_a_lease_that_ran_out_is_free_until_somebody_takes_it(side: Side) -> None:
    """Renewing says so and does not touch it; taking it back works for one of two."""
    job = side.enqueue()
    claimed = await claim(side, side.one, side.pop())
    side.raw.delete(lease_key(job.id))
    assert await side.one.renew([job.id]) == Renewal(set(), {job.id})
    assert not side.raw.exists(lease_key(job.id))
    assert await side.one.retake(job.id, claimed)
    assert await side.one.retake(job.id, claimed)
    assert not await side.two.retake(job.id, claimed)
    assert side.raw.get(lease_key(job.id)) == b"one"
    assert LEASE_SECONDS - 1 <= side.raw.ttl(lease_key(job.id)) <= LEASE_SECONDS
    assert side.ready() == []


async def test_a_redis_that_lost_everything_is_told_of_a_running_job(side: Side) -> None:
    """Should its worker die now, the job is found as if nothing had happened, its attempts included."""
    job = side.enqueue()
    side.raw.hset("queue:attempts", job.id, "1")
    claimed = await claim(side, side.one, side.pop())
    side.raw.flushall()
    assert await side.one.renew([job.id]) == Renewal(set(), {job.id})
    assert await side.one.retake(job.id, claimed)
    assert (await claim(side, side.two, side.pop())).state == "taken"
    side.raw.delete(lease_key(job.id))
    assert await side.two.sweep() == 1
    found = await claim(side, side.two, side.pop())
    assert (found.state, found.attempt, found.payload) == ("run", 3, claimed.payload)
    assert found.enqueued_at == pytest.approx(job.enqueued_at)
    assert side.raw.ttl(job_key(job.id)) > JOB_TTL_SECONDS - 5


async def test_a_finished_job_is_acknowledged_though_its_lease_ran_out(side: Side) -> None:
    """Its final reply is written, whoever holds the lease; but one who holds it does this himself."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    side.raw.delete(lease_key(job.id))
    assert await side.one.acknowledge(job.id)
    assert side.raw.keys() == []


async def test_two_workers_share_a_queue_fairly(side: Side) -> None:
    """Of eighty jobs that wait each gets at least a quarter."""
    for _ in range(80):
        side.enqueue()
    taken = {"one": 0, "two": 0}

    async def work(name: str, queue: JobQueue) -> None:
        while claims := (await queue.take(4)).claims:
            for job_id, each in claims:
                assert each.state == "run"
                taken[name] += 1
                assert await queue.acknowledge(job_id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work, "one", side.one)
        tasks.start_soon(work, "two", side.two)
    assert sum(taken.values()) == 80
    assert min(taken.values()) >= 20
    assert side.raw.keys() == []


async def test_sweep_finds_a_dead_worker_s_job(side: Side) -> None:
    """Once its lease has run out, another worker gets it as the second attempt."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    side.raw.delete(lease_key(job.id))
    assert await side.two.sweep() == 1
    assert (await claim(side, side.two, side.pop())).attempt == 2


@pytest.mark.parametrize("junk", [b"\xffgarbage", b"x", b"5F0C0000-0000-4000-8000-000000000000"])
async def test_an_id_that_names_no_job_is_dropped(side: Side, junk: bytes) -> None:
    """It leaves the open set, so that no sweep brings it back."""
    side.raw.zadd("queue:open", {junk: 1})
    side.raw.rpush("queue:ready", junk)
    ((_, claimed),) = (await side.one.take(8)).claims
    assert claimed.state == "bad"
    assert await side.one.sweep() == 0
    assert side.raw.keys() == []


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
        queue.take(1),
        queue.take(1, wait=False),
        queue.give_back([str(uuid4())]),
        queue.acknowledge(str(uuid4())),
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
