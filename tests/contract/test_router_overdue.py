"""How the waker takes jobs that no worker will run: the same over fakeredis and over a real server."""

from __future__ import annotations

import pytest
import redis

from router_lambda.job import GPU_REFUSED, QUEUE_ATTEMPTS, QUEUE_OPEN, QUEUE_READY, job_key, lease_key
from router_lambda.queue import ANSWER_SECONDS, WAKER, Moot, Queue
from tests.router_samples import JOB, JOB_ID, numbered_job
from tests.worker_scripts import claim


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    """Return what is tested, with one job in it."""
    made = Queue(client)
    made.enqueue(JOB)
    return made


def expire(client: redis.Redis, *job_ids: str) -> None:
    """Let payloads run out, as they do after five minutes."""
    client.delete(*map(job_key, job_ids))


EXPIRED = Moot(JOB_ID, JOB.enqueued_at, "expired")
CANCELLED = Moot(JOB_ID, JOB.enqueued_at, "cancelled")

# Taking


def test_an_empty_queue_has_no_work(client: redis.Redis) -> None:
    """Nothing to be run, nothing to be answered, no reason for either."""
    work = Queue(client).take_overdue()
    assert (work.live, work.moot, work.refusal) == (0, [], None)


def test_what_waits_and_what_runs_is_counted(client: redis.Redis, queue: Queue) -> None:
    """They are left alone: no lease, no change."""
    queue.enqueue(numbered_job(1))
    claim(client, JOB_ID)
    before = client.keys()

    work = queue.take_overdue()

    assert (work.live, work.moot) == (2, [])
    assert sorted(client.keys()) == sorted(before)
    assert client.get(lease_key(JOB_ID)) == b"w1"


def test_one_whose_time_ran_out_is_taken(client: redis.Redis, queue: Queue) -> None:
    """By a lease of its own, for as long as an answer takes; when it was queued is known to the last digit."""
    expire(client, JOB_ID)

    work = queue.take_overdue()

    assert (work.live, work.moot) == (0, [EXPIRED])
    assert client.get(lease_key(JOB_ID)) == WAKER.encode()
    assert ANSWER_SECONDS - 5 <= client.ttl(lease_key(JOB_ID)) <= ANSWER_SECONDS


def test_they_come_oldest_first(client: redis.Redis, queue: Queue) -> None:
    """And those between them that can still be run are counted."""
    for number in (3, 1, 2):
        queue.enqueue(numbered_job(number))
    expire(client, *(numbered_job(number).id for number in (1, 3)))

    work = queue.take_overdue()

    assert work.live == 2
    assert [each.id for each in work.moot] == [numbered_job(number).id for number in (1, 3)]


def test_one_that_is_taken_is_not_taken_again(client: redis.Redis, queue: Queue) -> None:
    """Two wakers at the same time answer it once; when the first has failed, the next one takes it."""
    expire(client, JOB_ID)
    assert queue.take_overdue().moot == [EXPIRED]

    assert queue.take_overdue().moot == []

    client.delete(lease_key(JOB_ID))
    assert queue.take_overdue().moot == [EXPIRED]


def test_one_that_a_worker_has_is_left(client: redis.Redis, queue: Queue) -> None:
    """Redis lost its payload while it ran, or it is just being answered as expired there."""
    claim(client, JOB_ID)
    expire(client, JOB_ID)

    work = queue.take_overdue()

    assert (work.live, work.moot) == (0, [])
    assert client.get(lease_key(JOB_ID)) == b"w1"


def test_a_worker_leaves_what_the_waker_has(client: redis.Redis, queue: Queue) -> None:
    """It pops the id, finds the lease taken and goes on; no attempt is counted."""
    expire(client, JOB_ID)
    queue.take_overdue()

    assert claim(client, JOB_ID) == [b"taken"]
    assert client.exists(QUEUE_ATTEMPTS) == 0


def test_a_cancelled_one_takes_no_worker(client: redis.Redis, queue: Queue) -> None:
    """Nobody has to pay for a boot that ends in "cancelled"; time may have run out as well."""
    queue.cancel(JOB_ID, JOB.sub)
    assert queue.take_overdue().moot == [CANCELLED]
    assert queue.take_overdue().live == 0

    client.delete(lease_key(JOB_ID))
    expire(client, JOB_ID)
    assert queue.take_overdue().moot == [CANCELLED]


def test_a_cancelled_one_that_runs_is_its_workers(client: redis.Redis, queue: Queue) -> None:
    """It stops by itself and keeps its text."""
    claim(client, JOB_ID)
    queue.cancel(JOB_ID, JOB.sub)

    assert queue.take_overdue().moot == []
    assert client.get(lease_key(JOB_ID)) == b"w1"


@pytest.mark.parametrize(("held", "said"), [(b"AWS has no GPU", "AWS has no GPU"), (b"\xff", "\ufffd")])
def test_the_reason_comes_along(client: redis.Redis, queue: Queue, held: bytes, said: str) -> None:
    """Why EC2 refused, whatever the bytes."""
    client.set(GPU_REFUSED, held)
    assert queue.take_overdue().refusal == said


def test_an_id_of_no_job_stops_nobody(client: redis.Redis, queue: Queue) -> None:
    """It cannot have come by the script; the others are found all the same."""
    client.zadd(QUEUE_OPEN, {b"\xff": 1.0})
    work = queue.take_overdue()
    assert (work.live, [each.id for each in work.moot]) == (1, ["\ufffd"])


# Forgetting


@pytest.mark.parametrize("attempts", [0, 2])
def test_one_that_is_answered_is_forgotten_whole(client: redis.Redis, queue: Queue, attempts: int) -> None:
    """No key is left, wherever the id was."""
    if attempts:
        client.hset(QUEUE_ATTEMPTS, JOB_ID, attempts)
    queue.cancel(JOB_ID, JOB.sub)
    queue.take_overdue()
    client.rpush(QUEUE_READY, JOB_ID)

    queue.forget(JOB_ID)

    assert client.keys() == []


def test_the_others_are_remembered(client: redis.Redis, queue: Queue) -> None:
    """Also what is known of their attempts."""
    queue.enqueue(numbered_job(1))
    client.hset(QUEUE_ATTEMPTS, numbered_job(1).id, 1)
    expire(client, JOB_ID)
    queue.take_overdue()

    queue.forget(JOB_ID)

    other = numbered_job(1).id.encode()
    assert client.zrange(QUEUE_OPEN, 0, -1) == client.lrange(QUEUE_READY, 0, -1) == [other]
    assert client.hgetall(QUEUE_ATTEMPTS) == {other: b"1"}
    assert client.exists(job_key(numbered_job(1).id)) == 1


@pytest.mark.parametrize("holder", ["w1", None])
def test_one_that_somebody_else_has_is_not_forgotten(client: redis.Redis, queue: Queue, holder: str | None) -> None:
    """The lease ran out while it was answered, and a worker may be at it."""
    expire(client, JOB_ID)
    queue.take_overdue()
    client.delete(lease_key(JOB_ID))
    if holder is not None:
        claim(client, JOB_ID, holder)
    before = sorted(client.keys())

    queue.forget(JOB_ID)

    assert sorted(client.keys()) == before
    assert client.zscore(QUEUE_OPEN, JOB_ID) == JOB.enqueued_at
