"""The budget from end to end: the documents in a real bucket, an emulated EC2, router, waker and budget killer."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
import redis

from local.aws_server import AwsServer
from local.s3_server import S3Server
from router_lambda import budget_killer, waker
from router_lambda import handler as module
from router_lambda.budget import BLOCK_KEY, CHECK_SECONDS, OVER_BUDGET, block_end, month_end
from router_lambda.handler import handler
from router_lambda.job import GPU_REFUSED, GPU_WAKING, QUEUE_OPEN, QUEUE_READY
from router_lambda.watch_settings import KillerSettings
from tests.integration.ec2_world import configure, state
from tests.integration.guard_world import Bucket, emptied
from tests.router_samples import event
from tests.router_world import Clock, content, metrics

CAP = 20.0


@pytest.fixture
def bucket(s3_server: S3Server) -> Iterator[Bucket]:
    """Yield the bucket."""
    with emptied(s3_server) as made:
        yield made


@pytest.fixture
def world(
    monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer, s3_server: S3Server
) -> Iterator[pytest.MonkeyPatch]:
    """Set what Lambda's configuration sets, a cap included, and forget the functions of the test before."""
    more = s3_server.environment() | {"TLFIF_BUCKET": s3_server.bucket, "TLFIF_BUDGET_EUR": str(CAP)}
    configure(monkeypatch, redis_url, aws_server, **more)
    forget()
    yield monkeypatch
    forget()
    aws_server.client("ec2").start_instances(InstanceIds=[aws_server.instance_id])


def forget() -> None:
    """Let the next call build its function anew, as after a change of the environment."""
    module._app.cache_clear()
    waker._waker.cache_clear()


def infer() -> dict[str, Any]:
    """Send a request of a new user."""
    sent = event("POST", "/infer", '{"prompt": "a"}', authorizer={"lambda": {"sub": str(uuid4())}})
    return handler(sent, None)


def stop(aws_server: AwsServer) -> None:
    """Let the instance stop."""
    aws_server.client("ec2").stop_instances(InstanceIds=[aws_server.instance_id])


def kill() -> list[str]:
    """Let the budget killer run, whose pauses take no time here."""
    clock = Clock(time.time())
    environment = {"TLFIF_BUCKET": "tl-fif", "TLFIF_BUDGET_EUR": str(CAP)}
    killer = budget_killer.build(KillerSettings.from_environment(environment), clock, clock.sleep)
    end = clock.now + 60
    return killer("AWS Budgets", lambda: end - clock.now)


class Context:
    """What Lambda tells of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return less than the waker's first pause."""
        return 10_000


@pytest.mark.usefixtures("world")
def test_within_the_budget_the_gpu_is_started(aws_server: AwsServer, bucket: Bucket) -> None:
    """By the router and by nothing but what the documents say."""
    stop(aws_server)
    bucket.spend(19.99)
    assert infer()["statusCode"] == 202
    assert state(aws_server) == "running"


@pytest.mark.usefixtures("world")
def test_above_the_cap_it_is_not(aws_server: AwsServer, bucket: Bucket, client: redis.Redis) -> None:
    """402 with the figure; without any figure, 503. Neither leaves a job behind."""
    stop(aws_server)
    answers = [infer()]
    client.delete(GPU_WAKING)
    bucket.spend(20.13)
    answers += [infer(), infer()]

    assert [answer["statusCode"] for answer in answers] == [503, 402, 402]
    assert "guard/spend.json is not there" in content(answers[0])["detail"]
    assert content(answers[1])["detail"].startswith("this month's spend is €20.13 of €20.00; ")
    assert 0 < int(answers[1]["headers"]["retry-after"]) <= month_end(time.time()) - time.time() + 1
    assert state(aws_server) == "stopped"
    assert client.exists(QUEUE_READY, QUEUE_OPEN) == 0


@pytest.mark.usefixtures("world")
def test_without_s3_nothing_is_started(
    aws_server: AwsServer, s3_server: S3Server, bucket: Bucket, client: redis.Redis
) -> None:
    """503 in bounded time; when it is back, the same process starts the GPU."""
    stop(aws_server)
    bucket.spend(1.0)
    s3_server.kill()
    try:
        began = time.monotonic()
        answer = infer()
        took = time.monotonic() - began
    finally:
        s3_server.restart()

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert "S3 does not answer" in content(answer)["detail"]
    assert took < CHECK_SECONDS + 1
    assert state(aws_server) == "stopped"
    client.delete(GPU_WAKING)
    assert infer()["statusCode"] == 202


def test_a_kill_holds_until_the_cap_is_raised(
    world: pytest.MonkeyPatch,
    aws_server: AwsServer,
    bucket: Bucket,
    client: redis.Redis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The killer blocks and stops; router and waker refuse, though the published spend is lower; a new cap lifts it."""
    bucket.spend(18.2)
    assert kill() == [aws_server.instance_id]

    assert state(aws_server) == "stopped"
    assert bucket.get(BLOCK_KEY)["until"] == block_end(time.time())
    answer = infer()
    assert answer["statusCode"] == 402
    assert "€18.20 of €20.00, and the budget killer has stopped the GPU" in content(answer)["detail"]
    status = handler(event("GET", "/status"), None)
    assert content(status)["problem"] == content(answer)["detail"]

    client.delete(GPU_WAKING)
    client.zadd(QUEUE_OPEN, {"job": 1.0})
    client.set("job:job", "{}")
    assert waker.handler({}, Context()) == {"outcome": f"refused: {OVER_BUDGET}"}
    assert state(aws_server) == "stopped"
    assert kill() == []
    counted = ["BudgetStops", "BudgetRefusals", "BudgetRefusals"]
    assert metrics(capsys.readouterr().out) == counted

    client.delete(GPU_WAKING)
    world.setenv("TLFIF_BUDGET_EUR", "25")
    forget()
    assert waker.handler({}, Context()) == {"outcome": "started"}
    assert state(aws_server) == "running"
    assert client.exists(GPU_REFUSED) == 0
