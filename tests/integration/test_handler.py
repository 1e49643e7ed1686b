"""Lambda's entry point with a real Redis and a real S3 server, all settings from the environment."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import boto3
import httpx
import pytest
import redis

from local.redis_server import RedisServer
from local.s3_server import S3Server
from router_lambda import handler as module
from router_lambda.handler import handler
from router_lambda.job import QUEUE_READY, Job, job_key, reply_key
from tests.router_samples import event
from tests.router_world import beat

PROMPT = '{"prompt": "a"}'


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, redis_url: str, s3_server: S3Server) -> Iterator[None]:
    """Set what Lambda's configuration sets, and forget the router of the test before."""
    settings = s3_server.environment() | {"TLFIF_REDIS_URL": redis_url, "TLFIF_BUCKET": s3_server.bucket}
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    module._app.cache_clear()
    yield
    module._app.cache_clear()


@pytest.fixture(autouse=True)
def _worker(_environment: None, client: redis.Redis) -> None:
    """Let a worker be alive, so that nobody asks for EC2."""
    beat(client)


def infer(body: str = PROMPT) -> dict[str, Any]:
    """Send a request of a new user to the handler."""
    return handler(event("POST", "/infer", body, authorizer={"lambda": {"sub": str(uuid4())}}), None)


def write_reply(job_id: str, document: bytes, s3_server: S3Server) -> None:
    """Write a reply object as the worker does."""
    client: Any = boto3.Session().client("s3")
    client.put_object(Bucket=s3_server.bucket, Key=reply_key(job_id), Body=document)


def test_the_location_leads_to_the_reply_once_there_is_one(s3_server: S3Server) -> None:
    """404 before the worker writes, the document after."""
    answer = infer()
    location = answer["headers"]["location"]

    before = httpx.get(location)
    write_reply(answer["headers"]["x-request-id"], b'{"status": "streaming"}', s3_server)
    after = httpx.get(location)

    assert answer["statusCode"] == 202
    assert before.status_code == 404
    assert (after.status_code, after.json()) == (200, {"status": "streaming"})


def test_the_location_opens_nothing_else(s3_server: S3Server) -> None:
    """A changed signature, another job's key, another method and a longer life are all refused."""
    mine, other = infer(), infer()
    my_id, other_id = (answer["headers"]["x-request-id"] for answer in (mine, other))
    location = mine["headers"]["location"]
    write_reply(my_id, b"{}", s3_server)
    write_reply(other_id, b"{}", s3_server)
    last = "0" if location[-1] != "0" else "1"
    assert "X-Amz-Signature" in location.rsplit("&", 1)[1]

    refused = [
        httpx.get(location[:-1] + last),
        httpx.get(location.replace(my_id, other_id)),
        httpx.put(location, content=b"{}"),
        httpx.delete(location),
        httpx.get(location.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000")),
        httpx.get(location.split("?")[0]),
    ]

    assert [answer.status_code for answer in refused] == [403] * len(refused)
    assert httpx.get(location).status_code == 200


def test_the_job_waits_in_redis_as_the_worker_reads_it(client: redis.Redis, s3_server: S3Server) -> None:
    """One job, its id at the head of the list, its reply in the bucket that was signed for."""
    answer = infer('{"messages": [{"role": "user", "content": "é😀"}]}')

    job_id = json.loads(answer["body"])["id"]
    payload = client.get(job_key(job_id))
    assert isinstance(payload, bytes)
    job = Job.from_json(payload)
    assert client.lrange(QUEUE_READY, 0, -1) == [job_id.encode()]
    assert job.messages == [{"role": "user", "content": "é😀"}]
    assert job.reply_path == f"s3://{s3_server.bucket}/replies/{job_id}.json"
    assert abs(job.enqueued_at - time.time()) < 60


@pytest.mark.parametrize("body", ["", "{}", '{"prompt": "a", "x": 1}', '{"prompt": "%s"}' % ("a" * 6_145)])
def test_a_bad_request_leaves_redis_empty(client: redis.Redis, body: str) -> None:
    """400, and no key of any kind."""
    assert infer(body)["statusCode"] == 400
    assert client.keys() == [b"worker:w1"]


def test_while_redis_is_down_clients_come_back_later(redis_server: RedisServer, client: redis.Redis) -> None:
    """503 within three seconds, and as soon as Redis is back the same process queues again."""
    assert infer()["statusCode"] == 202
    redis_server.kill()
    try:
        began = time.monotonic()
        answer = infer()
        took = time.monotonic() - began
    finally:
        redis_server.restart()

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert took < 3
    assert client.keys() == []
    beat(client)
    assert infer()["statusCode"] == 202


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_while_redis_hangs_clients_come_back_later(redis_server: RedisServer, *, warm: bool) -> None:
    """503 within three seconds even if Redis keeps the connection and says nothing."""
    if warm:
        infer()
    else:
        handler(event("GET", "/ping"), None)
    os.kill(redis_server.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        answer = infer()
        took = time.monotonic() - began
    finally:
        os.kill(redis_server.pid, signal.SIGCONT)

    assert (answer["statusCode"], answer["headers"]["retry-after"]) == (503, "5")
    assert 1 < took < 3
    assert infer()["statusCode"] == 202
