"""`POST /infer` over a fake Redis and a fake EC2; signing needs no network."""

from __future__ import annotations

import base64
import json
import logging
from urllib.parse import parse_qs, urlsplit

import fakeredis
import pytest

from router_lambda.app import App
from router_lambda.job import GPU_CLOSING, QUEUE_READY, Job, is_job_id, reply_path
from router_lambda.replies import URL_SECONDS
from router_lambda.settings import RouterConfigError
from tests.router_samples import event
from tests.router_world import NOW, SETTINGS, FakeEc2, beat, content, metrics, problem, refusal, stored

TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
PROMPT = '{"prompt": "a"}'


# POST /infer


def test_a_prompt_is_queued_and_answered_with_its_id(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """202, the id is that of the job that waits, and EC2 is not asked while a worker is there."""
    beat(client)
    answer = router(event("POST", "/infer", PROMPT))

    job_id = content(answer)["id"]
    assert answer["statusCode"] == 202
    assert content(answer) == {"status": "queued", "id": job_id}
    assert is_job_id(job_id)
    assert answer["headers"].keys() == {"content-type", "x-request-id", "location"}
    assert answer["headers"]["content-type"] == "application/json"
    assert answer["headers"]["x-request-id"] == job_id
    assert client.lrange(QUEUE_READY, 0, -1) == [job_id.encode()]
    assert ec2.calls == []


def test_the_job_is_what_was_asked_for(router: App, client: fakeredis.FakeRedis) -> None:
    """Request, user, time and trace go into the job."""
    sent = json.dumps({"prompt": "é", "raw": True, "idle_minutes": 7, "params": {"n": 2}})
    answer = router(event("POST", "/infer", sent, headers={"traceparent": TRACEPARENT}))

    job_id = content(answer)["id"]
    assert stored(client, answer) == Job(
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


def test_the_location_is_signed_for_the_reply_and_for_its_region(router: App) -> None:
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


def test_each_request_is_a_job_of_its_own(router: App) -> None:
    """The same prompt twice is two jobs."""
    ids = {content(router(event("POST", "/infer", PROMPT)))["id"] for _ in range(5)}
    assert len(ids) == 5


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
    router: App, client: fakeredis.FakeRedis, authorizer: object, body: str
) -> None:
    """An event without the authorizer's `sub` is a stranger's, however it came here."""
    answer = router(event("POST", "/infer", body, authorizer=authorizer, headers={"sub": "user-1"}))

    assert answer["statusCode"] == 401
    assert "errors" not in problem(answer)
    assert client.keys() == []


@pytest.mark.parametrize("left_out", ["authorizer", "headers", "requestId"])
def test_an_event_may_lack_what_api_gateway_leaves_out(router: App, left_out: str) -> None:
    """No authorizer, no headers, no request id: an answer, and no failure."""
    sent = event("POST", "/infer", PROMPT)
    sent.pop(left_out, None)
    sent["requestContext"].pop(left_out, None)

    assert router(sent)["statusCode"] == (401 if left_out == "authorizer" else 202)


def test_a_bad_request_names_every_field_and_queues_nothing(router: App, client: fakeredis.FakeRedis) -> None:
    """400 with all that is wrong, each by its path."""
    sent = {"prompt": "é" * 3_072 + "a", "raw": 1, "params": {"n": 9, "stop": [""]}, "model": "x"}
    answer = router(event("POST", "/infer", json.dumps(sent)))

    found = problem(answer)
    assert answer["statusCode"] == 400
    assert found["title"] == "Bad Request"
    fields = [error["field"] for error in found["errors"]]
    assert fields == ["prompt", "raw", "params.n", "params.stop[0]", "model"]
    assert found["errors"][0]["message"] == "is 6145 bytes long in UTF-8; at most 6144"
    assert client.keys() == []


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
    router: App, client: fakeredis.FakeRedis, body: str | None, fields: list[str]
) -> None:
    """Whatever arrives, the answer is a 400 that can be encoded, and Redis stays empty."""
    answer = router(event("POST", "/infer", body))

    assert answer["statusCode"] == 400
    assert [error["field"] for error in problem(answer)["errors"]] == fields
    assert answer["body"].isascii()
    assert client.keys() == []


def test_a_body_may_come_as_base64(router: App, client: fakeredis.FakeRedis) -> None:
    """API Gateway encodes what it takes for binary."""
    body = base64.b64encode('{"prompt": "é😀"}'.encode()).decode()
    answer = router(event("POST", "/infer", body, isBase64Encoded=True))

    assert stored(client, answer).prompt == "é😀"


@pytest.mark.parametrize("body", ["a", "%%%%", PROMPT, "é", "YWJj\n", base64.b64encode(b"\xff").decode(), ""])
def test_base64_of_no_request_is_refused(router: App, client: fakeredis.FakeRedis, body: str) -> None:
    """Neither broken base64 nor whole base64 of something else is a request."""
    answer = router(event("POST", "/infer", body, isBase64Encoded=True))

    assert answer["statusCode"] == 400
    assert [error["field"] for error in problem(answer)["errors"]] == ["body"]
    assert client.keys() == []


