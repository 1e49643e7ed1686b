"""What the router reads and takes back beside queueing: the same over fakeredis and over a real server."""

from __future__ import annotations

from dataclasses import replace

import pytest
import redis

from router_lambda.backlog import DEFAULT_JOB_SECONDS, DEFAULT_SLOTS
from router_lambda.job import (
    CLOSING_SECONDS,
    GPU_CLOSING,
    GPU_STOP,
    JOB_TTL_SECONDS,
    QUEUE_ATTEMPTS,
    QUEUE_OPEN,
    QUEUE_READY,
    cancel_key,
    idempotency_key,
    job_key,
    worker_key,
)
from router_lambda.queue import STOP_SECONDS, Queue, QueueFull
from tests.router_samples import JOB, JOB_ID, numbered_job
from tests.router_world import NOW, beat

KEY = idempotency_key("user-1", "k")


@pytest.fixture
def queue(client: redis.Redis) -> Queue:
    """Return a queue whose clock stands still."""
    return Queue(client, clock=lambda: NOW)


# Idempotency-Key


def test_a_key_stands_for_its_first_job(client: redis.Redis, queue: Queue) -> None:
    """The second request is told the first one's id, and nothing more waits."""
    first, second = queue.enqueue(JOB, KEY), queue.enqueue(numbered_job(1), KEY)

    assert (first.id, first.is_new, first.is_open) == (JOB_ID, True, True)
    assert (second.id, second.is_new, second.is_open) == (JOB_ID, False, True)
    assert client.lrange(QUEUE_READY, 0, -1) == [JOB_ID.encode()]
    assert client.exists(job_key(numbered_job(1).id)) == 0
    assert 295 <= client.ttl(KEY) <= 305


def test_a_key_of_a_finished_job_says_so(client: redis.Redis, queue: Queue) -> None:
    """Nobody has to be woken for a reply that is there already."""
    queue.enqueue(JOB, KEY)
    client.delete(QUEUE_READY, QUEUE_OPEN, job_key(JOB_ID))

    again = queue.enqueue(numbered_job(1), KEY)

    assert (again.id, again.is_new, again.is_open) == (JOB_ID, False, False)
    assert client.exists(QUEUE_READY, QUEUE_OPEN) == 0


def test_a_job_that_was_sent_twice_is_still_new(client: redis.Redis, queue: Queue) -> None:
    """redis-py sends it again when the first answer was lost; the key stands for this very job then."""
    queue.enqueue(JOB, KEY)

    again = queue.enqueue(JOB, KEY)

    assert (again.id, again.is_new) == (JOB_ID, True)
    assert client.lrange(QUEUE_READY, 0, -1) == [JOB_ID.encode()]


def test_keys_of_two_users_never_meet() -> None:
    """Not even when one user's name looks like the beginning of another's key."""
    pairs = [("a", "b:c"), ("a:b", "c"), ("a", "b%3Ac"), ("a%3Ab", "c"), ("a:", "b:c"), ("é", "c"), ("\ud800", "c")]

    assert len({idempotency_key(*pair) for pair in pairs}) == len(pairs)
    assert idempotency_key("user-1", "k") == "idem:user-1:k"


# How many may wait


def test_a_full_queue_takes_nothing(client: redis.Redis, queue: Queue) -> None:
    """One more than can be run in time is refused whole, and what it would have written is not there."""
    beat(client, slots=2, job_seconds=100)
    queue.enqueue(numbered_job(0))  # sees the heartbeat
    for number in range(1, 6):  # 2 at once, 300 s, 100 s each: six may wait
        queue.enqueue(numbered_job(number))

    with pytest.raises(QueueFull) as full:
        queue.enqueue(JOB, KEY)

    assert full.value.retry_after == 50
    assert client.llen(QUEUE_READY) == client.zcard(QUEUE_OPEN) == 6
    assert client.exists(job_key(JOB_ID), KEY) == 0


def test_a_full_queue_still_knows_its_keys(client: redis.Redis, queue: Queue) -> None:
    """A request that is repeated because its answer was lost is not refused."""
    beat(client, slots=1, job_seconds=300)
    queue.enqueue(JOB, KEY)

    assert queue.enqueue(numbered_job(1), KEY).id == JOB_ID


def test_without_a_worker_a_usual_one_is_assumed(client: redis.Redis, queue: Queue) -> None:
    """As many wait as a worker with the default settings runs in what is left after a boot."""
    most = int((JOB_TTL_SECONDS - 90) * DEFAULT_SLOTS / DEFAULT_JOB_SECONDS)
    client.rpush(QUEUE_READY, *(str(number) for number in range(most - 1)))

    queue.enqueue(JOB)

    with pytest.raises(QueueFull) as full:
        queue.enqueue(numbered_job(1))
    assert 90 < full.value.retry_after < 100


def test_a_quick_worker_is_believed_at_once(client: redis.Redis, queue: Queue) -> None:
    """A Lambda that has just started does not refuse by its defaults what the worker can well run in time."""
    beat(client, slots=64, job_seconds=0.5)
    client.rpush(QUEUE_READY, *map(str, range(10_000)))

    assert queue.enqueue(JOB).has_worker

    beat(client, slots=64, job_seconds=5)
    queue.enqueue(numbered_job(1))  # sees that it has become slow
    with pytest.raises(QueueFull):
        queue.enqueue(numbered_job(2))


# Whether a worker is there


