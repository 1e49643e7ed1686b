"""Small objects that are PUT without the SDK, and what is left to the SDK after all."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import uuid4

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from local.s3_server import S3Server
from worker.put import PreconditionFailed, Put
from worker.reply import Document
from worker.store import ReplyStore


@dataclass(frozen=True)
class Keys:
    """Credentials as the SDK has them: frozen for one request, other ones for the next."""

    access_key: str = "AKIDEXAMPLE"
    secret_key: str = "secret"
    token: str | None = None
    asked: list[int] = field(default_factory=list)

    async def get_frozen_credentials(self) -> Keys:
        """Return the next ones."""
        self.asked.append(1)
        return replace(self, token=f"token-{len(self.asked)}")


@dataclass
class Answering:
    """A server that answers as it is told, and what it was asked."""

    server: TestServer
    answer: Callable[[web.Request], web.StreamResponse]
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    async def put(self, headers: dict[str, str] | None = None) -> str | None:
        """PUT something there."""
        async with aiohttp.ClientSession() as http:
            put = Put(http, str(self.server.make_url("/bucket/")), "eu-central-1", Keys())
            return await put.send("replies/some key.json", b"{}", headers or {})


@pytest.fixture
async def answering() -> AsyncIterator[Answering]:
    """Yield a server; it accepts everything unless told otherwise."""

    async def handle(request: web.Request) -> web.StreamResponse:
        made.asked.append((request.raw_path, dict(request.headers), await request.read()))
        return made.answer(request)

    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handle)
    made = Answering(TestServer(application), lambda _: web.Response(headers={"ETag": '"one"'}))
    await made.server.start_server()
    yield made
    await made.server.close()


async def test_it_is_signed_and_says_what_it_is_told_to(answering: Answering) -> None:
    """Every header that counts is part of the signature, the token of temporary credentials too."""
    assert await answering.put({"If-None-Match": "*", "x-amz-meta-writer": "me"}) == '"one"'
    ((path, headers, body),) = answering.asked
    assert (path, body) == ("/bucket/replies/some%20key.json", b"{}")
    assert (headers["If-None-Match"], headers["x-amz-meta-writer"]) == ("*", "me")
    assert headers["X-Amz-Security-Token"] == "token-1"
    signed = headers["Authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
    assert {"host", "if-none-match", "x-amz-meta-writer", "x-amz-security-token", "x-amz-date"} <= set(signed)


async def test_a_condition_that_does_not_hold_is_told_apart(answering: Answering) -> None:
    """It is no failure: the object is somebody else's, or this very write was there before."""
    answering.answer = lambda _: web.Response(status=412)
    with pytest.raises(PreconditionFailed):
        await answering.put()


@pytest.mark.parametrize("status", [301, 307, 403, 404, 409, 500, 503])
async def test_whatever_is_not_plain_is_left_to_the_sdk(answering: Answering, status: int) -> None:
    """No redirect is followed: the signature would be wrong there."""
    answering.answer = lambda _: web.Response(status=status, headers={"Location": "/elsewhere", "ETag": '"no"'})
    assert await answering.put() is None
    assert len(answering.asked) == 1


async def test_an_answer_that_does_not_come_is_left_to_the_sdk(answering: Answering) -> None:
    """The connection breaks, or there is nobody."""

    def hang_up(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        request.transport.close()
        return web.Response()

    answering.answer = hang_up
    assert await answering.put() is None
    assert answering.asked
    async with aiohttp.ClientSession() as http:
        assert await Put(http, "http://127.0.0.1:1/bucket/", "eu-central-1", Keys()).send("key", b"", {}) is None


async def test_a_proxy_of_the_environment_is_used(answering: Answering, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the SDK does; the address is then what the proxy is asked for."""
    proxy = str(answering.server.make_url("/"))
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setenv("no_proxy", "minio.example")
    async with aiohttp.ClientSession() as http:
        put = Put(http, "http://s3.example/bucket/", "eu-central-1", Keys())
        assert await put.send("key", b"", {}) == '"one"'
        assert Put(http, "http://minio.example/bucket/", "eu-central-1", Keys())._proxy is None
    assert answering.asked[0][0] == "http://s3.example/bucket/key"
    assert answering.asked[0][1]["Host"] == "s3.example"


async def test_credentials_are_asked_for_anew_each_time(answering: Answering) -> None:
    """Those of an instance role change every few hours."""
    keys = Keys()
    async with aiohttp.ClientSession() as http:
        put = Put(http, str(answering.server.make_url("/bucket/")), "eu-central-1", keys)
        for _ in range(2):
            await put.send("key", b"", {})
    assert [headers["X-Amz-Security-Token"] for _, headers, _ in answering.asked] == ["token-1", "token-2"]


async def test_without_credentials_nothing_is_sent(answering: Answering) -> None:
    """The SDK has the words for it."""
    async with aiohttp.ClientSession() as http:
        put = Put(http, str(answering.server.make_url("/bucket/")), "eu-central-1", None)
        assert await put.send("key", b"", {}) is None
    assert answering.asked == []


@pytest.fixture
def s3(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Point the SDK at the S3 server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


def document(content: Any) -> Document:
    """Return a small document."""
    body = json.dumps(content).encode()
    return Document([body], len(body))


async def test_it_goes_where_the_sdk_would_send_it(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real server takes it, with the SDK kept out of the way, and gives it back."""
    key = f"replies/{uuid4()}.json"
    async with ReplyStore.open(s3.bucket, connections=2) as store:
        with monkeypatch.context() as patched:
            patched.setattr(store, "_write_by_sdk", None)
            first = await store.write(key, document(1), after=None, writer="run-1")
            second = await store.write(key, document(2), after=first, writer="run-1")
        assert await store.read(key) == (b"2", second)
        head = await store._client.head_object(Bucket=s3.bucket, Key=key)
        assert (head["ContentType"], head["Metadata"]) == ("application/json", {"writer": "run-1"})


async def test_the_sdk_takes_over_with_the_same_condition(s3: S3Server) -> None:
    """A store whose plain PUTs reach nobody writes all the same, and still refuses a stranger."""
    key = f"replies/{uuid4()}.json"
    async with ReplyStore.open(s3.bucket, connections=2) as store, aiohttp.ClientSession() as http:
        assert store._put is not None
        store._put = Put(http, "http://127.0.0.1:1/nowhere/", "eu-central-1", store._put._credentials)
        etag = await store.write(key, document(1), after=None, writer="run-1")
        assert await store.read(key) == (b"1", etag)
        with pytest.raises(Exception, match="another run"):
            await store.write(key, document(2), after=None, writer="run-2")


@pytest.mark.parametrize(
    ("variables", "url"),
    [
        ({}, "https://some-bucket.s3.eu-central-1.amazonaws.com/"),
        ({"AWS_USE_DUALSTACK_ENDPOINT": "true"}, "https://some-bucket.s3.dualstack.eu-central-1.amazonaws.com/"),
        ({"AWS_ENDPOINT_URL_S3": "http://minio:9000"}, "http://minio:9000/some-bucket/"),
    ],
)
async def test_the_address_is_the_sdk_s(variables: dict[str, str], url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """AWS's own, its dual-stack one, and that of another server."""
    fixed = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}
    keys = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any"}
    for name, value in (fixed | keys | variables).items():
        monkeypatch.setenv(name, value)
    async with ReplyStore.open("some-bucket", connections=1) as store:
        assert store._put is not None
        assert store._put._bucket_url == url
