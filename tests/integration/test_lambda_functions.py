"""The functions, unpacked from their package, in the real runtime client under Python 3.12."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import redis

from local.lambda_runtime import FunctionFailed, LambdaFunction
from router_lambda.job import QUEUE_OPEN, QUEUE_READY, Job, job_key, worker_key
from tests.integration.lambda_world import REPOSITORY, runtime
from tests.router_samples import JOB_ID, event
from tests.tokens import AUDIENCE, ISSUER, SUB, jwk_set, signer

Start = Callable[..., LambdaFunction]


@pytest.fixture
def start(unpacked: Path, tmp_path: Path) -> Start:
    """Return what makes a function of a handler and an environment that is added to Lambda's own."""

    def make(handler: str, **environment: str) -> LambdaFunction:
        given = {"AWS_REGION": "eu-central-1", "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "secret"}
        given["AWS_DEFAULT_REGION"] = given["AWS_REGION"]  # Lambda sets both, and boto3 reads this one
        given["AWS_ENDPOINT_URL_EC2"] = "http://127.0.0.1:1"  # where nobody answers
        return LambdaFunction(
            runtime(), unpacked, f"router_lambda.{handler}.handler", given | environment, tmp_path / "function.log"
        )

    return make


def test_the_router_answers_a_ping(start: Start) -> None:
    """The package is imported and called as Lambda does it."""
    settings = {"TLFIF_REDIS_URL": "redis://127.0.0.1:1/0", "TLFIF_BUCKET": "tl-fif"}
    with start("handler", **settings, TLFIF_PING_CIDRS="127.0.0.1/32") as function:
        answer = function.invoke(event("GET", "/ping", authorizer=None))

    assert (answer["statusCode"], json.loads(answer["body"])) == (200, {"status": "ok"})


def test_the_router_queues_jobs_over_one_connection(start: Start, redis_url: str) -> None:
    """202 and the job in Redis; what the first invocation built serves the second."""
    with (
        closing(redis.Redis.from_url(redis_url)) as client,
        start("handler", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function,
    ):
        client.set(worker_key("w"), "{}", ex=60)
        first = function.invoke(event("POST", "/infer", '{"prompt": "é"}'))
        connections = client.info("stats")["total_connections_received"]
        second = function.invoke(event("POST", "/infer", '{"prompt": "b"}'))

        ids = [json.loads(answer["body"])["id"] for answer in (first, second)]
        assert [answer["statusCode"] for answer in (first, second)] == [202, 202]
        assert client.lrange(QUEUE_READY, 0, -1) == [job_id.encode() for job_id in ids]
        payload = client.get(job_key(ids[0]))
        assert isinstance(payload, bytes)
        assert Job.from_json(payload).prompt == "é"
        assert client.info("stats")["total_connections_received"] == connections


def test_the_router_finds_the_sdk_of_the_runtime(start: Start, redis_url: str) -> None:
    """With the GPU asleep it asks EC2, which cannot be reached here."""
    with start("handler", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function:
        answer = function.invoke(event("POST", "/infer", '{"prompt": "a"}'))

    assert answer["statusCode"] == 503
    assert "EC2" in json.loads(answer["body"])["detail"]


def test_missing_settings_are_named(start: Start) -> None:
    """The function's log says what to set, all at once."""
    with (
        start("handler") as function,
        pytest.raises(FunctionFailed, match=r"TLFIF_BUCKET.*TLFIF_REDIS_URL|TLFIF_REDIS_URL.*TLFIF_BUCKET") as failed,
    ):
        function.invoke(event("GET", "/ping"))
    assert failed.value.kind == "RouterConfigError"


def test_the_health_function_pings_redis(start: Start, redis_url: str) -> None:
    """A handler of its own in the same package."""
    with start("queue_health", TLFIF_REDIS_URL=redis_url, TLFIF_PING_CIDRS="127.0.0.1/32") as function:
        answer = function.invoke(event("GET", "/queue-health", authorizer=None))

    assert answer["statusCode"] == 200
    assert json.loads(answer["body"])["redis"] == "ok"


@pytest.fixture
def jwks_url(tmp_path: Path) -> Iterator[str]:
    """Yield the address of the test issuer's keys."""
    (tmp_path / "jwks.json").write_bytes(jwk_set(signer()))

    class Files(SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Files, directory=str(tmp_path))) as server:
        serving = threading.Thread(target=server.serve_forever, args=(0.05,))
        serving.start()
        yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        server.shutdown()
        serving.join()


def test_the_authorizer_lets_a_good_token_in_and_no_other(start: Start, jwks_url: str) -> None:
    """RS256 is verified by what the package holds, in simple responses."""
    exp = int(time.time()) + 600
    good, old = signer().access(exp=exp), signer().access(exp=exp - 3_600)
    settings = {"TLFIF_JWKS_URL": jwks_url, "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
    with start("authorizer", **settings) as function:
        answers = [
            function.invoke(event("POST", "/infer", headers={"authorization": f"Bearer {token}"}))
            for token in (good, old, "a.b.c")
        ]

    assert answers[0] == {"isAuthorized": True, "context": {"sub": SUB, "exp": exp}}
    assert answers[1:] == [{"isAuthorized": False}, {"isAuthorized": False}]


# The samples of docs/sam


def sample(name: str) -> dict[str, Any]:
    """Return an event of docs/sam/events."""
    content = (REPOSITORY / "docs" / "sam" / "events" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(content))


@pytest.mark.parametrize(
    ("name", "handler", "status"),
    [
        *(("infer", "handler", 202), ("stop", "handler", 503), ("ping", "handler", 200), ("options", "handler", 204)),
        *(("status", "handler", 200), ("queue-health", "queue_health", 200)),
    ],
)
def test_a_sample_event_is_answered(start: Start, redis_url: str, name: str, handler: str, status: int) -> None:
    """As docs/lambda.md has it, with a worker alive; to stop it takes EC2, which nobody answers for here."""
    settings = {"TLFIF_REDIS_URL": redis_url, "TLFIF_BUCKET": "tl-fif", "TLFIF_PING_CIDRS": "127.0.0.0/8"}
    with closing(redis.Redis.from_url(redis_url)) as client, start(handler, **settings) as function:
        client.set(worker_key("w"), "{}", ex=60)
        assert function.invoke(sample(name))["statusCode"] == status


def test_the_authorizer_s_sample_holds_no_token(start: Start) -> None:
    """It is refused before any key is fetched."""
    settings = {"TLFIF_JWKS_URL": "http://127.0.0.1:1/", "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
    with start("authorizer", **settings) as function:
        assert function.invoke(sample("authorizer")) == {"isAuthorized": False}


@pytest.mark.parametrize("name", ["instance-stopped", "every-minute"])
def test_the_waker_finds_nothing_to_do(start: Start, redis_url: str, name: str) -> None:
    """Whoever calls it; EC2, which nobody answers for here, is not asked."""
    with start("waker", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function:
        assert function.invoke(sample(name)) == {"outcome": "nothing waits"}


def test_the_waker_gives_up_before_lambda_does(start: Start, redis_url: str) -> None:
    """It is told how much time is left; the error is not one of Lambda's."""
    with (
        closing(redis.Redis.from_url(redis_url)) as client,
        start("waker", TLFIF_REDIS_URL=redis_url, TLFIF_BUCKET="tl-fif") as function,
    ):
        client.set(job_key(JOB_ID), "{}")
        client.zadd(QUEUE_OPEN, {JOB_ID: time.time()})
        assert function.invoke(sample("every-minute")) == {"outcome": "refused: EndpointConnectionError"}


def test_the_reaper_cannot_do_without_ec2(start: Start, redis_url: str) -> None:
    """Which Lambda counts as an error, and the schedule tries again."""
    with (
        start("reaper", TLFIF_REDIS_URL=redis_url) as function,
        pytest.raises(FunctionFailed, match="EC2 cannot be reached") as failed,
    ):
        function.invoke(sample("every-minute"))
    assert failed.value.kind == "Ec2Unavailable"
