"""When the GPU is started and stopped, by whom, and how long that is said to take."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor

import fakeredis
import pytest
from botocore.exceptions import ConnectTimeoutError, EndpointConnectionError, NoCredentialsError
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.ec2 import Ec2, Ec2Unavailable
from router_lambda.gpu import (
    BOOT_SECONDS,
    REFUSED_SECONDS,
    SETTLED_SECONDS,
    START_SECONDS,
    STOP_SECONDS,
    Gpu,
    boot_seconds,
)
from router_lambda.job import GPU_BOOTING, GPU_BOOTS, GPU_CLOSING, GPU_STOP, GPU_WAKING
from router_lambda.queue import Queue, QueueUnavailable
from tests.router_samples import JOB
from tests.router_world import BOOT, NOW, Clock, FakeEc2, metrics, refusal


@pytest.fixture
def gpu(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> Gpu:
    """Return what is tested."""
    return Gpu(Ec2(("env", "tinyllama"), lambda: ec2), client, clock, clock.sleep)


# Waking


def test_a_stopped_instance_is_started(gpu: Gpu, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]) -> None:
    """One call, one metric, and the usual time."""
    assert gpu.wake(None) == BOOT
    assert ec2.calls == ["describe_instances", "start_instances"]
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_booting_instance_is_waited_for(gpu: Gpu, ec2: FakeEc2, clock: Clock, state: str) -> None:
    """No call, and what is left shrinks second by second to one, never to nothing."""
    ec2.state, ec2.launched_at = state, NOW
    said = []
    for _ in range(120):
        said.append(gpu.wake(None))
        clock.sleep(1)

    assert said == [*range(90, 0, -1), *([1] * 30)]
    assert "start_instances" not in ec2.calls


def test_the_time_left_shrinks_from_the_first_answer_on(gpu: Gpu, ec2: FakeEc2, clock: Clock) -> None:
    """Whoever asks again during the boot hears less each time, whatever EC2 calls the state meanwhile."""
    said = [gpu.wake(None)]
    for state in ("pending", "pending", "running", "running"):
        clock.sleep(10)
        ec2.state = state
        said.append(gpu.wake(None))

    assert said == [90, 80, 70, 60, 50]


def test_a_stopping_instance_takes_a_stop_and_a_boot(gpu: Gpu, ec2: FakeEc2, clock: Clock) -> None:
    """It cannot be started yet; how much of the stop is over is known when it announced itself."""
    ec2.state = "stopping"

    assert gpu.wake(None) == STOP_SECONDS + BOOT
    assert gpu.wake(NOW - 20) == STOP_SECONDS - 20 + BOOT
    assert gpu.wake(NOW - 170) == BOOT
    assert "start_instances" not in ec2.calls


def test_an_instance_that_has_announced_its_stop_is_stopping(gpu: Gpu, ec2: FakeEc2) -> None:
    """EC2 calls it running until the worker's own call has arrived."""
    ec2.state, ec2.launched_at = "running", NOW - 600

    assert gpu.wake(NOW - 5) == STOP_SECONDS - 5 + BOOT


def test_an_announcement_from_before_the_start_is_over(gpu: Gpu, ec2: FakeEc2) -> None:
    """Somebody started it by hand since."""
    ec2.state, ec2.launched_at = "pending", NOW - 10

    assert gpu.wake(NOW - 60) == BOOT - 10


def test_starting_ends_the_announcement(gpu: Gpu, client: fakeredis.FakeRedis) -> None:
    """What was stopped has closed, and boots no more: the next job may count on the new worker."""
    client.set(GPU_CLOSING, "w1")
    client.set(GPU_BOOTING, "{}")

    gpu.wake(NOW - 60)

    assert client.exists(GPU_CLOSING, GPU_BOOTING) == 0


@pytest.mark.parametrize("state", [None, "terminated", "shutting-down"])
def test_without_an_instance_nothing_can_be_woken(gpu: Gpu, ec2: FakeEc2, state: str | None) -> None:
    """A terminated one will never run again; the message names the tag that is looked for."""
    ec2.state = state
    with pytest.raises(Ec2Unavailable, match="env=tinyllama") as error:
        gpu.wake(None)
    assert error.value.code == "NoInstance"


@pytest.mark.parametrize(
    ("states", "nearest"),
    [
        (["stopped", "running"], "running"),
        (["stopping", "stopped", "pending"], "pending"),
        (["stopping", "stopped"], "stopped"),
        (["terminated", "stopping"], "stopping"),
    ],
)
def test_of_several_instances_the_nearest_counts(ec2: FakeEc2, states: list[str], nearest: str) -> None:
    """One that runs comes before one that has to be started, in whatever order and reservation EC2 lists them."""
    for number, state in enumerate(states):
        ec2.beside[f"i-{number + 2}"] = state
    ec2.state = None

    assert Ec2(("env", "tinyllama"), lambda: ec2).instances()[0].state == nearest


