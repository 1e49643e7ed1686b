"""What a worker does with the jobs that it has, and how lost ones are found, on a fake and a real Redis alike."""

from __future__ import annotations

from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest

from router_lambda.job import JOB_TTL_SECONDS, cancel_key, job_key, lease_key
from tests.worker_side import Side, claim
from worker import lua
from worker.errors import QueueUnavailable
from worker.lua import LEASE_SECONDS
from worker.queue import JobQueue, Renewal


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


async def test_sweep_finds_a_dead_worker_s_job(side: Side) -> None:
    """Once its lease has run out, another worker gets it as the second attempt."""
    job = side.enqueue()
    await claim(side, side.one, side.pop())
    side.raw.delete(lease_key(job.id))
    assert await side.two.sweep() == 1
    assert (await claim(side, side.two, side.pop())).attempt == 2


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
