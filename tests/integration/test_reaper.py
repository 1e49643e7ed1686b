"""The reaper with a real Redis and an emulated EC2 that it reaches as it would reach AWS: by boto3, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
import redis

from local.aws_server import AwsServer
from local.redis_server import RedisServer
from router_lambda import reaper as module
from router_lambda.ec2 import Ec2
from router_lambda.job import GPU_UNSEEN, QUEUE_OPEN
from router_lambda.queue import Queue, connect
from router_lambda.reaper import BOOT_SECONDS_ALLOWED, SILENT_SECONDS, Limits, Reaper, handler
from tests.integration.ec2_world import configure, state
from tests.router_samples import JOB
from tests.router_world import GPU_TAG, Clock, beat, metrics


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer) -> Iterator[None]:
    """Set what Lambda's configuration sets, start the instance, and forget the reaper of the test before."""
    configure(monkeypatch, redis_url, aws_server)
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])
    module._reaper.cache_clear()
    yield
    module._reaper.cache_clear()
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands at the launch of the instance."""
    return Clock(Ec2(GPU_TAG).instances()[0].launched_at)


def test_an_instance_without_a_heartbeat_is_stopped_after_the_grace(
    aws_server: AwsServer, client: redis.Redis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """A look a minute from the launch on: the boot has its time, and the first look after it ends the bill."""
    reaper = Reaper(Ec2(GPU_TAG), client, Limits(), clock)
    looks = 0
    while state(aws_server) == "running":
        clock.sleep(60)
        looks += 1
        done = reaper.reap()

    assert looks == BOOT_SECONDS_ALLOWED / 60
    assert done == {"stopped": [aws_server.instance_id], "looked_at": 1}
    assert state(aws_server) == "stopped"
    assert metrics(capsys.readouterr().out) == ["ReapedStale"]
    assert reaper.reap() == {"stopped": [], "looked_at": 1}
    assert client.exists(GPU_UNSEEN) == 0


@pytest.mark.parametrize("names_itself", [True, False])
def test_a_healthy_one_is_left_alone(
    aws_server: AwsServer, client: redis.Redis, clock: Clock, *, names_itself: bool
) -> None:
    """For hours, with work that waits behind other work; also one whose worker does not know its instance."""
    reaper = Reaper(Ec2(GPU_TAG), client, Limits(), clock)
    Queue(client, clock).enqueue(replace(JOB, enqueued_at=clock.now))
    for _ in range(23):
        clock.sleep(600)
        instance = aws_server.instance_id if names_itself else None
        beat(client, instance=instance, since=clock.now - 500, token_at=clock.now - 3)
        assert reaper.reap() == {"stopped": [], "looked_at": 1}

    assert state(aws_server) == "running"
    assert client.exists(GPU_UNSEEN) == 0


def test_a_silent_one_is_stopped_and_its_job_stays(
    aws_server: AwsServer, client: redis.Redis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever starts it again finds the job."""
    reaper = Reaper(Ec2(GPU_TAG), client, Limits(), clock)
    clock.sleep(1_000)
    Queue(client, clock).enqueue(replace(JOB, enqueued_at=clock.now))
    beat(client, instance=aws_server.instance_id, since=clock.now - 900, token_at=clock.now - 0.5)
    clock.sleep(SILENT_SECONDS - 0.25)
    assert reaper.reap()["stopped"] == []

    clock.sleep(1)
    assert reaper.reap()["stopped"] == [aws_server.instance_id]
    assert state(aws_server) == "stopped"
    assert client.zcard(QUEUE_OPEN) == 1
    assert metrics(capsys.readouterr().out) == ["ReapedSilent"]


def test_without_redis_a_session_ends_all_the_same(
    aws_server: AwsServer, own_redis: RedisServer, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the time that a Lambda has, and said to be blind."""
    limits = Limits()
    reaper = Reaper(Ec2(GPU_TAG), connect(own_redis.url), limits, clock)
    own_redis.kill()
    clock.sleep(limits.session_seconds + 1)

    began = time.monotonic()
    assert reaper.reap()["stopped"] == [aws_server.instance_id]

    assert time.monotonic() - began < 10
    assert state(aws_server) == "stopped"
    assert metrics(capsys.readouterr().out) == ["ReaperBlind", "ReapedOverlong"]


def test_the_entry_point_looks_and_answers(aws_server: AwsServer, client: redis.Redis) -> None:
    """With the settings of its environment and the time of day; what it answers can go into Lambda's log."""
    beat(client, instance=aws_server.instance_id, since=time.time(), token_at=None)

    said = handler({"source": "aws.events"}, None)

    assert json.loads(json.dumps(said)) == {"stopped": [], "looked_at": 1}
    assert state(aws_server) == "running"
