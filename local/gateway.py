"""The edge of the system on this machine: API Gateway and its authorizer before the unchanged router."""

from __future__ import annotations

import asyncio
import logging
import secrets
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import anyio
import uvicorn
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local.events import to_event, to_response
from local.ports import LOOPBACK
from worker.http import SignalFreeServer

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any], object], dict[str, Any]]
"""A Lambda handler: called with an event and a context, from a thread."""

MAX_BODY_BYTES: Final = 10_000_000
"""Longest request body that API Gateway takes; a longer one gets 413."""

_INVOCATIONS_AT_ONCE: Final = 8
_FUNCTION_SECONDS: Final = 10.0
_GRACE_SECONDS: Final = 5
_SUBJECT: Final = {"sub": "local"}


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """The part of Lambda's context object that handlers use."""

    aws_request_id: str
    function_name: str = "tl-fif-router"
    deadline: float = field(default_factory=lambda: time.monotonic() + _FUNCTION_SECONDS)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return max(0, round((self.deadline - time.monotonic()) * 1000))


class Gateway:
    """An ASGI application that answers every request but `GET /healthz` by invoking `handler`.

    It stands in for the authorizer as well: all but `GET /ping` and `OPTIONS` need `Authorization: Bearer`
    and the token.
    """

    def __init__(self, handler: Handler, health: Callable[[], Awaitable[Mapping[str, Any]]]) -> None:
        self.token = secrets.token_urlsafe(32)
        self._handler = handler
        self._health = health
        self._invocations = anyio.CapacityLimiter(_INVOCATIONS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request = Request(scope, receive)
        request_id = str(uuid.uuid4())
        response = await self._respond(request, request_id)
        response.headers["apigw-requestid"] = request_id
        await response(scope, receive, send)

    async def _respond(self, request: Request, request_id: str) -> Response:
        route = (request.method, request.url.path)
        if route == ("GET", "/healthz"):
            return JSONResponse(await self._health())
        authorizer = None
        if request.method != "OPTIONS" and route != ("GET", "/ping"):
            if "authorization" not in request.headers:
                return _refusal(401, "Unauthorized")
            if not self._is_ours(request.headers["authorization"]):
                return _refusal(403, "Forbidden")
            authorizer = _SUBJECT
        body = await _read(request)
        if body is None:
            return _refusal(413, "Request Entity Too Large")
        event = to_event(request, body, request_id=request_id, now=datetime.now(UTC), authorizer=authorizer)
        return await self._invoke(event, LambdaContext(request_id))

    def _is_ours(self, authorization: str) -> bool:
        scheme, _, token = authorization.partition(" ")
        # As bytes: compare_digest refuses characters beyond ASCII, which anybody may send.
        return scheme.lower() == "bearer" and secrets.compare_digest(token.encode(), self.token.encode())

    async def _invoke(self, event: dict[str, Any], context: LambdaContext) -> Response:
        try:
            answer = await to_thread.run_sync(self._handler, event, context, limiter=self._invocations)
            return to_response(answer)
        except Exception:
            # As Lambda: whatever a handler raises, its caller learns nothing and its log everything.
            log.exception("the handler failed on request %s", context.aws_request_id)
            return _refusal(500, "Internal Server Error")


def _refusal(status: int, message: str) -> Response:
    return JSONResponse({"message": message}, status)


async def _read(request: Request) -> bytes | None:
    """Read the body; `None` as soon as it is too long, whatever its Content-Length said."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[str]:
    """Serve on a free port of loopback and yield the base URL; on the way out, finish what runs (5 s)."""
    with socket.create_server((LOOPBACK, 0), backlog=1024) as listener:
        config = uvicorn.Config(
            gateway,
            log_config=None,
            log_level="warning",
            access_log=False,
            lifespan="off",
            timeout_graceful_shutdown=_GRACE_SECONDS,
        )
        server = SignalFreeServer(config)
        # The socket listens already: who comes before uvicorn is up waits in its backlog.
        task = asyncio.create_task(server.serve([listener]), name="gateway")
        try:
            yield f"http://{LOOPBACK}:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            with anyio.CancelScope(shield=True):
                await task
