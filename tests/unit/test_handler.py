"""The router's answers to events of API Gateway, over a fake Redis; signing needs no network."""

from __future__ import annotations

import base64
import json
import logging
from collections.abc import Iterator
from typing import Any
from urllib.parse import parse_qs, urlsplit

import fakeredis
import pytest

from router_lambda import handler as module
from router_lambda.handler import Router
from router_lambda.job import QUEUE_READY, Job, is_job_id, job_key, reply_path
from router_lambda.queue import Queue
from router_lambda.replies import URL_SECONDS, Replies
from router_lambda.settings import RouterConfigError, RouterSettings
from tests.router_samples import event

NOW = 1_790_000_000.25
SETTINGS = RouterSettings(redis_url="redis://unused", bucket="tl-fif")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = '{"prompt": "a"}'


@pytest.fixture(scope="module")
def replies() -> Iterator[Replies]:
    """Yield a signer with made-up credentials in a region that is not the SDK's default."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        patch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
        for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
            patch.delenv(name, raising=False)
        yield Replies(SETTINGS.bucket)


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """Return a fake Redis that a test can take down."""
    return fakeredis.FakeServer()


@pytest.fixture
def redis(server: fakeredis.FakeServer) -> fakeredis.FakeRedis:
    """Return a client of the fake Redis."""
    return fakeredis.FakeRedis(server=server)


@pytest.fixture
def router(redis: fakeredis.FakeRedis, replies: Replies) -> Router:
    """Return a router whose clock stands still."""
    return Router(SETTINGS, Queue(redis), replies, clock=lambda: NOW)


def content(answer: dict[str, Any]) -> Any:
    """Return what the body of an answer holds, after a look at the shape that API Gateway wants."""
    assert answer.keys() == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["isBase64Encoded"] is False
    assert all(name == name.lower() and isinstance(value, str) for name, value in answer["headers"].items())
    return json.loads(answer["body"])


def problem(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the problem in an error answer, whose form is that of RFC 9457."""
    found: dict[str, Any] = content(answer)
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert found["type"] == "about:blank"
    assert found["status"] == answer["statusCode"]
    assert found["request_id"] == "request-1"
    assert found["title"]
    assert found["detail"]
    return found


def stored(redis: fakeredis.FakeRedis, answer: dict[str, Any]) -> Job:
    """Return the job that an answer is about."""
    payload = redis.get(job_key(content(answer)["id"]))
    assert isinstance(payload, bytes)
    return Job.from_json(payload)


# POST /infer


def test_a_prompt_is_queued_and_answered_with_its_id(router: Router, redis: fakeredis.FakeRedis) -> None:
    """202, and the id is that of the job that waits."""
    answer = router(event("POST", "/infer", PROMPT))

    job_id = content(answer)["id"]
    assert answer["statusCode"] == 202
    assert content(answer) == {"status": "queued", "id": job_id}
    assert is_job_id(job_id)
    assert answer["headers"].keys() == {"content-type", "x-request-id", "location"}
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["headers"]["x-request-id"] == job_id
    assert redis.lrange(QUEUE_READY, 0, -1) == [job_id.encode()]


def test_the_job_is_what_was_asked_for(router: Router, redis: fakeredis.FakeRedis) -> None:
    """Request, user, time and trace go into the job."""
    sent = json.dumps({"prompt": "é", "raw": True, "idle_minutes": 7, "params": {"n": 2}})
    answer = router(event("POST", "/infer", sent, headers={"traceparent": TRACEPARENT}))

    job_id = content(answer)["id"]
    assert stored(redis, answer) == Job(
        id=job_id,
        sub="user-1",
        prompt="é",
        messages=None,
        raw=True,
        params={"n": 2},
        idle_minutes=7,
        reply_path=reply_path(SETTINGS.bucket, job_id),
        enqueued_at=NOW,
        traceparent=TRACEPARENT,
    )


