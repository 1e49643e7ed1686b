"""`POST /stop`: cancels a job or stops the GPU, over a fake Redis and a fake EC2."""

from __future__ import annotations

import base64
import json

import fakeredis
import pytest
from botocore.exceptions import EndpointConnectionError

from router_lambda.app import App
from router_lambda.job import GPU_CLOSING, GPU_STOP, QUEUE_OPEN, QUEUE_READY, cancel_key, job_key
from router_lambda.queue import Queue
from tests.router_samples import JOB, JOB_ID, event
from tests.router_world import FakeEc2, content, metrics, problem

CANCEL = json.dumps({"id": JOB_ID})


@pytest.mark.parametrize("body", [None, "", " \r\n"])
def test_an_empty_body_stops_an_idle_gpu(router: App, ec2: FakeEc2, body: str | None) -> None:
    """202, and EC2 is told."""
    ec2.state = "running"

    answer = router(event("POST", "/stop", body))

    assert (answer["statusCode"], content(answer)) == (202, {"status": "stopping"})
    assert ec2.state == "stopping"


def test_a_busy_gpu_finishes_first(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """202 as well; the job is not cut off."""
    ec2.state = "running"
    Queue(client).enqueue(JOB)

    assert content(router(event("POST", "/stop"))) == {"status": "stopping"}
    assert "stop_instances" not in ec2.calls
    assert client.exists(GPU_STOP) == 1


def test_a_gpu_that_is_down_is_left_alone(router: App, client: fakeredis.FakeRedis) -> None:
    """202, and nothing that the next job would have to wait for."""
    answer = router(event("POST", "/stop"))

    assert (answer["statusCode"], content(answer)) == (202, {"status": "stopped"})
    assert client.exists(GPU_CLOSING, GPU_STOP) == 0


def test_an_id_cancels_that_job(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """202 with the id; the job's worker finds the mark, and the GPU is not touched."""
    Queue(client).enqueue(JOB)

    answer = router(event("POST", "/stop", base64.b64encode(CANCEL.encode()).decode(), isBase64Encoded=True))

    assert (answer["statusCode"], content(answer)) == (202, {"status": "cancelling", "id": JOB_ID})
    assert client.exists(cancel_key(JOB_ID)) == 1
    assert ec2.calls == []


@pytest.mark.parametrize("fate", ["unknown", "foreign", "finished"])
def test_a_job_that_is_not_there_for_the_caller_is_not_found(
    router: App, client: fakeredis.FakeRedis, fate: str
) -> None:
    """404 in the same words: nobody learns of other people's jobs."""
    if fate != "unknown":
        Queue(client).enqueue(JOB)
    if fate == "finished":
        client.delete(job_key(JOB_ID), QUEUE_OPEN, QUEUE_READY)
    sub = "user-2" if fate == "foreign" else "user-1"

    answer = router(event("POST", "/stop", CANCEL, authorizer={"lambda": {"sub": sub}}))

    assert answer["statusCode"] == 404
    assert problem(answer)["detail"] == "no job of yours with this id waits or runs"
    assert client.exists(cancel_key(JOB_ID)) == 0


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        ("{}", ["id"]),
        ("null", ["body"]),
        ("[]", ["body"]),
        ("{", ["body"]),
        ('{"id": 5}', ["id"]),
        ('{"id": ""}', ["id"]),
        (json.dumps({"id": JOB_ID.upper()}), ["id"]),
        (json.dumps({"id": JOB_ID + " "}), ["id"]),
        (json.dumps({"id": "*"}), ["id"]),
        (json.dumps({"id": JOB_ID, "all": True}), ["all"]),
    ],
)
def test_a_body_that_is_neither_stops_and_cancels_nothing(
    router: App, ec2: FakeEc2, body: str, fields: list[str]
) -> None:
    """400 with the fields; `{}` may be a slip, and stopping the GPU is no answer to a slip."""
    ec2.state = "running"
    answer = router(event("POST", "/stop", body))

    assert answer["statusCode"] == 400
    assert [error["field"] for error in problem(answer)["errors"]] == fields
    assert ec2.calls == []


@pytest.mark.parametrize("body", [None, CANCEL])
def test_strangers_stop_nothing(router: App, ec2: FakeEc2, body: str | None) -> None:
    """401 without a user."""
    ec2.state = "running"
    answer = router(event("POST", "/stop", body, authorizer=None, headers={}))

    assert answer["statusCode"] == 401
    assert answer["headers"]["www-authenticate"] == "Bearer"
    assert ec2.calls == []


def test_prompts_do_not_use_up_the_stops(router: App, ec2: FakeEc2) -> None:
    """Whoever has sent all that he may can still stop what it costs, and has an allowance for that."""
    statuses = [router(event("POST", "/infer", '{"prompt": "a"}'))["statusCode"] for _ in range(6)]
    ec2.state = "stopped"
    stops = [router(event("POST", "/stop"))["statusCode"] for _ in range(6)]

    assert statuses == [202] * 5 + [429]
    assert stops == [202] * 5 + [429]


def test_without_redis_nothing_is_stopped(
    router: App, ec2: FakeEc2, server: fakeredis.FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """503: nobody knows whether something runs."""
    ec2.state = "running"
    server.connected = False
    answer = router(event("POST", "/stop"))

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert ec2.state == "running"
    assert metrics(capsys.readouterr().out) == ["RedisStopFail"]


def test_without_ec2_the_answer_is_to_try_again(router: App, ec2: FakeEc2) -> None:
    """503 with what to do."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    answer = router(event("POST", "/stop"))

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert "EC2 cannot be reached" in problem(answer)["detail"]
