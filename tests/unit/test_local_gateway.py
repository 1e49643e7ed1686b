"""The gateway as a client sees it, and the events that the Lambdas behind it get."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
import pytest
import pytest_asyncio

from local.gateway import MAX_BODY_BYTES, Gateway, LambdaContext

NOT_UTF8 = b'{"prompt": "\xff"}'
TOKEN = "Bearer a-token"
CLAIMS = {"sub": "user-1", "exp": 1_790_000_000}


class Recorder:
    """A Lambda that keeps what it is given and answers what it is told to."""

    def __init__(self, answer: Any) -> None:
        self.events: list[dict[str, Any]] = []
        self.contexts: list[Any] = []
        self.answer = answer

    def __call__(self, event: dict[str, Any], context: object) -> dict[str, Any]:
        """Record one invocation."""
        self.events.append(event)
        self.contexts.append(context)
        if isinstance(self.answer, Exception):
            raise self.answer
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
    """Return a router that answers 200."""
    return Recorder({"statusCode": 200, "headers": {"content-type": "application/json"}, "body": "{}"})


@pytest.fixture
def authorizer() -> Recorder:
    """Return an authorizer that lets everybody in as the same user."""
    return Recorder({"isAuthorized": True, "context": CLAIMS})


@pytest_asyncio.fixture
async def client(handler: Recorder, authorizer: Recorder) -> AsyncIterator[httpx.AsyncClient]:
    """Yield a client that calls the gateway without a network, with a token."""
    transport = httpx.ASGITransport(Gateway(handler, authorizer, health), client=("127.0.0.9", 4711))
    headers = {"authorization": TOKEN}
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


async def test_trace_begins_at_the_edge(client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder) -> None:
    """A request without a trace gets one, the same for both Lambdas and another each time; one with keeps its own."""
    await client.get("/x")
    await client.get("/x")
    await client.get("/x", headers={"X-Amzn-Trace-Id": "Root=1-0-0;Sampled=1"})
    first, second, own = (event["headers"]["x-amzn-trace-id"] for event in handler.events)
    assert re.fullmatch(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}", first)
    assert first != second
    assert own == "Root=1-0-0;Sampled=1"
    assert [event["headers"]["x-amzn-trace-id"] for event in authorizer.events] == [first, second, own]


async def test_authorizer_sees_the_request(client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder) -> None:
    """It is asked as API Gateway asks a REQUEST authorizer, about everything but the body."""
    await client.post("/infer?a=1", content=b"{}", headers={"X-A": "1"})
    asked, passed_on = authorizer.event, handler.event
    assert (asked["version"], asked["type"], asked["routeKey"]) == ("2.0", "REQUEST", "$default")
    assert asked["routeArn"].startswith("arn:aws:execute-api:")
    assert asked["identitySource"] == [TOKEN]
    assert asked["headers"] == passed_on["headers"]
    assert asked["headers"]["x-a"] == "1"
    assert (asked["rawPath"], asked["queryStringParameters"]) == ("/infer", {"a": "1"})
    assert asked["requestContext"]["http"]["method"] == "POST"
    assert asked["requestContext"]["requestId"] == passed_on["requestContext"]["requestId"]
    assert "authorizer" not in asked["requestContext"]
    assert not {"body", "isBase64Encoded"} & asked.keys()
    assert authorizer.contexts[0].function_name != handler.contexts[0].function_name


async def test_claims_reach_the_router(client: httpx.AsyncClient, handler: Recorder) -> None:
    """The router gets the context that the authorizer adds, numbers as numbers."""
    await client.post("/infer", content=b"{}")
    assert handler.event["requestContext"]["authorizer"] == {"lambda": CLAIMS}


async def test_a_yes_without_context(client: httpx.AsyncClient, authorizer: Recorder, handler: Recorder) -> None:
    """An authorizer may let a request in and have nothing to add."""
    authorizer.answer = {"isAuthorized": True}
    assert (await client.get("/x")).status_code == 200
    assert handler.event["requestContext"]["authorizer"] == {"lambda": {}}


async def test_every_request_is_asked_about(client: httpx.AsyncClient, authorizer: Recorder) -> None:
    """No verdict is kept: the same token may be refused a moment later."""
    assert (await client.get("/x")).status_code == 200
    authorizer.answer = {"isAuthorized": False}
    assert (await client.get("/x")).status_code == 403
    assert len(authorizer.events) == 2


@pytest.mark.parametrize("context", [{}, {"context": CLAIMS}])
async def test_a_no_is_403(
    client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder, context: dict[str, Any]
) -> None:
    """The edge refuses in API Gateway's words, and the router hears nothing of it."""
    authorizer.answer = {"isAuthorized": False} | context
    response = await client.post("/infer", content=b"{}")
    assert (response.status_code, response.json()) == (403, {"message": "Forbidden"})
    assert "apigw-requestid" in response.headers
    assert handler.events == []


