"""What the waker starts, what it leaves to others, and what it answers itself."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import fakeredis
import pytest
from botocore.exceptions import EndpointConnectionError

from router_lambda.ec2 import Ec2
from router_lambda.gpu import SETTLED_SECONDS, Gpu
from router_lambda.job import (
    GPU_CLOSING,
    GPU_REFUSED,
    GPU_STOP,
    GPU_WAKING,
    JOB_TTL_SECONDS,
    QUEUE_OPEN,
    cancel_key,
)
from router_lambda.queue import Queue, QueueUnavailable
from router_lambda.waker import LOOK_SECONDS, PAUSES, Stopped, Waker
from tests.router_samples import JOB, JOB_ID
from tests.router_world import GPU_TAG, NOW, Clock, FakeEc2, metrics, refusal
from tests.waker_world import INVOCATION_SECONDS, Replies, call, make_waker

CAPACITY = refusal("InsufficientInstanceCapacity")


@pytest.fixture
def waker(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> Waker:
    """Return what is tested, with one job that waits."""
    Queue(client).enqueue(JOB)
    return make_waker(client, ec2, clock, Replies(clock))


# Starting


def test_nothing_waits(waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """EC2 is not even asked: that is what nearly every one of the calls by the clock is."""
    client.flushall()
    assert call(waker, clock) == "nothing waits"
    assert ec2.calls == []


def test_work_that_was_left_behind(
    waker: Waker, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """The instance is stopped, so it is started: once, however often somebody looks."""
    assert call(waker, clock) == "started"
    assert (ec2.state, metrics(capsys.readouterr().out)) == ("pending", ["EC2Starts"])

    clock.sleep(60)
    assert call(waker, clock) == "an instance runs"
    assert ec2.calls.count("start_instances") == 1


@pytest.mark.parametrize(
    ("state", "outcome"),
    [("running", "an instance runs"), ("pending", "an instance runs"), ("stopping", "stopping")],
)
def test_what_is_left_to_others(waker: Waker, ec2: FakeEc2, clock: Clock, state: str, outcome: str) -> None:
    """To its worker, or to the event that says that it has stopped."""
    ec2.state = state
    assert call(waker, clock) == outcome
    assert ec2.calls == ["describe_instances"]


@pytest.mark.parametrize("state", ["running", "stopping", "stopped"])
def test_an_event_is_newer_than_the_list(waker: Waker, ec2: FakeEc2, clock: Clock, state: str) -> None:
    """EC2's list is eventually consistent; what it has just said is true."""
    ec2.state = state
    assert call(waker, clock, Stopped("i-1", NOW - 1)) == "started"
    assert ec2.state == "pending"


@pytest.mark.parametrize("state", ["running", "pending"])
@pytest.mark.parametrize("age", [0.0, 1.0, 3_600.0])
def test_an_old_event_is_no_news(waker: Waker, ec2: FakeEc2, clock: Clock, state: str, age: float) -> None:
    """It comes late or a second time, and somebody has started the instance since."""
    ec2.state, ec2.launched_at = state, NOW - 1
    assert call(waker, clock, Stopped("i-1", ec2.launched_at - age)) == "an instance runs"
    assert "start_instances" not in ec2.calls


def test_the_event_of_another_instance(waker: Waker, ec2: FakeEc2, clock: Clock) -> None:
    """Of one that has not our tag: this one runs."""
    ec2.state = "running"
    assert call(waker, clock, Stopped("i-9", NOW)) == "an instance runs"
    assert "start_instances" not in ec2.calls


def test_of_several_one_is_enough(waker: Waker, ec2: FakeEc2, clock: Clock) -> None:
    """Whether it runs or has to be started."""
    ec2.state, ec2.beside = "stopping", {"i-2": "stopped", "i-3": "stopped"}
    assert call(waker, clock) == "started"
    assert ec2.beside == {"i-2": "pending", "i-3": "stopped"}

    clock.sleep(60)
    assert call(waker, clock, Stopped("i-1", NOW + 30)) == "an instance runs"
    assert ec2.calls.count("start_instances") == 1


def test_a_start_ends_what_was_known_of_the_stop(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock
) -> None:
    """It has stopped, so it is not about to, nor wanted to; and what was refused before is granted."""
    client.mset({GPU_CLOSING: "w1", GPU_STOP: "1", GPU_REFUSED: "x"})
    assert call(waker, clock) == "started"
    assert client.exists(GPU_CLOSING, GPU_STOP, GPU_REFUSED) == 0
    assert client.get(GPU_WAKING) == f"started:{NOW}".encode()


def test_a_boot_that_failed_at_once_is_tried_again(waker: Waker, ec2: FakeEc2, clock: Clock) -> None:
    """EC2 may not show a start for some seconds; after them, whoever looks next starts it anew."""
    call(waker, clock)
    ec2.state = "stopped"
    assert call(waker, clock, Stopped("i-1", NOW + 1)) == "started"
    assert ec2.calls.count("start_instances") == 1

    clock.sleep(SETTLED_SECONDS)
    assert call(waker, clock) == "started"
    assert ec2.calls.count("start_instances") == 2


