"""The gauges with a real Redis and an emulated EC2, which says of a stop when it began."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import redis

from local.aws_server import AwsServer
from router_lambda import gauges as module
from router_lambda.ec2 import Ec2, Instance
from router_lambda.gauges import MINUTE, Gauges, handler
from router_lambda.job import QUEUE_OPEN, QUEUE_READY
from router_lambda.queue import Queue, QueueUnavailable
from tests.integration.ec2_world import configure
from tests.router_samples import JOB
from tests.router_world import GPU_TAG, Clock


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer) -> Iterator[None]:
    """Set what Lambda's configuration sets, start the instance, and forget the gauges of the test before."""
    configure(monkeypatch, redis_url, aws_server)
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])
    module._gauges.cache_clear()
    yield
    module._gauges.cache_clear()
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])


def event(at: float) -> dict[str, Any]:
    """Return an event of the schedule."""
    return {"source": "aws.events", "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


def seconds(output: str) -> list[tuple[float, float]]:
    """Return the beginning of each minute that was counted, in Unix seconds, and the seconds in it."""
    lines = [line for line in map(json.loads, output.splitlines()) if "GpuSeconds" in line]
    return [(line["_aws"]["Timestamp"] / 1e3, line["GpuSeconds"]) for line in lines]


def test_a_stop_has_its_time(aws_server: AwsServer) -> None:
    """To the second, and in whatever words; while it is up there is none."""
    assert Ec2(GPU_TAG).instances()[0].stopped_at is None
    before = int(time.time())
    aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])
    (stopped,) = Ec2(GPU_TAG).instances()
    assert stopped.stopped_at is not None
    assert before <= stopped.stopped_at <= time.time()
    assert stopped.stopped_at >= int(stopped.launched_at)

    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])
    assert Ec2(GPU_TAG).instances()[0].stopped_at is None


def test_a_look_shows_what_is(client: redis.Redis, aws_server: AwsServer, capsys: pytest.CaptureFixture[str]) -> None:
    """Jobs and instances of now; the seconds of the minute before, once."""
    Queue(client).enqueue(JOB)
    ec2 = Ec2(GPU_TAG)
    clock = Clock(ec2.instances()[0].launched_at + 3 * MINUTE)
    gauges = Gauges(ec2, client, clock)

    figures = {"QueueDepth": 1, "JobsOpen": 1, "GpusUp": 1}
    assert gauges.look(event(clock.now)) == figures | {"GpuSeconds": MINUTE}
    assert seconds(capsys.readouterr().out) == [(clock.now // MINUTE * MINUTE - MINUTE, MINUTE)]
    assert client.llen(QUEUE_READY) == client.zcard(QUEUE_OPEN) == 1
    assert gauges.look(event(clock.now)) == figures | {"GpuSeconds": 0}
    assert seconds(capsys.readouterr().out) == []


def test_the_entry_point_looks_and_answers(client: redis.Redis) -> None:
    """With the settings of its environment and the time of day; what it answers can go into Lambda's log."""
    said = json.loads(json.dumps(handler(event(time.time()), None)))
    assert said.keys() == {"QueueDepth", "JobsOpen", "GpusUp", "GpuSeconds"}
    assert said["GpusUp"] == 1


def test_a_short_run_counts_as_a_minute(aws_server: AwsServer) -> None:
    """Started and stopped at once: AWS bills 60 s, over the two minutes that they lie in."""
    aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])
    instances = Ec2(GPU_TAG).instances()
    # moto keeps the launch of the first start; EC2 has one for each.
    instances = [Instance(each.id, each.state, (each.stopped_at or 0) - 1, each.stopped_at) for each in instances]
    first = instances[0].launched_at // MINUTE * MINUTE
    total = sum(module.run_seconds(instances, first + number * MINUTE) for number in range(3))
    assert total == MINUTE


def test_without_redis_the_gpu_is_still_metered(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the time that a Lambda has."""
    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(QueueUnavailable):
        handler(event(time.time()), None)
    assert len(seconds(capsys.readouterr().out)) == 1
