"""When one more GPU is started beside those that run, and when that would only cost money."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import fakeredis
import pytest
from botocore.exceptions import EndpointConnectionError

from router_lambda.app import App
from router_lambda.ec2 import Ec2
from router_lambda.gpu import FLEET_SECONDS, REFUSED_SECONDS, SHORTEST_BOOT_SECONDS, Gpu
from router_lambda.job import GPU_BOOTS, GPU_CLOSING, GPU_FLEET, GPU_REFUSED, GPU_STOP, GPU_WAKING, QUEUE_READY
from router_lambda.queue import QueueUnavailable
from tests.router_samples import event
from tests.router_world import (
    BOOT,
    GPU_TAG,
    NOW,
    SETTINGS,
    Clock,
    FakeEc2,
    beat,
    content,
    make_router,
    metrics,
    refusal,
)

Prompt = Callable[..., dict[str, Any]]

LONG = 10 * BOOT
"""A backlog that is worth a boot, in seconds."""


@pytest.fixture(autouse=True)
def _two(ec2: FakeEc2) -> None:
    """Let one instance run and another one sleep."""
    ec2.state, ec2.beside = "running", {"i-2": "stopped"}


@pytest.fixture
def gpu(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> Gpu:
    """Return what is tested."""
    return Gpu(Ec2(GPU_TAG, lambda: ec2), client, clock, clock.sleep)


def events(output: str) -> list[str]:
    """Return the events among the lines that a Lambda wrote."""
    return [line["event"] for line in map(json.loads, output.splitlines()) if "event" in line]


def test_a_long_backlog_is_worth_another_one(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one that sleeps is started, counted and noted like any other."""
    gpu.reinforce(LONG, 2)

    assert (ec2.state, ec2.beside) == ("running", {"i-2": "pending"})
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]
    assert client.get(GPU_WAKING) == f"started:{NOW}".encode()


def test_one_is_enough_unless_somebody_says_otherwise(gpu: Gpu, ec2: FakeEc2) -> None:
    """Each costs as much as the first."""
    gpu.reinforce(1e9, 1)
    assert ec2.calls == []


@pytest.mark.parametrize("backlog", [0.0, 1.0, SHORTEST_BOOT_SECONDS])
def test_a_short_backlog_costs_nothing(
    gpu: Gpu, ec2: FakeEc2, server: fakeredis.FakeServer, capsys: pytest.CaptureFixture[str], backlog: float
) -> None:
    """No look at Redis or EC2: this is the way of every usual request."""
    server.connected = False
    gpu.reinforce(backlog, 16)

    assert ec2.calls == []
    assert capsys.readouterr().out == ""


