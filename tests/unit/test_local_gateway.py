"""The gateway as a client sees it, and the events that a handler behind it gets."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from local.gateway import MAX_BODY_BYTES, Gateway, LambdaContext

NOT_UTF8 = b'{"prompt": "\xff"}'


class Recorder:
    """A handler that keeps what it is given and answers what it is told to."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.contexts: list[Any] = []
        self.answer: Any = {"statusCode": 200, "headers": {"content-type": "application/json"}, "body": "{}"}

    def __call__(self, event: dict[str, Any], context: object) -> dict[str, Any]:
        """Record one invocation."""
        self.events.append(event)
        self.contexts.append(context)
        answer: dict[str, Any] = self.answer
        return answer

    @property
    def event(self) -> dict[str, Any]:
        """The only event."""
        (event,) = self.events
        return event


async def health() -> Mapping[str, Any]:
    """Answer what the stack would."""
    return {"pids": {"worker": 7}, "worker": {"state": "ready"}}


@pytest.fixture
def handler() -> Recorder:
    """Return a fresh recorder."""
    return Recorder()


@pytest.fixture
def gateway(handler: Recorder) -> Gateway:
    """Return a gateway in front of the recorder."""
    return Gateway(handler, health)


@pytest_asyncio.fixture
async def client(gateway: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that calls the gateway without a network, with the right token."""
    headers = {"authorization": f"Bearer {gateway.token}"}
    transport = httpx.ASGITransport(gateway, client=("127.0.0.9", 4711))
    async with httpx.AsyncClient(transport=transport, base_url="http://edge.test", headers=headers) as client:
        yield client


async def test_request_becomes_event(client: httpx.AsyncClient, handler: Recorder) -> None:
    """Method, path, query, address and agent are where payload format 2.0 has them."""
    await client.get("/infer?a=1&a=2&b=%20", headers={"user-agent": "me"})
    event, context = handler.event, handler.event["requestContext"]
    assert (event["version"], event["routeKey"], context["stage"]) == ("2.0", "$default", "$default")
    assert (event["rawPath"], event["rawQueryString"]) == ("/infer", "a=1&a=2&b=%20")
    assert event["queryStringParameters"] == {"a": "1,2", "b": " "}
    assert context["http"] == {
        "method": "GET",
        "path": "/infer",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.9",
        "userAgent": "me",
    }
    assert context["domainName"] == "edge.test"
    assert "body" not in event
    json.dumps(event)


async def test_repeated_headers_are_joined(client: httpx.AsyncClient, handler: Recorder) -> None:
    """Header names come in lower case, repeated ones as one value; cookies come apart from them."""
    await client.get("/x", headers=[("X-Twice", "1"), ("x-twice", "2"), ("Cookie", "a=1; b=2")])
    assert handler.event["headers"]["x-twice"] == "1,2"
    assert handler.event["cookies"] == ["a=1", "b=2"]
    assert "cookie" not in handler.event["headers"]


@pytest.mark.parametrize("content_type", ["application/json", "text/plain; charset=utf-8", "application/x+json", None])
async def test_text_stays_text(client: httpx.AsyncClient, handler: Recorder, content_type: str | None) -> None:
    """A body in UTF-8 of a textual type, or of none, arrives as it was sent."""
    await client.post(
        "/infer", content="grüße 🦙".encode(), headers={"content-type": content_type} if content_type else {}
    )
    assert (handler.event["body"], handler.event["isBase64Encoded"]) == ("grüße 🦙", False)


@pytest.mark.parametrize(
    ("body", "content_type"),
    [
        (NOT_UTF8, "application/json"),
        (b"plain", "application/octet-stream"),
        (b"a=1", "application/x-www-form-urlencoded"),
    ],
)
async def test_the_rest_is_base64(client: httpx.AsyncClient, handler: Recorder, body: bytes, content_type: str) -> None:
    """Bytes that are no text, or do not claim to be, arrive unharmed as base64."""
    await client.post("/infer", content=body, headers={"content-type": content_type})
    assert handler.event["isBase64Encoded"] is True
    assert base64.b64decode(handler.event["body"]) == body


async def test_answer_becomes_response(client: httpx.AsyncClient, handler: Recorder) -> None:
    """Status, headers, every cookie and the body come back."""
    handler.answer = {"statusCode": 202, "headers": {"X-A": "1"}, "cookies": ["a=1", "b=2"], "body": "é"}
    response = await client.get("/x")
    assert (response.status_code, response.content, response.headers["x-a"]) == (202, "é".encode(), "1")
    assert response.headers.get_list("set-cookie") == ["a=1", "b=2"]


async def test_binary_answer(client: httpx.AsyncClient, handler: Recorder) -> None:
    """A body in base64 is decoded."""
    handler.answer = {"statusCode": 200, "body": base64.b64encode(NOT_UTF8).decode(), "isBase64Encoded": True}
    assert (await client.get("/x")).content == NOT_UTF8


@pytest.mark.parametrize("authorization", [b"Bearer wrong", b"Bearer \xfc", b"Basic {token}", b""])
async def test_wrong_token_is_403(
    client: httpx.AsyncClient, gateway: Gateway, handler: Recorder, authorization: bytes
) -> None:
    """The edge refuses in API Gateway's words, and the handler hears nothing of it."""
    del client.headers["authorization"]
    header = (b"authorization", authorization.replace(b"{token}", gateway.token.encode()))
    response = await client.post("/infer", content=b"{}", headers=[header])
    assert (response.status_code, response.json()) == (403, {"message": "Forbidden"})
    assert handler.events == []


async def test_missing_token_is_401(client: httpx.AsyncClient, handler: Recorder) -> None:
    """A request without the header is refused with another status than one with a bad token."""
    del client.headers["authorization"]
    response = await client.post("/infer", content=b"{}")
    assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})
    assert handler.events == []


