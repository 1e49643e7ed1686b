"""What the waker answers itself: jobs that take no worker any more."""

from __future__ import annotations

import fakeredis
import pytest

from router_lambda.job import GPU_REFUSED, QUEUE_OPEN, QUEUE_READY, job_key, lease_key
from router_lambda.overdue import SLOWEST_SECONDS
from router_lambda.queue import Moot, Queue
from router_lambda.waker import Waker
from tests.router_samples import JOB, JOB_ID, numbered_job
from tests.router_world import NOW, Clock, FakeEc2
from tests.waker_world import INVOCATION_SECONDS, Replies, call, make_waker


@pytest.fixture
def replies(clock: Clock) -> Replies:
    """Return the bucket."""
    return Replies(clock)


@pytest.fixture
def waker(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, replies: Replies) -> Waker:
    """Return what is tested, with one job that waits."""
    Queue(client).enqueue(JOB)
    return make_waker(client, ec2, clock, replies)


def expire(client: fakeredis.FakeRedis, job_id: str = JOB_ID) -> None:
    """Let a payload run out."""
    client.delete(job_key(job_id))


def test_one_whose_time_ran_out_is_answered(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, replies: Replies
) -> None:
    """Without a GPU; nothing of it is left."""
    expire(client)
    assert call(waker, clock) == "nothing waits"
    assert replies.answered == [(Moot(JOB_ID, JOB.enqueued_at, "expired"), None)]
    assert ec2.calls == []
    assert client.keys() == []


def test_one_that_was_cancelled_is_answered(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, replies: Replies
) -> None:
    """Nobody boots a GPU to say that nothing is wanted of it."""
    Queue(client).cancel(JOB_ID, JOB.sub)
    assert call(waker, clock) == "nothing waits"
    assert [job.status for job, _ in replies.answered] == ["cancelled"]
    assert ec2.calls == []
    assert client.keys() == []


def test_the_reason_is_told(waker: Waker, client: fakeredis.FakeRedis, clock: Clock, replies: Replies) -> None:
    """Why EC2 refused while the job lived."""
    client.set(GPU_REFUSED, "AWS has no GPU")
    expire(client)
    call(waker, clock)
    assert [why for _, why in replies.answered] == ["AWS has no GPU"]


def test_the_newest_reason_is_told(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, replies: Replies
) -> None:
    """Others still live, and what EC2 says now counts more than what it said before."""
    client.set(GPU_REFUSED, "old")
    Queue(client).enqueue(numbered_job(1))
    expire(client)
    ec2.state = None
    call(waker, clock)
    ((_, why),) = replies.answered
    assert why is not None
    assert "env=tinyllama" in why


def test_what_cannot_be_answered_stays(
    waker: Waker, client: fakeredis.FakeRedis, clock: Clock, replies: Replies
) -> None:
    """Open and leased, and looked at again once the lease has run out."""
    replies.does_answer = False
    expire(client)
    assert call(waker, clock) == "nothing waits"
    assert client.zcard(QUEUE_OPEN) == client.llen(QUEUE_READY) == 1
    call(waker, clock)
    assert len(replies.answered) == 1

    client.delete(lease_key(JOB_ID))
    replies.does_answer = True
    call(waker, clock)
    assert client.keys() == []


def test_the_start_does_not_wait_for_the_answers(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, replies: Replies
) -> None:
    """S3 may be slow; the live ones must not pay for it with their time, nor the function with its end."""
    for number in range(1, 11):
        Queue(client).enqueue(numbered_job(number))
        expire(client, numbered_job(number).id)
    replies.seconds = 15.0

    assert call(waker, clock) == "started"

    assert ec2.launched_at == NOW
    assert clock.now <= NOW + INVOCATION_SECONDS
    assert len(replies.answered) == (INVOCATION_SECONDS - SLOWEST_SECONDS) // replies.seconds + 1
    assert client.zcard(QUEUE_OPEN) == 11 - len(replies.answered)


def test_a_long_queue_is_seen_to_its_end(
    waker: Waker, client: fakeredis.FakeRedis, clock: Clock, replies: Replies, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those at its head are overdue, one far behind them can be run, and the last is cancelled."""
    monkeypatch.setattr("router_lambda.queue.LOOK_IDS", 2)
    jobs = [JOB, *map(numbered_job, range(1, 8))]
    for job in jobs[1:]:
        Queue(client).enqueue(job)
    for job in jobs[:6]:
        expire(client, job.id)
    Queue(client).cancel(jobs[7].id, jobs[7].sub)

    assert call(waker, clock) == "started"

    assert [job.id for job, _ in replies.answered] == [job.id for job in (*jobs[:6], jobs[7])]
    assert client.zrange(QUEUE_OPEN, 0, -1) == [jobs[6].id.encode()]
