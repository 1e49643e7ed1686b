"""The router with a real Redis and an emulated EC2 that it reaches as it would reach AWS: by boto3, over HTTP."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import pytest
import redis

from local.aws_server import AwsServer
from router_lambda import handler as module
from router_lambda.handler import handler
from router_lambda.job import GPU_BOOTS, QUEUE_OPEN, QUEUE_READY
from tests.integration.ec2_world import configure, state
from tests.router_samples import event
from tests.router_world import beat, content, metrics

PROMPT = '{"prompt": "a"}'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer) -> Iterator[None]:
    """Set what Lambda's configuration sets, and forget the router of the test before."""
    configure(monkeypatch, redis_url, aws_server)
    module._app.cache_clear()
    yield
    module._app.cache_clear()


@pytest.fixture
def stopped(aws_server: AwsServer) -> Iterator[None]:
    """Stop the instance for a test, and start it again for the next one."""
    aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])
    yield
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])


def infer(sub: str = "") -> dict[str, Any]:
    """Send a request, of a new user if none is named."""
    return handler(event("POST", "/infer", PROMPT, authorizer={"lambda": {"sub": sub or str(uuid4())}}), None)


@pytest.mark.usefixtures("stopped")
def test_ten_requests_start_the_instance_once(
    aws_server: AwsServer, client: redis.Redis, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is queued and told to wait; one start is made and counted."""
    client.rpush(GPU_BOOTS, "40", "42", "44")
    with ThreadPoolExecutor(10) as lambdas:
        answers = [each.result() for each in [lambdas.submit(infer) for _ in range(10)]]

    assert [answer["statusCode"] for answer in answers] == [202] * 10
    assert {content(answer)["status"] for answer in answers} == {"starting"}
    assert {content(answer)["eta"] for answer in answers} <= {42, 41}
    assert state(aws_server) == "running"
    assert client.llen(QUEUE_READY) == client.zcard(QUEUE_OPEN) == 10
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


def test_an_instance_without_a_worker_yet_is_waited_for(aws_server: AwsServer, client: redis.Redis) -> None:
    """It runs and boots; once its worker is there, EC2 is not asked any more."""
    assert content(infer())["status"] == "starting"
    beat(client)
    aws_server.kill()
    try:
        answer = infer()
    finally:
        aws_server.restart()
    assert content(answer)["status"] == "queued"


@pytest.mark.usefixtures("stopped")
def test_an_ec2_that_is_away_leaves_no_job_behind(aws_server: AwsServer, client: redis.Redis) -> None:
    """503 in bounded time, nothing queued; when it is back the same process starts the GPU."""
    aws_server.kill()
    try:
        began = time.monotonic()
        answer = infer()
        took = time.monotonic() - began
    finally:
        aws_server.restart()
        aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert "EC2 cannot be reached" in content(answer)["detail"]
    assert took < 8
    assert client.exists(QUEUE_READY, QUEUE_OPEN) == 0
    assert content(infer())["status"] == "starting"
    assert state(aws_server) == "running"


def test_stop_stops_and_the_next_request_starts(aws_server: AwsServer, client: redis.Redis) -> None:
    """The whole round: running with a live worker, stopped by its user, started by the next prompt."""
    beat(client)
    stop = event("POST", "/stop")
    assert content(handler(stop, None)) == {"status": "stopping"}
    assert state(aws_server) == "stopped"
    assert content(handler(stop, None)) == {"status": "stopped"}

    assert content(infer())["status"] == "starting"
    assert state(aws_server) == "running"
    assert content(infer())["status"] == "queued", "its worker beats, and nothing is closing any more"


def test_without_an_instance_the_answer_says_so(monkeypatch: pytest.MonkeyPatch, client: redis.Redis) -> None:
    """503 naming the tag that nothing has."""
    monkeypatch.setenv("TLFIF_GPU_TAG", "env=elsewhere")
    answer = infer()

    assert answer["statusCode"] == 503
    assert "env=elsewhere" in content(answer)["detail"]
    assert client.exists(QUEUE_READY) == 0


# Through the whole handler


def test_fifty_at_once_let_five_through(client: redis.Redis) -> None:
    """Exactly the burst, and exactly as many jobs; everybody else is told when to come back."""
    beat(client)
    with ThreadPoolExecutor(50) as lambdas:
        answers = [each.result() for each in [lambdas.submit(infer, "somebody") for _ in range(50)]]

    statuses = [answer["statusCode"] for answer in answers]
    assert (statuses.count(202), statuses.count(429)) == (5, 45)
    assert client.llen(QUEUE_READY) == 5
    assert {answer["headers"]["retry-after"] for answer in answers if answer["statusCode"] == 429} <= {"2", "3"}


def test_the_retry_after_of_the_sixth_is_the_truth(client: redis.Redis) -> None:
    """Just before it the next call is refused, and just after it, one passes."""
    beat(client)
    answers = [infer("somebody") for _ in range(6)]
    wait = int(answers[5]["headers"]["retry-after"])
    assert [answer["statusCode"] for answer in answers] == [202] * 5 + [429]

    time.sleep(wait)

    assert infer("somebody")["statusCode"] == 202
    assert infer("somebody")["statusCode"] == 429


def test_connections_are_kept_between_invocations(client: redis.Redis) -> None:
    """Twenty requests of twenty users, one connection of the router's."""
    beat(client)
    before: Any = client.info("stats")
    for _ in range(20):
        assert infer()["statusCode"] == 202
    after: Any = client.info("stats")

    assert after["total_connections_received"] - before["total_connections_received"] == 1


def test_a_user_of_any_name_has_keys_of_his_own(client: redis.Redis) -> None:
    """Names with colons, percent signs or other scripts reach neither another user's allowance nor his jobs."""
    beat(client)
    names = ["a", "a:stop", "a%3Astop", "ä", "a b", "*", "a\n", "a" * 128]
    sent = [
        event("POST", "/infer", PROMPT, authorizer={"lambda": {"sub": name}}, headers={"Idempotency-Key": key})
        for name in names
        for key in ("stop", "k:stop")
    ]
    ids = {json.loads(handler(each, None)["body"])["id"] for each in sent}

    assert len(ids) == len(sent)
    assert len(client.keys("rate:*")) == len(names)
