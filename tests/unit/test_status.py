"""The route `GET /status` over a fake Redis and a fake EC2."""

from __future__ import annotations

from typing import Any

import fakeredis
import pytest
from botocore.exceptions import EndpointConnectionError

from router_lambda.app import App
from router_lambda.gpu import STOP_SECONDS
from router_lambda.job import (
    CLOSING_SECONDS,
    GPU_BOOTING,
    GPU_BOOTS,
    GPU_CLOSING,
    GPU_REFUSED,
    GPU_WAKING,
    QUEUE_READY,
    booting_note,
    worker_key,
)
from router_lambda.throttle import BURST, rate_key
from tests.router_samples import event
from tests.router_world import BOOT, NOW, Clock, FakeEc2, beat, content, metrics, problem, refusal

LAUNCHED = NOW - 30
SENTENCE = "AWS has no GPU left; send the request again in a few minutes"


def shown(router: App) -> Any:
    """Ask and return the document of a 200."""
    answer = router(event("GET", "/status"))
    assert (answer["statusCode"], answer["headers"]["content-type"]) == (200, "application/json")
    return content(answer)


def test_a_gpu_that_sleeps(router: App, ec2: FakeEc2) -> None:
    """Nothing is known of it and nothing is done to it."""
    assert shown(router) == {
        "state": "stopped",
        "phase": None,
        "eta": None,
        "waiting": 0,
        "running": 0,
        "model": None,
        "idle_seconds": None,
        "problem": None,
    }
    assert ec2.calls == ["describe_instances"]