@pytest.mark.parametrize("name", ["traceparent", "Traceparent", "TRACEPARENT"])
def test_headers_are_found_in_any_case(router: App, client: fakeredis.FakeRedis, name: str) -> None:
    """API Gateway writes them in lower case, others may not."""
    answer = router(event("POST", "/infer", PROMPT, headers={name: TRACEPARENT}))

    assert stored(client, answer).traceparent == TRACEPARENT


@pytest.mark.parametrize(
    "value",
    [
        *("", "00", TRACEPARENT.upper(), " " + TRACEPARENT, TRACEPARENT + "\n", TRACEPARENT + "-00"),
        *("ff" + TRACEPARENT[2:], TRACEPARENT[:-1], f"{TRACEPARENT},{TRACEPARENT}"),
        *(f"00-{'0' * 32}-00f067aa0ba902b7-01", TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16)),
    ],
)
def test_a_trace_that_is_none_is_left_out(router: App, client: fakeredis.FakeRedis, value: str) -> None:
    """A bad `traceparent` is ignored, as W3C Trace Context has it; the job is queued all the same."""
    answer = router(event("POST", "/infer", PROMPT, headers={"traceparent": value}))

    assert answer["statusCode"] == 202
    assert stored(client, answer).traceparent is None


def test_without_redis_the_answer_is_to_try_again(
    router: App, server: fakeredis.FakeServer, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]
) -> None:
    """503 with `Retry-After`, the metric that the alarm counts, and no GPU that nobody could use."""
    server.connected = False
    answer = router(event("POST", "/infer", PROMPT))

    said = capsys.readouterr().out
    assert answer["statusCode"] == 503
    assert int(answer["headers"]["retry-after"]) > 0
    assert "location" not in answer["headers"]
    assert "Retry-After" in problem(answer)["detail"]
    assert metrics(said) == ["RedisEnqueueFail"]
    assert "RedisEnqueueFail=1" in said
    assert ec2.calls == []