def test_wakers_and_routers_at_the_same_time_start_it_once(
    client: fakeredis.FakeRedis, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """All have seen it stopped before any of them calls."""
    Queue(client).enqueue(JOB)
    gate = threading.Barrier(4)
    describe = ec2.describe_instances

    def describe_together(Filters: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        found = describe(Filters)
        gate.wait()
        return found

    ec2.describe_instances = describe_together  # type: ignore[method-assign]

    def start(number: int) -> str:
        reached = Ec2(GPU_TAG, lambda: ec2)
        gpu = Gpu(reached, client, clock, lambda _: None)
        if number < 2:
            return f"eta {gpu.wake(None)}"
        stopped = Stopped("i-1", NOW) if number == 2 else None
        return Waker(reached, gpu, Queue(client), Replies(clock), lambda _: None)(stopped, lambda: 60.0)

    with ThreadPoolExecutor(4) as lambdas:
        said = list(lambdas.map(start, range(4)))

    assert said == ["eta 90", "eta 90", "started", "started"]
    assert ec2.calls.count("start_instances") == 1
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


# Refusals


def test_a_refusal_is_tried_again(
    waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """With pauses that grow, until the time is up; why is kept for people, for as long as a job lives."""
    ec2.failures["start_instances"] = CAPACITY
    assert call(waker, clock) == "refused: InsufficientInstanceCapacity"

    tries = len(PAUSES) + 1
    assert ec2.calls.count("start_instances") == tries
    assert clock.now - NOW == sum(PAUSES) < INVOCATION_SECONDS - LOOK_SECONDS
    assert metrics(capsys.readouterr().out) == [*["EC2StartFailures"] * tries, "WakerFailures"]
    assert b"no GPU of this type left" in (client.get(GPU_REFUSED) or b"")
    assert JOB_TTL_SECONDS - 5 <= client.ttl(GPU_REFUSED) <= JOB_TTL_SECONDS
    assert client.zrange(QUEUE_OPEN, 0, -1) == [JOB_ID.encode()]


@pytest.mark.parametrize("tries", range(1, len(PAUSES) + 1))
def test_no_look_begins_that_cannot_end(waker: Waker, ec2: FakeEc2, clock: Clock, tries: int) -> None:
    """Lambda would cut it off in the middle."""
    ec2.failures["start_instances"] = CAPACITY
    end = NOW + sum(PAUSES[:tries]) + LOOK_SECONDS - 1
    assert waker(None, lambda: end - clock.now) == "refused: InsufficientInstanceCapacity"
    assert ec2.calls.count("start_instances") == tries
    assert clock.now + LOOK_SECONDS <= end or tries == 1


def test_a_refusal_may_end(waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """A GPU has become free: nothing is refused any more, and nobody is told so."""
    ec2.failures["start_instances"] = CAPACITY
    sleep = waker._sleep

    def relent(seconds: float) -> None:
        sleep(seconds)
        ec2.failures.clear()

    waker._sleep = relent
    assert call(waker, clock) == "started"
    assert client.exists(GPU_REFUSED) == 0


def test_work_that_goes_away_meanwhile(waker: Waker, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """Between two tries its owner cancels it: then there is no reason left."""
    ec2.failures["start_instances"] = CAPACITY
    sleep = waker._sleep

    def cancel(seconds: float) -> None:
        sleep(seconds)
        client.set(cancel_key(JOB_ID), "1")

    waker._sleep = cancel
    assert call(waker, clock) == "nothing waits"
    assert ec2.calls.count("start_instances") == 1


@pytest.mark.parametrize("state", [None, "terminated", "shutting-down"])
def test_without_an_instance_there_is_nothing_to_wait_for(
    waker: Waker, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str], state: str | None
) -> None:
    """Nobody makes one within a minute."""
    ec2.state = state
    assert call(waker, clock, Stopped("i-1", NOW)) == "refused: NoInstance"
    assert clock.now == NOW
    assert metrics(capsys.readouterr().out) == ["WakerFailures"]


def test_an_ec2_that_is_away_is_asked_again(waker: Waker, ec2: FakeEc2, clock: Clock) -> None:
    """It may be back in a moment."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    assert call(waker, clock) == "refused: EndpointConnectionError"
    assert ec2.calls == ["describe_instances"] * (len(PAUSES) + 1)


def test_without_redis_nobody_knows(waker: Waker, ec2: FakeEc2, server: fakeredis.FakeServer, clock: Clock) -> None:
    """Lambda counts it as an error, and the schedule tries again."""
    server.connected = False
    with pytest.raises(QueueUnavailable):
        call(waker, clock)
    assert ec2.calls == []
