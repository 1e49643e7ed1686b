"""The waker's entry point with a real Redis, a real S3 server and an emulated EC2, all reached as in AWS."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import boto3
import pytest
import redis

from local.aws_server import AwsServer
from local.s3_server import S3Server
from router_lambda import waker as module
from router_lambda.ec2 import Ec2, Ec2Unavailable
from router_lambda.job import GPU_REFUSED, GPU_WAKING, QUEUE_OPEN, Job, job_key, reply_key
from router_lambda.queue import Queue, QueueUnavailable
from router_lambda.waker import handler
from tests.integration.ec2_world import configure, state
from tests.openapi import schema, validator
from tests.router_samples import JOB
from tests.router_world import metrics

REFUSAL = "AWS has no GPU of this type left in this availability zone; send the request again in a few minutes"


class Context:
    """What Lambda tells of an invocation that has `seconds`."""

    def __init__(self, seconds: float = 60.0) -> None:
        self.seconds = seconds

    def get_remaining_time_in_millis(self) -> int:
        """Return the time that is always left."""
        return int(self.seconds * 1e3)


@pytest.fixture(autouse=True)
def _environment(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer, s3_server: S3Server
) -> Iterator[None]:
    """Set what Lambda's configuration sets, and forget the waker of the test before."""
    more = s3_server.environment() | {"TLFIF_BUCKET": s3_server.bucket}
    configure(monkeypatch, redis_url, aws_server, **more)
    module._waker.cache_clear()
    yield
    module._waker.cache_clear()
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])


@pytest.fixture
def job(client: redis.Redis) -> Job:
    """Queue a job that no other test knows."""
    made = replace(JOB, id=str(uuid4()))
    Queue(client).enqueue(made)
    return made


def stop(aws_server: AwsServer) -> None:
    """Let the instance stop."""
    aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])


def told(instance_id: str) -> dict[str, Any]:
    """Return what EventBridge says when an instance has stopped just now."""
    return {
        "version": "0",
        "source": "aws.ec2",
        "detail-type": "EC2 Instance State-change Notification",
        "time": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "detail": {"instance-id": instance_id, "state": "stopped"},
    }


def reply(job: Job) -> Any:
    """Return the document in the bucket."""
    s3 = boto3.Session().client("s3")
    try:
        return json.loads(s3.get_object(Bucket=S3Server.bucket, Key=reply_key(job.id))["Body"].read())
    finally:
        s3.close()


def test_a_job_that_came_while_it_stopped_starts_it_again(
    aws_server: AwsServer, client: redis.Redis, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """The event comes twice, and the clock looks as well: one start."""
    stop(aws_server)
    event = told(aws_server.instance_id)

    said = [handler(each, Context()) for each in (event, event, {"source": "aws.events"})]

    assert said[0] == {"outcome": "started"}
    assert state(aws_server) == "running"
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]
    note: Any = client.get(GPU_WAKING)
    assert note.startswith(b"started:")
    assert client.zscore(QUEUE_OPEN, job.id) == job.enqueued_at


def test_nobody_waits_so_it_sleeps(aws_server: AwsServer, client: redis.Redis) -> None:
    """However often it is told."""
    stop(aws_server)
    for event in (told(aws_server.instance_id), {}):
        assert handler(event, Context()) == {"outcome": "nothing waits"}
    assert state(aws_server) == "stopped"


def test_one_that_runs_is_left_alone(aws_server: AwsServer, client: redis.Redis, job: Job) -> None:
    """Its worker sees the job."""
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])
    assert handler({}, Context()) == {"outcome": "an instance runs"}
    assert client.exists(GPU_WAKING) == 0


def test_a_job_that_expired_gets_its_reply(
    aws_server: AwsServer, client: redis.Redis, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whole, of the described form, with EC2's reason; nothing of the job is left, and no GPU is started for it."""
    stop(aws_server)
    client.set(GPU_REFUSED, REFUSAL)
    client.delete(job_key(job.id))

    assert handler({}, Context()) == {"outcome": "nothing waits"}

    document = reply(job)
    assert list(validator(schema("ReplyDocument")).iter_errors(document)) == []
    assert (document["id"], document["status"], document["attempt"]) == (job.id, "expired", 0)
    assert document["error"]["code"] == "expired"
    assert REFUSAL in document["error"]["message"]
    assert document["timing"]["total_ms"] == document["timing"]["queued_ms"] > 0
    assert client.keys() == [GPU_REFUSED.encode()]
    assert state(aws_server) == "stopped"
    assert metrics(capsys.readouterr().out) == ["JobsExpired"]


def test_a_refused_start_is_the_reason_in_the_end(
    aws_server: AwsServer,
    client: redis.Redis,
    job: Job,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the call that EC2 does not take to the reply that says why, minutes later."""
    stop(aws_server)

    def refuse(*_: object) -> None:
        raise Ec2Unavailable("InsufficientInstanceCapacity", REFUSAL, 60)

    monkeypatch.setattr(Ec2, "start", refuse)
    assert handler({}, Context(10.0)) == {"outcome": "refused: InsufficientInstanceCapacity"}
    client.delete(job_key(job.id))

    assert handler({}, Context()) == {"outcome": "nothing waits"}

    assert REFUSAL in reply(job)["error"]["message"]
    assert metrics(capsys.readouterr().out) == ["EC2StartFailures", "WakerFailures", "JobsExpired"]


def test_an_s3_that_is_away_keeps_the_job_open_and_starts_the_gpu_all_the_same(
    s3_server: S3Server, aws_server: AwsServer, client: redis.Redis, job: Job, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one job waits for its reply, the other one for the GPU."""
    stop(aws_server)
    other = replace(JOB, id=str(uuid4()))
    Queue(client).enqueue(other)
    client.delete(job_key(job.id))
    s3_server.kill()
    try:
        assert handler({}, Context()) == {"outcome": "started"}
    finally:
        s3_server.restart()

    assert client.zcard(QUEUE_OPEN) == 2
    assert metrics(capsys.readouterr().out) == ["EC2Starts", "OverdueFailures"]


def test_without_redis_it_fails(monkeypatch: pytest.MonkeyPatch, aws_server: AwsServer) -> None:
    """Which Lambda counts."""
    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    with pytest.raises(QueueUnavailable):
        handler({}, Context())
