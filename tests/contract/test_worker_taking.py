"""How a worker takes jobs: what it pops, leases and is told, on a fake and a real Redis alike."""

from __future__ import annotations

import time

import anyio
import anyio.lowlevel
import pytest

from router_lambda.job import JOB_TTL_SECONDS, Job, cancel_key, job_key, lease_key
from tests.worker_side import Side, claim
from worker.lua import LEASE_SECONDS
from worker.queue import MAX_ATTEMPTS, Claimed, JobQueue


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


@pytest.mark.parametrize("junk", [b"\xffgarbage", b"x", b"5F0C0000-0000-4000-8000-000000000000"])
async def test_an_id_that_names_no_job_is_dropped(side: Side, junk: bytes) -> None:
    """It leaves the open set, so that no sweep brings it back."""
    side.raw.zadd("queue:open", {junk: 1})
    side.raw.rpush("queue:ready", junk)
    ((_, claimed),) = (await side.one.take(8)).claims
    assert claimed.state == "bad"
    assert await side.one.sweep() == 0
    assert side.raw.keys() == []


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


async def test_nothing_is_taken_behind_a_last_try(side: Side) -> None:
    """If it kills its worker, no other job has lost a try with it."""
    jobs = [side.enqueue() for _ in range(6)]
    side.raw.hset("queue:attempts", jobs[1].id, MAX_ATTEMPTS - 1)
    taken = await side.one.take(16, wait=False)
    assert [job_id for job_id, _ in taken.claims] == [jobs[0].id, jobs[1].id]
    assert side.raw.hkeys("queue:attempts") == [jobs[1].id.encode(), jobs[0].id.encode()]


async def test_what_was_granted_without_an_answer_is_handed_over(side: Side) -> None:
    """It counts no second attempt; what the worker knows of, and somebody else's, stay as they are."""
    known, granted, foreign, waiting = (side.enqueue() for _ in range(4))
    for worker, job in ((side.one, known), (side.one, granted), (side.two, foreign)):
        await claim(side, worker, job.id)
    side.raw.expire(lease_key(granted.id), 2)
    taken = await side.one.take(8, wait=False, known=[known.id])
    assert [(job_id, each.state, each.attempt) for job_id, each in taken.claims] == [
        (granted.id, "run", 1),
        (waiting.id, "run", 1),
    ]
    assert side.raw.ttl(lease_key(granted.id)) > LEASE_SECONDS - 2
    everything = [known.id, granted.id, waiting.id]
    assert (await side.one.take(8, wait=False, known=everything)).claims == []


async def test_what_is_handed_over_is_so_once(side: Side) -> None:
    """Also when the id that was popped meanwhile has to be asked for by itself, as others wait behind it."""
    granted, popped, behind = (side.enqueue() for _ in range(3))
    await claim(side, side.one, granted.id)
    taken = await side.one.take(8, known=[])
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
    taken = await side.one.take(8, known=[])
    assert [(job_id, each.state) for job_id, each in taken.claims] == [(job.id, "run")]
    assert side.raw.hget("queue:attempts", job.id) == b"1"


async def test_a_redis_that_forgot_the_script_is_told_it_again(side: Side) -> None:
    """After a restart; the id that was popped meanwhile is claimed."""
    first, second = side.enqueue(), side.enqueue()
    for job, wait in ((first, True), (second, False)):
        side.raw.script_flush()
        ((job_id, claimed),) = (await side.one.take(1, wait=wait)).claims
        assert (job_id, claimed.state) == (job.id, "run")


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