def test_a_gpu_that_idles(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """The heartbeat says all, and EC2 is not asked."""
    beat(client, model="m", idle_deadline=NOW + 120)

    found = shown(router)

    assert (found["state"], found["model"], found["running"], found["idle_seconds"]) == ("ready", "m", 0, 120.0)
    assert ec2.calls == []


def test_a_gpu_that_works(router: App, client: fakeredis.FakeRedis) -> None:
    """Two workers, of which one is leaving, and more to do."""
    beat(client, "w2", running=3, model="m", idle_deadline=None)
    beat(client, "w1", running=1, model="old", state="draining")
    client.rpush(QUEUE_READY, "a", "b")

    found = shown(router)

    assert (found["state"], found["waiting"], found["running"], found["model"]) == ("ready", 2, 4, "m")
    assert found["idle_seconds"] is None


def test_every_worker_counts_once(router: App, client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan has no order, may name a key twice, and may name one that is gone."""
    beat(client, "a", running=1, model="first")
    beat(client, "b", running=2, model="second")
    names = [worker_key(name).encode() for name in ("b", "a", "gone", "b")]
    monkeypatch.setattr(client, "scan_iter", lambda **_: iter(names))

    found = shown(router)

    assert (found["model"], found["running"]) == ("first", 3)


def test_a_boot_from_beginning_to_end(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, clock: Clock) -> None:
    """From the prompt that wakes the GPU to the heartbeat: the countdown goes down and never up."""
    ec2.lags = 2
    eta = content(router(event("POST", "/infer", '{"prompt": "a"}')))["eta"]
    found = [shown(router)]
    for seconds, note in ((5, None), (20, booting_note("imports", NOW)), (30, booting_note("engine", NOW))):
        clock.now += seconds
        if note is not None:
            client.set(GPU_BOOTING, note)
        found.append(shown(router))
    beat(client)
    found.append(shown(router))

    assert eta == BOOT
    assert [(each["state"], each["phase"], each["eta"]) for each in found] == [
        ("starting", "instance", BOOT),
        ("starting", "instance", BOOT - 5),
        ("booting", "imports", BOOT - 25),
        ("booting", "engine", BOOT - 55),
        ("ready", None, None),
    ]
    assert [each["waiting"] for each in found] == [1] * 5


def test_a_boot_that_takes_too_long(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, clock: Clock) -> None:
    """The boots before were faster; a second is what is left, again and again."""
    client.rpush(GPU_BOOTS, "60")
    ec2.state, ec2.launched_at = "running", clock.now - 100

    assert shown(router)["eta"] == 1


@pytest.mark.parametrize(("waiting", "eta"), [(0, None), (1, BOOT)])
def test_work_that_nobody_was_woken_for(
    router: App, client: fakeredis.FakeRedis, waiting: int, eta: int | None
) -> None:
    """A stopped GPU has an `eta` for whoever waits; asking starts nothing."""
    for _ in range(waiting):
        client.rpush(QUEUE_READY, "a")

    found = shown(router)

    assert (found["state"], found["waiting"], found["eta"]) == ("stopped", waiting, eta)


def test_a_stop_that_was_announced(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """The GPU has to go down first for whoever waits now."""
    ec2.state = "running"
    client.set(GPU_CLOSING, "w1", px=(CLOSING_SECONDS - 20) * 1_000)
    client.rpush(QUEUE_READY, "a")

    found = shown(router)

    assert found["state"] == "stopping"
    assert STOP_SECONDS + BOOT - 22 <= found["eta"] <= STOP_SECONDS + BOOT - 18


def test_a_worker_that_drains_unannounced(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """It was told to end: no start of long ago says when the next one is ready."""
    ec2.state = "running"
    beat(client, state="draining", running=1)
    client.rpush(QUEUE_READY, "a")

    found = shown(router)

    assert (found["state"], found["running"], found["eta"]) == ("stopping", 1, STOP_SECONDS + BOOT)


def test_why_it_does_not_start(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """EC2's refusal in plain words, beyond the request that met it, until a start is granted."""
    ec2.failures["start_instances"] = refusal("InsufficientInstanceCapacity")
    assert router(event("POST", "/infer", '{"prompt": "a"}'))["statusCode"] == 503
    refused = shown(router)
    ec2.state = "pending"
    granted = shown(router)

    assert refused["state"] == "stopped"
    assert "no GPU of this type left" in refused["problem"]
    assert (granted["state"], granted["problem"]) == ("starting", None)


def test_without_an_instance(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """It is stopped, nobody can say for how long, and what to do about it is said."""
    ec2.state = None
    client.rpush(QUEUE_READY, "a")
    client.set(GPU_REFUSED, SENTENCE)

    found = shown(router)

    assert (found["state"], found["eta"]) == ("stopped", None)
    assert "env=tinyllama" in found["problem"]


@pytest.mark.parametrize(
    "garbage", [b"", b"{", b"\xff", b"5", b"[]", b"{}", b'{"phase": 5}', b'{"phase": ["engine"]}', b'{"phase": "x"}']
)
def test_garbage_is_no_phase(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, garbage: bytes) -> None:
    """The instance is known to come, and that is what is said."""
    ec2.state = "running"
    client.set(GPU_BOOTING, garbage)

    found = shown(router)

    assert (found["state"], found["phase"]) == ("starting", "instance")


@pytest.mark.parametrize("note", [b"calling", b'failed:{"code": "x"}', b"started:soon", b"\xff", b""])
def test_other_notes_start_nothing(router: App, client: fakeredis.FakeRedis, note: bytes) -> None:
    """Only `started:` and a time says that EC2 may be behind."""
    client.set(GPU_WAKING, note)

    assert shown(router)["state"] == "stopped"


def test_garbage_in_redis_is_survived(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """A heartbeat of another type is none, one without sense is one, and a refusal is shown as far as it can be."""
    client.set(GPU_REFUSED, b"no \xff")
    client.rpush(worker_key("list"), "x")
    assert shown(router)["problem"] == "no \ufffd"

    client.set(worker_key("w"), b"\xff{")
    assert shown(router)["state"] == "ready"


@pytest.mark.parametrize("authorizer", [None, {"lambda": {}}, {"lambda": {"sub": "user-1", "exp": NOW - 60}}])
def test_strangers_see_nothing(router: App, client: fakeredis.FakeRedis, authorizer: object) -> None:
    """401 without a user, and nothing is read for him."""
    answer = router(event("GET", "/status", authorizer=authorizer, headers={}))

    assert answer["statusCode"] == 401
    assert answer["headers"]["www-authenticate"] == "Bearer"
    assert client.keys() == []


def test_looking_has_an_allowance_of_its_own(router: App, client: fakeredis.FakeRedis) -> None:
    """Five at once, then 429; prompts and stops are not used up by it."""
    statuses = [router(event("GET", "/status"))["statusCode"] for _ in range(BURST + 1)]
    others = [router(event("POST", "/infer", '{"prompt": "a"}')), router(event("POST", "/stop"))]

    assert statuses == [200] * BURST + [429]
    assert [answer["statusCode"] for answer in others] == [202, 202]
    assert rate_key("user-1", "status") == "rate:user-1:status"
    assert client.exists(rate_key("user-1", "status")) == 1


def test_without_redis_the_answer_is_to_try_again(
    router: App, server: fakeredis.FakeServer, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]
) -> None:
    """503 with the metric; EC2 alone knows too little."""
    server.connected = False
    answer = router(event("GET", "/status"))

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert metrics(capsys.readouterr().out) == ["RedisStatusFail"]
    assert ec2.calls == []


def test_without_ec2_the_answer_is_to_try_again(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """503 with what to do, unless a worker is there and EC2 is not needed."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    answer = router(event("GET", "/status"))
    beat(client)

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert "EC2 cannot be reached" in problem(answer)["detail"]
    assert shown(router)["state"] == "ready"