def test_a_reply_that_cannot_be_signed_is_not_queued(
    router: App, client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody would ever read the answer of such a job."""
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(RouterConfigError):
        router(event("POST", "/infer", PROMPT))

    assert client.keys() == []


@pytest.mark.parametrize("fate", ["queued", "no-redis", "refused", "broken"])
def test_neither_prompt_nor_token_is_logged_or_sent_back(
    router: App,
    server: fakeredis.FakeServer,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
    fate: str,
) -> None:
    """Whatever becomes of a request, its prompt and token stay out of the answer and of every log."""
    caplog.set_level(logging.DEBUG)
    server.connected = fate != "no-redis"
    fields = {"prompt": "hunter2", "params": {"stop": "hunter2"}} | ({"raw": "hunter2"} if fate == "refused" else {})
    body = json.dumps(fields)[: -1 if fate == "broken" else None]

    answer = router(event("POST", "/infer", body, headers={"Authorization": "Bearer hunter3"}))

    said = (
        json.dumps(answer)
        + capsys.readouterr().out
        + caplog.text
        + "".join(str(vars(record)) for record in caplog.records)
    )
    assert answer["statusCode"] == {"queued": 202, "no-redis": 503}.get(fate, 400)
    assert "hunter" not in said


# The GPU


def test_without_a_worker_the_gpu_is_started(router: App, ec2: FakeEc2, capsys: pytest.CaptureFixture[str]) -> None:
    """`starting`, with the time it takes in the body and in `Retry-After`."""
    answer = router(event("POST", "/infer", PROMPT))

    assert answer["statusCode"] == 202
    assert content(answer) == {"status": "starting", "eta": 90, "id": answer["headers"]["x-request-id"]}
    assert answer["headers"]["retry-after"] == "90"
    assert "/replies/" in answer["headers"]["location"]
    assert ec2.state == "pending"
    assert metrics(capsys.readouterr().out) == ["EC2Starts"]


def test_a_closing_gpu_is_not_counted_on(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """Its heartbeat is still there, but it will stop without a look at the queue."""
    beat(client)
    client.set(GPU_CLOSING, "w1", ex=170)
    ec2.state = "running"

    answer = router(event("POST", "/infer", PROMPT))

    assert content(answer)["status"] == "starting"
    assert client.llen(QUEUE_READY) == 1


@pytest.mark.parametrize("failing", ["start_instances", "describe_instances"])
def test_a_job_that_nobody_will_run_is_not_kept(
    router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, failing: str
) -> None:
    """503 with what to do, and nothing of the job in Redis: its sender will send it again."""
    ec2.failures[failing] = refusal("InsufficientInstanceCapacity")

    answer = router(event("POST", "/infer", PROMPT, headers={"Idempotency-Key": "k"}))

    assert answer["statusCode"] == 503
    assert answer["headers"]["retry-after"] == "60"
    assert "no GPU of this type" in problem(answer)["detail"]
    assert {key.split(b":")[0] for key in client.scan_iter()} <= {b"rate", b"gpu"}


def test_a_job_that_a_worker_took_meanwhile_is_accepted(
    router: App, client: fakeredis.FakeRedis, ec2: FakeEc2, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker came up while EC2 refused to start another: it has the job, so there is nothing to send again."""

    def pop_and_refuse(**_: object) -> None:
        client.lpop(QUEUE_READY)
        raise refusal("InsufficientInstanceCapacity")

    monkeypatch.setattr(ec2, "describe_instances", pop_and_refuse)
    answer = router(event("POST", "/infer", PROMPT))

    assert (answer["statusCode"], content(answer)["status"]) == (202, "queued")
    assert stored(client, answer)


def test_a_full_queue_says_when_to_come_back(router: App, client: fakeredis.FakeRedis, ec2: FakeEc2) -> None:
    """503, nothing queued, nothing started."""
    client.rpush(QUEUE_READY, *map(str, range(10_000)))

    answer = router(event("POST", "/infer", PROMPT))

    assert answer["statusCode"] == 503
    assert 1 <= int(answer["headers"]["retry-after"]) <= 300
    assert "many jobs wait" in problem(answer)["detail"]
    assert client.llen(QUEUE_READY) == 10_000
    assert client.keys("job:*") == []
    assert ec2.calls == []


# Sending again


def test_a_repeated_request_is_one_job(router: App, client: fakeredis.FakeRedis) -> None:
    """The same id and a link to the same reply, once and again; another key or user is another job."""
    beat(client)
    sent = event("POST", "/infer", PROMPT, headers={"idempotency-key": "k"})
    first, second = router(sent), router(sent)
    other = router(event("POST", "/infer", PROMPT, headers={"idempotency-key": "l"}))
    stranger = router(sent | {"requestContext": sent["requestContext"] | {"authorizer": {"lambda": {"sub": "user-2"}}}})

    ids = [content(each)["id"] for each in (first, second, other, stranger)]
    assert ids[0] == ids[1] == second["headers"]["x-request-id"]
    assert f"/replies/{ids[0]}.json?" in second["headers"]["location"]
    assert len(set(ids)) == client.llen(QUEUE_READY) == 3


def test_a_repeated_request_of_a_finished_job_wakes_nobody(
    router: App, client: fakeredis.FakeRedis, ec2: FakeEc2
) -> None:
    """Its reply is there to be read."""
    beat(client)
    sent = event("POST", "/infer", PROMPT, headers={"idempotency-key": "k"})
    first = router(sent)
    client.delete("queue:ready", "queue:open", "worker:w1")

    again = router(sent)

    assert content(again) == {"status": "queued", "id": content(first)["id"]}
    assert ec2.calls == []


def test_a_repeated_request_that_cannot_be_served_keeps_the_first_one(
    router: App, client: fakeredis.FakeRedis, ec2: FakeEc2
) -> None:
    """The first was accepted; that the GPU cannot be asked for now is no reason to forget it."""
    sent = event("POST", "/infer", PROMPT, headers={"idempotency-key": "k"})
    router(sent)
    ec2.failures["describe_instances"] = refusal("Unavailable")

    assert router(sent)["statusCode"] == 503
    assert client.llen(QUEUE_READY) == 1


@pytest.mark.parametrize("key", ["", "a" * 65, "é", "a\tb", "a\x00", "\x7f"])
def test_a_bad_idempotency_key_is_named_with_the_other_faults(
    router: App, client: fakeredis.FakeRedis, key: str
) -> None:
    """400, and the field is the header."""
    answer = router(event("POST", "/infer", '{"raw": 1}', headers={"Idempotency-Key": key}))

    assert [error["field"] for error in problem(answer)["errors"]] == ["Idempotency-Key", "raw", "prompt"]
    assert client.keys() == []


# Too often


def test_the_sixth_rapid_call_has_to_wait(
    router: App, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """429 with a wait, counted as a breach; bad requests before it do not count, another user's calls neither."""
    beat(client)
    for _ in range(3):
        assert router(event("POST", "/infer", "{}"))["statusCode"] == 400
    statuses = [router(event("POST", "/infer", PROMPT))["statusCode"] for _ in range(5)]
    sixth = router(event("POST", "/infer", PROMPT))

    assert statuses == [202] * 5
    assert sixth["statusCode"] == 429
    assert 1 <= int(sixth["headers"]["retry-after"]) <= 3
    assert "Retry-After" in problem(sixth)["detail"]
    assert client.llen(QUEUE_READY) == 5
    assert metrics(capsys.readouterr().out) == ["RateLimitBreaches"]
    stranger = event("POST", "/infer", PROMPT, authorizer={"lambda": {"sub": "user-2"}})
    assert router(stranger)["statusCode"] == 202