def test_the_location_is_signed_for_the_reply_and_for_its_region(router: Router) -> None:
    """The address names bucket, key and region: no signature survives the redirect of the global one."""
    answer = router(event("POST", "/infer", PROMPT))

    location = urlsplit(answer["headers"]["location"])
    query = parse_qs(location.query)
    assert location.scheme == "https"
    assert location.hostname == "tl-fif.s3.eu-central-1.amazonaws.com"
    assert location.path == f"/replies/{content(answer)['id']}.json"
    assert query["X-Amz-Algorithm"] == ["AWS4-HMAC-SHA256"]
    assert query["X-Amz-Expires"] == [str(URL_SECONDS)]
    assert "secret" not in answer["headers"]["location"]


def test_each_request_is_a_job_of_its_own(router: Router) -> None:
    """The same prompt twice is two jobs."""
    ids = {content(router(event("POST", "/infer", PROMPT)))["id"] for _ in range(10)}
    assert len(ids) == 10


@pytest.mark.parametrize(
    "authorizer",
    [
        *(None, {}, {"lambda": None}, {"lambda": {}}, {"lambda": {"sub": ""}}, {"lambda": {"sub": None}}),
        *({"lambda": {"sub": 5}}, {"lambda": {"sub": ["user-1"]}}, {"sub": "user-1"}),
        {"jwt": {"claims": {"sub": "user-1"}}},
    ],
)
@pytest.mark.parametrize("body", [PROMPT, "{}"])
def test_without_a_user_nothing_is_read_or_queued(
    router: Router, redis: fakeredis.FakeRedis, authorizer: object, body: str
) -> None:
    """An event without the authorizer's `sub` is a stranger's, however it came here."""
    answer = router(event("POST", "/infer", body, authorizer=authorizer, headers={"sub": "user-1"}))

    assert answer["statusCode"] == 401
    assert "errors" not in problem(answer)
    assert redis.keys() == []


@pytest.mark.parametrize("left_out", ["authorizer", "headers", "requestId"])
def test_an_event_may_lack_what_api_gateway_leaves_out(router: Router, left_out: str) -> None:
    """No authorizer, no headers, no request id: an answer, and no failure."""
    sent = event("POST", "/infer", PROMPT)
    sent.pop(left_out, None)
    sent["requestContext"].pop(left_out, None)

    assert router(sent)["statusCode"] == (401 if left_out == "authorizer" else 202)


def test_a_bad_request_names_every_field_and_queues_nothing(router: Router, redis: fakeredis.FakeRedis) -> None:
    """400 with all that is wrong, each by its path."""
    sent = {"prompt": "é" * 3_072 + "a", "raw": 1, "params": {"n": 9, "stop": [""]}, "model": "x"}
    answer = router(event("POST", "/infer", json.dumps(sent)))

    found = problem(answer)
    assert answer["statusCode"] == 400
    assert found["title"] == "Bad Request"
    fields = [error["field"] for error in found["errors"]]
    assert fields == ["prompt", "raw", "params.n", "params.stop[0]", "model"]
    assert found["errors"][0]["message"] == "is 6145 bytes long in UTF-8; at most 6144"
    assert redis.keys() == []


@pytest.mark.parametrize(
    ("body", "fields"),
    [
        (None, ["body"]),
        ("", ["body"]),
        ("[]", ["body"]),
        ("[" * 10_000, ["body"]),
        ('{"prompt": "\ud800"}', ["body"]),
        (r'{"prompt": "\ud800", "\udc00": 1}', ["prompt", "?"]),
        ('{"prompt": "%s", "raw": 0}' % ("a" * 1_048_576), ["body", "prompt", "raw"]),
    ],
    ids=["missing", "empty", "array", "nested", "not-utf8", "surrogate", "megabyte"],
)
def test_a_body_that_is_no_request_is_refused(
    router: Router, redis: fakeredis.FakeRedis, body: str | None, fields: list[str]
) -> None:
    """Whatever arrives, the answer is a 400 that can be encoded, and Redis stays empty."""
    answer = router(event("POST", "/infer", body))

    assert answer["statusCode"] == 400
    assert [error["field"] for error in problem(answer)["errors"]] == fields
    assert answer["body"].isascii()
    assert redis.keys() == []