@pytest.mark.parametrize("headers", [[], [("Authorization", "")], [("Authorization", ""), ("Authorization", "")]])
async def test_missing_token_is_401(
    client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder, headers: list[tuple[str, str]]
) -> None:
    """Without the header, or with an empty one, neither Lambda is invoked."""
    del client.headers["authorization"]
    response = await client.post("/infer", content=b"{}", headers=headers)
    assert (response.status_code, response.json()) == (401, {"message": "Unauthorized"})
    assert handler.events == authorizer.events == []


@pytest.mark.parametrize(
    ("headers", "identity"),
    [
        ([("AUTHORIZATION", "Bearer one")], "Bearer one"),
        ([("authorization", "bearer ONE")], "bearer ONE"),
        ([("Authorization", "Bearer one"), ("authorization", "Bearer two")], "Bearer one,Bearer two"),
        ([("Authorization", ""), ("Authorization", "Bearer two")], ",Bearer two"),
        ([(b"Authorization", b"Bearer \xfc")], "Bearer \xfc"),
    ],
)
async def test_identity_source(
    client: httpx.AsyncClient, authorizer: Recorder, headers: list[tuple[str, str]], identity: str
) -> None:
    """Any spelling of the header's name is found, its value left as it is, and several come joined by a comma."""
    del client.headers["authorization"]
    await client.get("/x", headers=headers)
    assert authorizer.event["identitySource"] == [identity]
    assert authorizer.event["headers"]["authorization"] == identity


@pytest.mark.parametrize(
    "answer",
    [
        ValueError("no key could be fetched"),
        None,
        {},
        {"isAuthorized": "true"},
        {"isAuthorized": 1},
        {"isAuthorized": True, "context": "user-1"},
        {"principalId": "user-1", "policyDocument": {}},
    ],
)
async def test_broken_authorizer_is_500(
    client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """An authorizer that raises or gives no simple response lets nobody in; the log says why, without the token."""
    authorizer.answer = answer
    response = await client.post("/infer", content=b"{}")
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})
    assert handler.events == []
    assert "tl-fif-authorizer failed" in caplog.text
    assert TOKEN not in caplog.text


@pytest.mark.parametrize("route", ["GET /ping", "GET /queue-health", "OPTIONS /infer", "OPTIONS /ping", "OPTIONS /x"])
async def test_open_routes(client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder, route: str) -> None:
    """Health checks and preflights need no token, get no identity, and a token of theirs is not looked at."""
    for _ in range(2):
        assert (await client.request(*route.split())).status_code == 200
        client.headers.pop("authorization", None)
    assert all("authorizer" not in event["requestContext"] for event in handler.events)
    assert authorizer.events == []


@pytest.mark.parametrize("route", ["POST /ping", "HEAD /ping", "POST /queue-health", "GET /ping/", "GET /infer"])
async def test_the_rest_is_closed(client: httpx.AsyncClient, route: str) -> None:
    """Another method on an open path needs a token, and so does whatever looks like one."""
    del client.headers["authorization"]
    assert (await client.request(*route.split())).status_code == 401


async def test_healthz_is_the_gateways_own(client: httpx.AsyncClient, handler: Recorder, authorizer: Recorder) -> None:
    """`/healthz` needs no token and never reaches a Lambda."""
    del client.headers["authorization"]
    response = await client.get("/healthz")
    assert response.json() == {"pids": {"worker": 7}, "worker": {"state": "ready"}}
    assert handler.events == authorizer.events == []


async def test_too_long_body_is_413(client: httpx.AsyncClient, handler: Recorder) -> None:
    """One byte over 10 MB is refused at the edge, 10 MB are not."""
    response = await client.post("/infer", content=bytes(MAX_BODY_BYTES + 1))
    assert (response.status_code, response.json()) == (413, {"message": "Request Entity Too Large"})
    assert handler.events == []
    assert (await client.post("/infer", content=bytes(MAX_BODY_BYTES))).status_code == 200


@pytest.mark.parametrize(
    "answer", [ValueError("no"), None, {"body": "no status"}, {"statusCode": 200, "body": "?", "isBase64Encoded": True}]
)
async def test_broken_handler_is_500(
    client: httpx.AsyncClient, handler: Recorder, caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    """A handler that raises or answers nonsense gives a 500 without details; the log has them."""
    handler.answer = answer
    response = await client.get("/x")
    assert (response.status_code, response.json()) == (500, {"message": "Internal Server Error"})
    assert "tl-fif-router failed" in caplog.text


async def test_context_counts_down(client: httpx.AsyncClient, handler: Recorder) -> None:
    """The context has the request's id and the time that is left."""
    response = await client.get("/x")
    (context,) = handler.contexts
    assert isinstance(context, LambdaContext)
    assert context.aws_request_id == handler.event["requestContext"]["requestId"] == response.headers["apigw-requestid"]
    assert 0 < context.get_remaining_time_in_millis() <= 10_000
    assert LambdaContext("id", seconds=0.0).get_remaining_time_in_millis() == 0
