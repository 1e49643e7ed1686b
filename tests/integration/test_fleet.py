"""A second GPU beside the first, with a real Redis and an emulated EC2 that is reached by boto3, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis

from local.aws_server import GPU_TAG, AwsServer
from router_lambda import handler as module
from router_lambda.handler import handler
from router_lambda.job import GPU_FLEET, GPU_WAKING, QUEUE_READY
from tests.integration.ec2_world import configure, state
from tests.router_samples import event
from tests.router_world import beat, content, metrics

BACKLOG = 200
"""Jobs that wait, and seconds that one worker would need for them: more than the usual boot, less than two."""


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer) -> Iterator[None]:
    """Set what Lambda's configuration sets, two GPUs among it, and forget the router of the test before."""
    configure(monkeypatch, redis_url, aws_server, TLFIF_MAX_GPUS="2")
    module._app.cache_clear()
    yield
    module._app.cache_clear()


@pytest.fixture(autouse=True)
def _backlog(client: redis.Redis) -> None:
    """Let one slow worker live, and many jobs wait."""
    beat(client, slots=1, job_seconds=1)
    client.rpush(QUEUE_READY, *map(str, range(BACKLOG)))


@pytest.fixture
def second(aws_server: AwsServer) -> Iterator[str]:
    """Yield the id of another instance with the tag, which is stopped."""
    ec2 = aws_server.client("ec2")
    name, _, value = GPU_TAG.partition("=")
    made = ec2.run_instances(
        ImageId="ami-00000000",
        InstanceType="g4dn.xlarge",
        MinCount=1,
        MaxCount=1,
        TagSpecifications=[{"ResourceType": "instance", "Tags": [{"Key": name, "Value": value}]}],
    )
    instance_id: str = made["Instances"][0]["InstanceId"]
    ec2.stop_instances(InstanceIds=[instance_id])
    yield instance_id
    ec2.terminate_instances(InstanceIds=[instance_id])


def infer() -> dict[str, Any]:
    """Send a request of a new user."""
    return handler(event("POST", "/infer", '{"prompt": "a"}', authorizer={"lambda": {"sub": str(uuid4())}}), None)


def test_a_long_queue_starts_the_second_one_once(
    aws_server: AwsServer, client: redis.Redis, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten requests at once, all of them queued; one start, one note, and no further one while it boots."""
    with ThreadPoolExecutor(10) as lambdas:
        answers = [each.result() for each in [lambdas.submit(infer) for _ in range(10)]]

    assert {(answer["statusCode"], content(answer)["status"]) for answer in answers} == {(202, "queued")}
    assert state(aws_server, second) == "running"
    note: Any = client.get(GPU_WAKING)
    assert note.startswith(b"started:")
    client.delete(GPU_FLEET)
    assert infer()["statusCode"] == 202
    assert client.llen(QUEUE_READY) == BACKLOG + 11
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


def test_two_that_run_are_the_limit(
    aws_server: AwsServer, client: redis.Redis, second: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also when the note of the second one's boot is gone."""
    aws_server.client("ec2").start_instances(InstanceIds=[second])
    assert content(infer())["status"] == "queued"
    assert client.exists(GPU_WAKING) == 0
    assert metrics(capsys.readouterr().out) == []


def test_by_default_one_runs(
    aws_server: AwsServer, client: redis.Redis, second: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the queue is."""
    monkeypatch.delenv("TLFIF_MAX_GPUS")
    assert content(infer())["status"] == "queued"
    assert state(aws_server, second) == "stopped"


def test_an_ec2_that_is_away_keeps_nobody_from_queueing(aws_server: AwsServer, client: redis.Redis) -> None:
    """Its worker is there."""
    aws_server.kill()
    try:
        answer = infer()
    finally:
        aws_server.restart()
    assert (answer["statusCode"], content(answer)["status"]) == (202, "queued")
    assert client.llen(QUEUE_READY) == BACKLOG + 1