# Ten at once


def test_ten_at_once_start_it_once(
    client: fakeredis.FakeRedis, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]
) -> None:
    """All ten find it stopped; one calls, one counts, and all say the same."""
    gate = threading.Barrier(10)
    starting = ec2.start_instances

    class Together(FakeEc2):
        def describe_instances(self, Filters: list[dict[str, object]]) -> dict[str, object]:  # noqa: N803
            found = ec2.describe_instances(Filters)
            gate.wait()
            return found

        def start_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803
            starting(InstanceIds)

    together = Together(ec2.clock)

    def wake() -> int:
        return Gpu(Ec2(("env", "tinyllama"), lambda: together), client, ec2.clock, lambda _: None).wake(None)

    with ThreadPoolExecutor(10) as lambdas:
        said = [each.result() for each in [lambdas.submit(wake) for _ in range(10)]]

    assert said == [BOOT] * 10
    assert ec2.calls.count("start_instances") == 1
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


def test_ec2_that_still_says_stopped_is_not_asked_twice(gpu: Gpu, ec2: FakeEc2, clock: Clock) -> None:
    """EC2 is eventually consistent: for some seconds after a start it may show the state before."""
    gpu.wake(None)
    ec2.lags = 3
    clock.sleep(4)

    assert gpu.wake(None) == BOOT - 4
    assert ec2.calls.count("start_instances") == 1