def test_a_body_may_come_as_base64(router: Router, redis: fakeredis.FakeRedis) -> None:
    """API Gateway encodes what it takes for binary."""
    body = base64.b64encode('{"prompt": "é😀"}'.encode()).decode()
    answer = router(event("POST", "/infer", body, isBase64Encoded=True))

    assert stored(redis, answer).prompt == "é😀"


@pytest.mark.parametrize("body", ["a", "%%%%", PROMPT, "é", "YWJj\n", base64.b64encode(b"\xff").decode(), ""])
def test_base64_of_no_request_is_refused(router: Router, redis: fakeredis.FakeRedis, body: str) -> None:
    """Neither broken base64 nor whole base64 of something else is a request."""
    answer = router(event("POST", "/infer", body, isBase64Encoded=True))

    assert answer["statusCode"] == 400
    assert [error["field"] for error in problem(answer)["errors"]] == ["body"]
    assert redis.keys() == []


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_headers_are_found_in_any_case(router: Router, redis: fakeredis.FakeRedis, name: str) -> None:
    """API Gateway writes them in lower case, others may not."""
    answer = router(event("POST", "/infer", PROMPT, headers={name: TRACEPARENT}))

    assert stored(redis, answer).traceparent == TRACEPARENT


@pytest.mark.parametrize(
    "value",
    [
        *("", "00", TRACEPARENT.upper(), " " + TRACEPARENT, TRACEPARENT + "\n", TRACEPARENT + "-00"),
        *("ff" + TRACEPARENT[2:], TRACEPARENT[:-1], f"{TRACEPARENT},{TRACEPARENT}"),
        *(f"00-{'0' * 32}-00f067aa0ba902b7-01", TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16)),
    ],
)
def test_a_trace_that_is_none_is_left_out(router: Router, redis: fakeredis.FakeRedis, value: str) -> None:
    """A bad `traceparent` is ignored, as W3C Trace Context has it; the job is queued all the same."""
    answer = router(event("POST", "/infer", PROMPT, headers={"traceparent": value}))

    assert answer["statusCode"] == 202
    assert stored(redis, answer).traceparent is None