def test_a_heartbeat_is_a_worker(client: redis.Redis, queue: Queue) -> None:
    """Wherever among the keys it is, and also after the worker was replaced by another."""
    assert not queue.enqueue(JOB).has_worker
    client.mset({f"rate:{number}": "1" for number in range(3_000)})
    beat(client, "w1")
    assert queue.enqueue(numbered_job(1)).has_worker
    client.delete(worker_key("w1"))
    assert not queue.enqueue(numbered_job(2)).has_worker
    beat(client, "w2")
    assert queue.enqueue(numbered_job(3)).has_worker


def test_a_known_worker_is_not_searched_for(client: redis.Redis, queue: Queue, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan takes longer the more keys there are; a warm request must not."""
    beat(client)
    queue.enqueue(JOB)
    monkeypatch.setattr(client, "scan_iter", None)

    assert queue.enqueue(numbered_job(1)).has_worker


@pytest.mark.parametrize("said", [b"", b"no json", b"[]", b'{"slots": "x", "job_seconds": -1}'])
def test_a_heartbeat_of_nonsense_is_a_heartbeat(client: redis.Redis, queue: Queue, said: bytes) -> None:
    """A worker of another version is alive all the same."""
    client.set(worker_key("w1"), said, ex=10)

    assert queue.enqueue(JOB).has_worker
    assert queue.enqueue(numbered_job(1)).has_worker


def test_a_draining_worker_is_none(client: redis.Redis, queue: Queue) -> None:
    """It takes no more jobs; another one beside it does, also when the draining one was the known one."""
    beat(client, "w1")
    assert queue.enqueue(JOB).has_worker
    beat(client, "w1", state="draining")
    assert not queue.enqueue(numbered_job(1)).has_worker
    beat(client, "w2")
    assert queue.enqueue(numbered_job(2)).has_worker


def test_a_closing_gpu_is_no_worker(client: redis.Redis, queue: Queue) -> None:
    """Its heartbeat may outlive its decision to stop; since when that stands is told as well."""
    beat(client)
    client.set(GPU_CLOSING, "w1", ex=CLOSING_SECONDS - 30)

    placed = queue.enqueue(JOB)

    assert not placed.has_worker
    assert placed.closing_at == pytest.approx(NOW - 30, abs=1)


# Taking back


def test_a_waiting_job_is_taken_back_whole(client: redis.Redis, queue: Queue) -> None:
    """As if it had never been there, its key included."""
    queue.enqueue(JOB, KEY)

    assert queue.withdraw(JOB_ID, KEY)

    assert client.keys() == []


def test_others_stay(client: redis.Redis, queue: Queue) -> None:
    """Taking one back touches no other job, nor a key that has come to stand for another."""
    queue.enqueue(numbered_job(1))
    queue.enqueue(JOB)
    client.hset(QUEUE_ATTEMPTS, numbered_job(1).id, 1)
    client.set(KEY, numbered_job(1).id)

    assert queue.withdraw(JOB_ID, KEY)

    assert client.lrange(QUEUE_READY, 0, -1) == client.zrange(QUEUE_OPEN, 0, -1) == [numbered_job(1).id.encode()]
    assert client.get(KEY) == numbered_job(1).id.encode()
    assert client.exists(job_key(numbered_job(1).id)) == 1


def test_a_popped_job_is_the_workers(client: redis.Redis, queue: Queue) -> None:
    """Once a worker has it, it is run; nothing of it is taken away."""
    queue.enqueue(JOB, KEY)
    client.lpop(QUEUE_READY)

    assert not queue.withdraw(JOB_ID, KEY)

    assert client.exists(job_key(JOB_ID), KEY, QUEUE_OPEN) == 3


# Cancelling and closing


def test_the_owner_cancels(client: redis.Redis, queue: Queue) -> None:
    """The mark lives as long as a job may wait."""
    queue.enqueue(JOB)

    assert queue.cancel(JOB_ID, JOB.sub)

    assert 295 <= client.ttl(cancel_key(JOB_ID)) <= 305


@pytest.mark.parametrize("sub", ["user-2", "", "USER-1", "user-1 "])
def test_nobody_else_cancels(client: redis.Redis, queue: Queue, sub: str) -> None:
    """A stranger's word leaves no mark."""
    queue.enqueue(JOB)

    assert not queue.cancel(JOB_ID, sub)
    assert not queue.cancel(numbered_job(1).id, JOB.sub)

    assert client.keys("cancel:*") == []


def test_a_job_of_any_content_can_be_cancelled(client: redis.Redis, queue: Queue) -> None:
    """The script reads the payload itself, whatever is in it."""
    job = replace(JOB, sub='é"\\ud800', prompt="\u2028\x00😀" * 500, params={"temperature": 1e-300, "seed": 2**63 - 1})
    queue.enqueue(job)

    assert queue.cancel(JOB_ID, job.sub)


def test_an_idle_gpu_closes(client: redis.Redis, queue: Queue) -> None:
    """`gpu:closing` is set for as long as a stop may take."""
    assert queue.close()

    assert CLOSING_SECONDS - 5 <= client.ttl(GPU_CLOSING) <= CLOSING_SECONDS
    queue.reopen()
    assert client.keys() == []


@pytest.mark.parametrize("popped", [False, True], ids=["waiting", "running"])
def test_a_busy_gpu_is_told_to_stop_later(client: redis.Redis, queue: Queue, *, popped: bool) -> None:
    """Whether its job waits or runs: nothing closes, and word is left."""
    queue.enqueue(JOB)
    if popped:
        client.lpop(QUEUE_READY)

    assert not queue.close()

    assert client.exists(GPU_CLOSING) == 0
    assert STOP_SECONDS - 5 <= client.ttl(GPU_STOP) <= STOP_SECONDS