def test_a_boot_that_failed_is_tried_again(
    gpu: Gpu, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it has had its time and is stopped again, the next request starts it anew."""
    gpu.wake(None)
    ec2.state = "stopped"
    clock.sleep(SETTLED_SECONDS)

    assert gpu.wake(None) == BOOT
    assert metrics(capsys.readouterr().out) == ["EC2Starts", "EC2Starts"]


def test_the_note_of_a_start_ends_by_itself(gpu: Gpu, client: fakeredis.FakeRedis) -> None:
    """A worker that never gets ready leaves nothing behind."""
    gpu.wake(None)
    assert 0 < client.ttl(GPU_WAKING) <= BOOT_SECONDS


def test_others_wait_for_the_one_who_calls(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """They neither call nor answer before it is known what came of it."""
    client.set(GPU_WAKING, "calling")

    def answer(seconds: float) -> None:
        clock.sleep(seconds)
        client.set(GPU_WAKING, f"started:{NOW - 1}")

    patient = Gpu(Ec2(("env", "tinyllama"), lambda: ec2), client, clock, answer)

    assert patient.wake(None) == BOOT - 1
    assert "start_instances" not in ec2.calls


def test_others_do_not_wait_for_ever(gpu: Gpu, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """Whoever was to call may have died; its note would expire, but a client must not wait that long."""
    client.set(GPU_WAKING, "calling")

    with pytest.raises(Ec2Unavailable, match="does not answer"):
        gpu.wake(None)

    assert START_SECONDS < clock.now - NOW < START_SECONDS + 1


# Refusals


@pytest.mark.parametrize(
    ("failure", "advice"),
    [
        (refusal("InsufficientInstanceCapacity"), "no GPU of this type left"),
        (refusal("RequestLimitExceeded"), "busy"),
        (refusal("IncorrectInstanceState"), "changing its state"),
        (refusal("UnauthorizedOperation"), "UnauthorizedOperation"),
        (refusal("VcpuLimitExceeded"), "VcpuLimitExceeded"),
        (EndpointConnectionError(endpoint_url="https://ec2.test"), "cannot be reached"),
        (ConnectTimeoutError(endpoint_url="https://ec2.test"), "cannot be reached"),
        (NoCredentialsError(), "cannot be reached"),
    ],
)
def test_a_refusal_says_what_to_do(
    gpu: Gpu, ec2: FakeEc2, capsys: pytest.CaptureFixture[str], failure: Exception, advice: str
) -> None:
    """It is counted with its code, and is no start."""
    ec2.failures["start_instances"] = failure

    with pytest.raises(Ec2Unavailable, match=advice) as error:
        gpu.wake(None)

    assert error.value.retry_after >= 1
    assert metrics(capsys.readouterr().out) == ["EC2StartFailures"]


def test_a_refusal_is_everybodys(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """For a moment the others hear the same without a call; then somebody tries again."""
    ec2.failures["start_instances"] = refusal("InsufficientInstanceCapacity")
    said = []
    for _ in range(3):
        with pytest.raises(Ec2Unavailable) as error:
            gpu.wake(None)
        said.append((error.value.code, str(error.value), error.value.retry_after))

    assert len(set(said)) == 1
    assert ec2.calls.count("start_instances") == 1
    assert 0 < client.ttl(GPU_WAKING) <= REFUSED_SECONDS
    client.delete(GPU_WAKING)
    ec2.failures.clear()
    assert gpu.wake(None) == BOOT


def test_without_redis_nothing_is_started(gpu: Gpu, ec2: FakeEc2, server: fakeredis.FakeServer) -> None:
    """Nobody could agree on who does."""
    server.connected = False
    with pytest.raises(QueueUnavailable):
        gpu.wake(None)
    assert "start_instances" not in ec2.calls


def test_a_start_counts_when_redis_dies_meanwhile(
    gpu: Gpu, ec2: FakeEc2, server: fakeredis.FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The GPU comes, whether or not that could be noted."""
    start = ec2.start_instances

    def start_and_cut(InstanceIds: list[str]) -> None:  # noqa: N803
        start(InstanceIds)
        server.connected = False

    monkeypatch.setattr(ec2, "start_instances", start_and_cut)
    assert gpu.wake(None) == BOOT


# How long a boot takes


def test_measured_boots_replace_the_guess(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """The median: one slow boot, from a fresh snapshot, must not scare everybody after it."""
    client.rpush(GPU_BOOTS, *("40.5", "250", "39.5", "41", "40.9"))
    assert gpu.wake(None) == 41


@pytest.mark.parametrize("boots", [[], [b"x"], [b"nan"], [b"inf"], [b"-1"], [b"0"], [b"100000"], [b""]])
def test_boots_that_are_none_leave_the_guess(boots: list[bytes]) -> None:
    """The list may hold anything."""
    assert boot_seconds(boots) == 90


@given(st.lists(st.floats(0.5, BOOT_SECONDS - 1), min_size=1, max_size=20))
def test_a_boot_takes_what_boots_took(boots: list[float]) -> None:
    """Never less than the quickest nor more than the slowest."""
    assert min(boots) <= boot_seconds([str(boot).encode() for boot in boots]) <= max(boots)


@pytest.mark.parametrize("call", ["describe_instances", "start_instances"])
def test_a_refused_call_is_in_the_log(gpu: Gpu, ec2: FakeEc2, capsys: pytest.CaptureFixture[str], call: str) -> None:
    """With EC2's own words, which the client is not told."""
    ec2.failures[call] = refusal("UnauthorizedOperation")
    with pytest.raises(Ec2Unavailable, match="the router's log"):
        gpu.wake(None)

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if line.get("event") == "ec2 call failed"]
    assert (found["call"], found["code"]) == (call, "UnauthorizedOperation")
    assert "as the test wants" in found["reason"]


# Stopping


def test_an_idle_gpu_is_stopped(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Closed first, so that nobody counts on it any more, stopped then."""
    ec2.state = "running"

    assert gpu.stop(Queue(client)) == "stopping"

    assert ec2.calls == ["describe_instances", "stop_instances"]
    assert client.exists(GPU_CLOSING) == 1
    assert metrics(capsys.readouterr().out) == ["UserStops"]


def test_a_busy_gpu_is_told(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """Its worker stops it after the last job; nothing is cut off."""
    ec2.state = "running"
    queue = Queue(client)
    queue.enqueue(JOB)

    assert gpu.stop(queue) == "stopping"

    assert "stop_instances" not in ec2.calls
    assert client.exists(GPU_STOP, GPU_CLOSING) == 1


def test_a_stop_right_after_a_start_is_no_failed_boot(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """Stopped by its user within seconds of its start, it is started again by the next request."""
    gpu.wake(None)
    gpu.stop(Queue(client))
    ec2.state = "stopped"

    assert gpu.wake(NOW) == BOOT
    assert ec2.calls.count("start_instances") == 2


@pytest.mark.parametrize(
    ("state", "said"), [("stopped", "stopped"), (None, "stopped"), ("terminated", "stopped"), ("stopping", "stopping")]
)
def test_what_is_down_is_left_alone(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, state: str | None, said: str
) -> None:
    """No call and no key, or the next job would wait for a stop that is long over."""
    ec2.state = state

    assert gpu.stop(Queue(client)) == said

    assert ec2.calls == ["describe_instances"]
    assert client.keys() == []


def test_a_stop_that_fails_closes_nothing(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """It goes on running, and jobs may count on it."""
    ec2.state = "running"
    ec2.failures["stop_instances"] = refusal("UnauthorizedOperation")

    with pytest.raises(Ec2Unavailable):
        gpu.stop(Queue(client))

    assert client.exists(GPU_CLOSING) == 0


def test_when_nobody_knows_the_state_nothing_is_stopped(gpu: Gpu, ec2: FakeEc2) -> None:
    """An EC2 that cannot be asked is no EC2 without an instance."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    with pytest.raises(Ec2Unavailable, match="cannot be reached"):
        gpu.stop(Queue(fakeredis.FakeRedis()))