def test_without_redis_the_answer_is_to_try_again(
    router: Router, server: fakeredis.FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    """503 with `Retry-After`, and the line that the alarm counts."""
    server.connected = False
    answer = router(event("POST", "/infer", PROMPT))

    assert answer["statusCode"] == 503
    assert int(answer["headers"]["retry-after"]) > 0
    assert "location" not in answer["headers"]
    assert "Retry-After" in problem(answer)["detail"]
    assert [record.getMessage().split()[0] for record in caplog.records] == ["RedisEnqueueFail=1"]


def test_a_reply_that_cannot_be_signed_is_not_queued(redis: fakeredis.FakeRedis) -> None:
    """Nobody would ever read the answer of such a job."""

    class NoCredentials(Replies):
        def __init__(self) -> None:
            pass

        def sign_get(self, job_id: str) -> str:
            raise RuntimeError(job_id)

    with pytest.raises(RuntimeError):
        Router(SETTINGS, Queue(redis), NoCredentials())(event("POST", "/infer", PROMPT))

    assert redis.keys() == []


@pytest.mark.parametrize("fate", ["queued", "no-redis", "refused", "broken"])
def test_neither_prompt_nor_token_is_logged_or_sent_back(
    router: Router, server: fakeredis.FakeServer, caplog: pytest.LogCaptureFixture, fate: str
) -> None:
    """Whatever becomes of a request, its prompt and token stay out of the answer and of every log."""
    caplog.set_level(logging.DEBUG)
    server.connected = fate != "no-redis"
    fields = {"prompt": "hunter2", "params": {"stop": "hunter2"}} | ({"raw": "hunter2"} if fate == "refused" else {})
    body = json.dumps(fields)[: -1 if fate == "broken" else None]

    answer = router(event("POST", "/infer", body, headers={"Authorization": "Bearer hunter3"}))

    said = json.dumps(answer) + caplog.text + "".join(str(vars(record)) for record in caplog.records)
    assert answer["statusCode"] == {"queued": 202, "no-redis": 503}.get(fate, 400)
    assert "hunter" not in said


# The other routes


def test_a_ping_needs_neither_user_nor_redis(router: Router, server: fakeredis.FakeServer) -> None:
    """The router itself is alive."""
    server.connected = False
    answer = router(event("GET", "/ping", authorizer=None))

    assert (answer["statusCode"], content(answer)) == (200, {"status": "ok"})


@pytest.mark.parametrize("path", ["/", "/infer/", "/Infer", "/infer/x", "/hunter2", ""])
def test_an_unknown_path_is_not_found(router: Router, redis: fakeredis.FakeRedis, path: str) -> None:
    """404 with the known routes, and without the path, which may hold anything."""
    answer = router(event("POST", path, PROMPT))

    assert answer["statusCode"] == 404
    assert "/infer, /ping" in problem(answer)["detail"]
    assert "hunter2" not in answer["body"]
    assert redis.keys() == []


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", "/infer", "POST"), ("DELETE", "/infer", "POST"), ("POST", "/ping", "GET")],
)
def test_a_method_that_a_route_lacks_is_not_allowed(
    router: Router, redis: fakeredis.FakeRedis, method: str, path: str, allow: str
) -> None:
    """405 with the methods that there are."""
    answer = router(event(method, path, PROMPT))

    assert answer["statusCode"] == 405
    assert answer["headers"]["allow"] == allow
    assert allow in problem(answer)["detail"]
    assert redis.keys() == []


# Settings and Lambda's entry point


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "TLFIF_REDIS_URL and TLFIF_BUCKET"),
        ({"TLFIF_REDIS_URL": "", "TLFIF_BUCKET": ""}, "TLFIF_REDIS_URL and TLFIF_BUCKET"),
        ({"TLFIF_BUCKET": "b"}, "set TLFIF_REDIS_URL in"),
        ({"TLFIF_REDIS_URL": "redis://:hunter2@host"}, "set TLFIF_BUCKET in"),
    ],
)
def test_missing_settings_are_named_at_once(environment: dict[str, str], named: str) -> None:
    """One look at the message is enough to correct the function's environment."""
    with pytest.raises(RouterConfigError, match=named) as refused:
        RouterSettings.from_environment(environment)
    assert "hunter2" not in str(refused.value)


def test_settings_are_read_from_the_environment() -> None:
    """Each setting from its variable; others are nobody's business."""
    environment = {"TLFIF_REDIS_URL": "redis://host", "TLFIF_BUCKET": "b", "PATH": "/bin"}
    assert RouterSettings.from_environment(environment) == RouterSettings(redis_url="redis://host", bucket="b")


def test_the_entry_point_reads_its_settings_once_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails while one is missing, works afterwards, and keeps what it built."""
    module._router.cache_clear()
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    monkeypatch.setenv("TLFIF_BUCKET", "tl-fif")
    monkeypatch.delenv("TLFIF_REDIS_URL", raising=False)
    with pytest.raises(RouterConfigError, match="TLFIF_REDIS_URL"):
        module.handler(event("GET", "/ping"), None)

    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    assert module.handler(event("GET", "/ping"), None)["statusCode"] == 200
    monkeypatch.delenv("TLFIF_BUCKET")
    assert module.handler(event("GET", "/ping"), None)["statusCode"] == 200
    module._router.cache_clear()