async def test_right_token_names_the_caller(client: httpx.AsyncClient, handler: Recorder) -> None:
    """The handler gets what the authorizer would add."""
    await client.post("/infer", content=b"{}")
    assert handler.event["requestContext"]["authorizer"] == {"lambda": {"sub": "local"}}


@pytest.mark.parametrize(("method", "path"), [("GET", "/ping"), ("OPTIONS", "/infer")])
async def test_open_routes(client: httpx.AsyncClient, handler: Recorder, method: str, path: str) -> None:
    """`/ping` and preflights need no token, and get no identity."""
    del client.headers["authorization"]
    assert (await client.request(method, path)).status_code == 200
    assert "authorizer" not in handler.event["requestContext"]


async def test_healthz_is_the_gateways_own(client: httpx.AsyncClient, handler: Recorder) -> None:
    """`/healthz` needs no token and never reaches the handler."""
    del client.headers["authorization"]
    response = await client.get("/healthz")
    assert response.json() == {"pids": {"worker": 7}, "worker": {"state": "ready"}}
    assert handler.events == []


async def test_too_long_body_is_413(client: httpx.AsyncClient, handler: Recorder) -> None:
    """One byte over 10 MB is refused at the edge, 10 MB are not."""
    response = await client.post("/infer", content=bytes(MAX_BODY_BYTES + 1))
    assert (response.status_code, response.json()) == (413, {"message": "Request Entity Too Large"})
    assert handler.events == []
    assert (await client.post("/infer", content=bytes(MAX_BODY_BYTES))).status_code == 200


@pytest.mark.parametrize(
    "answer", [None, {"body": "no status"}, {"statusCode": 200, "body": "?", "isBase64Encoded": True}]
)
async def test_broken_handler_is_500(
    client: httpx.AsyncClient, handler: Recorder, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """A handler that raises or answers nonsense gives a 500 without details; the log has them."""
    handler.answer = answer
    response = await client.get("/x")
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})
    assert "the handler failed" in caplog.text


async def test_context_counts_down(client: httpx.AsyncClient, handler: Recorder) -> None:
    """The context has the request's id and the time that is left."""
    response = await client.get("/x")
    (context,) = handler.contexts
    assert isinstance(context, LambdaContext)
    assert context.aws_request_id == handler.event["requestContext"]["requestId"] == response.headers["apigw-requestid"]
    assert 0 < context.get_remaining_time_in_millis() <= 10_000
    assert LambdaContext("id", deadline=0.0).get_remaining_time_in_millis() == 0