def test_a_backlog_that_a_boot_would_outlast(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """The newcomer would find nothing left; how long a boot takes is measured."""
    gpu.reinforce(BOOT, 2)
    client.rpush(GPU_BOOTS, "200")
    gpu.reinforce(199, 2)
    assert ec2.calls == []

    gpu.reinforce(201, 2)
    assert ec2.beside == {"i-2": "pending"}


def test_those_that_run_share_the_backlog(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """Two of them are through in half the time; a third one pays off later."""
    ec2.beside = {"i-2": "pending", "i-3": "stopped"}
    gpu.reinforce(2 * BOOT, 3)
    assert ec2.beside["i-3"] == "stopped"

    client.delete(GPU_FLEET)
    gpu.reinforce(2 * BOOT + 1, 3)
    assert ec2.beside["i-3"] == "pending"


@pytest.mark.parametrize("state", ["running", "pending"])
def test_the_limit_holds(gpu: Gpu, ec2: FakeEc2, state: str) -> None:
    """However much waits, and however many more there would be."""
    ec2.beside = {"i-2": state, "i-3": "stopped"}
    gpu.reinforce(1e9, 2)
    assert "start_instances" not in ec2.calls


@pytest.mark.parametrize("state", ["stopping", "running"])
def test_none_is_left_to_be_started(gpu: Gpu, ec2: FakeEc2, state: str) -> None:
    """EC2 does not start one that stops."""
    ec2.beside = {"i-2": state}
    gpu.reinforce(LONG, 16)
    assert "start_instances" not in ec2.calls


@pytest.mark.parametrize("note", ["calling", f"started:{NOW - 250}", "failed:{}"])
def test_one_boot_at_a_time(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, note: str) -> None:
    """What boots may be enough, and what was refused a moment ago is refused again."""
    client.set(GPU_WAKING, note)
    gpu.reinforce(LONG, 16)
    assert ec2.calls == []


def test_ec2_is_asked_now_and_then(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """Not by each of a hundred requests that come at once."""
    ec2.beside = {}
    for _ in range(100):
        gpu.reinforce(LONG, 2)
    assert ec2.calls == ["describe_instances"]
    assert 0 < client.ttl(GPU_FLEET) <= FLEET_SECONDS


def test_ten_at_once_start_one(client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """Whoever comes first looks, and the others go on."""
    ec2.beside = {f"i-{number}": "stopped" for number in range(2, 12)}

    def reinforce(_: int) -> None:
        Gpu(Ec2(GPU_TAG, lambda: ec2), client, ec2.clock, lambda _: None).reinforce(1e6, 16)

    with ThreadPoolExecutor(10) as lambdas:
        list(lambdas.map(reinforce, range(10)))

    assert ec2.calls == ["describe_instances", "start_instances"]


def test_a_stop_is_not_answered_with_a_start(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """Its user wants the GPU to stop after the last job: that is no time for another one."""
    client.set(GPU_STOP, "1")
    gpu.reinforce(LONG, 2)
    assert ec2.calls == []


def test_what_is_known_of_the_others_stays(gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """A stop that comes in between is the others', who did not stop yet; an old refusal is over."""
    start = ec2.start_instances

    def start_while_closing(InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        client.mset({GPU_STOP: "1", GPU_CLOSING: "w1", GPU_REFUSED: "x"})
        start(InstanceIds)

    ec2.start_instances = start_while_closing  # type: ignore[method-assign]
    gpu.reinforce(LONG, 2)

    assert ec2.beside == {"i-2": "pending"}
    assert client.exists(GPU_STOP, GPU_CLOSING) == 2
    assert client.exists(GPU_REFUSED) == 0


# What cannot be done is only logged


def test_a_refusal_is_nobodys_problem(
    gpu: Gpu, ec2: FakeEc2, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Counted and logged, and repeated to nobody: a GPU runs, so that there is no reason to say why it does not."""
    ec2.failures["start_instances"] = refusal("InsufficientInstanceCapacity")
    gpu.reinforce(LONG, 2)

    said = capsys.readouterr().out
    assert metrics(said) == ["EC2StartFailures"]
    assert events(said) == ["ec2 call failed", "no instance added"]
    assert client.exists(GPU_REFUSED) == 0
    assert 0 < client.ttl(GPU_WAKING) <= REFUSED_SECONDS


def test_an_ec2_that_is_away_is_logged(gpu: Gpu, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]) -> None:
    """The request goes on."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    gpu.reinforce(LONG, 2)
    assert events(capsys.readouterr().out) == ["ec2 call failed", "no instance added"]


def test_a_redis_that_goes_away_is_logged(
    gpu: Gpu, ec2: FakeEc2, server: fakeredis.FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job was queued just before."""
    server.connected = False
    gpu.reinforce(LONG, 2)
    assert ec2.calls == []
    assert events(capsys.readouterr().out) == ["no instance added"]


# By a request


@pytest.fixture
def prompt(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, clock: Clock) -> Prompt:
    """Return what sends a prompt when one worker is awake, to a router that may have two GPUs."""
    app = make_router(client, ec2, clock, replace(SETTINGS, max_gpus=2))
    beat(client, slots=1, job_seconds=1)

    def send(**headers: str) -> dict[str, Any]:
        return app(event("POST", "/infer", '{"prompt": "a"}', headers=headers))

    return send


def test_the_request_that_makes_the_queue_long_starts_another_one(
    prompt: Prompt, ec2: FakeEc2, client: fakeredis.FakeRedis
) -> None:
    """A worker that takes a second for each job has as many seconds to do as jobs wait, this one included."""
    client.rpush(QUEUE_READY, *map(str, range(BOOT - 1)))
    assert prompt()["statusCode"] == 202
    assert ec2.calls == []

    assert content(prompt())["status"] == "queued"
    assert ec2.beside == {"i-2": "pending"}


def test_by_default_it_does_not(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """One GPU is what the budget allows."""
    beat(client, slots=1, job_seconds=1)
    client.rpush(QUEUE_READY, *map(str, range(250)))

    assert router(event("POST", "/infer", '{"prompt": "a"}'))["statusCode"] == 202
    assert ec2.calls == []


def test_a_short_queue_costs_no_round_trip(
    prompt: Prompt, client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither on the way that a request usually takes, nor below any boot that ever was."""
    prompt()
    client.rpush(QUEUE_READY, *map(str, range(int(SHORTEST_BOOT_SECONDS) - 3)))
    monkeypatch.setattr(Gpu, "_known", None)

    assert prompt()["statusCode"] == 202


def test_a_request_that_is_repeated_starts_nothing(prompt: Prompt, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """It queues nothing either."""
    prompt(**{"Idempotency-Key": "k"})
    client.rpush(QUEUE_READY, *map(str, range(250)))

    assert prompt(**{"Idempotency-Key": "k"})["statusCode"] == 202
    assert ec2.calls == []


@pytest.mark.parametrize("failing", ["describe_instances", "start_instances", "redis"])
def test_the_job_is_queued_whatever_becomes_of_it(
    prompt: Prompt, ec2: FakeEc2, client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    """202, and the job waits for the worker that is there."""
    client.rpush(QUEUE_READY, *map(str, range(250)))
    ec2.failures[failing] = refusal("InsufficientInstanceCapacity")

    def away(_: Gpu) -> None:
        raise QueueUnavailable("away")

    if failing == "redis":
        monkeypatch.setattr(Gpu, "_known", away)

    answer = prompt()

    assert (answer["statusCode"], content(answer)["status"]) == (202, "queued")
    assert client.llen(QUEUE_READY) == 251
    assert ec2.beside == {"i-2": "stopped"}
