"""The edge of the system on this machine: API Gateway, with the unchanged authorizer and router behind it."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

import anyio
import uvicorn
from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from local.events import Arrival, Verdict, to_authorizer_event, to_event, to_response
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

_OPEN_ROUTES: Final = frozenset({("GET", "/ping"), ("GET", "/queue-health")})
"""Routes without an authorizer; the router looks at the source address instead."""

_Answer = TypeVar("_Answer")


@dataclass(frozen=True, slots=True)
class LambdaContext:
    """The part of Lambda's context object that handlers use."""

    aws_request_id: str
    function_name: str = "tl-fif-router"
    seconds: float = _FUNCTION_SECONDS
    began: float = field(default_factory=time.monotonic)

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda would end the invocation."""
        return max(0, round((self.began + self.seconds - time.monotonic()) * 1000))


class _Refused(Exception):
    """Ends a request at the edge with `status` and, as message, API Gateway's own words."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Gateway:
    """An ASGI application that answers every request but `GET /healthz` by invoking `router`.

    All but `GET /ping`, `GET /queue-health` and `OPTIONS` have to pass `authorizer` first: a REQUEST authorizer with
    simple responses, whose identity source is the header `Authorization`, asked anew for every request (result cache
    TTL 0). Its context reaches the router.
    """

    def __init__(
        self, router: Handler, authorizer: Handler, health: Callable[[], Awaitable[Mapping[str, Any]]]
    ) -> None:
        self._router = router
        self._authorizer = authorizer
        self._health = health
        self._invocations = anyio.CapacityLimiter(_INVOCATIONS_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        request, arrival = Request(scope, receive), Arrival()
        try:
            response = await self._respond(request, arrival)
        except _Refused as refused:
            response = JSONResponse({"message": str(refused)}, refused.status)
        response.headers["apigw-requestid"] = arrival.request_id
        await response(scope, receive, send)

    async def _respond(self, request: Request, arrival: Arrival) -> Response:
        route = (request.method, request.url.path)
        if route == ("GET", "/healthz"):
            return JSONResponse(await self._health())
        is_open = request.method == "OPTIONS" or route in _OPEN_ROUTES
        authorizer = None if is_open else await self._authorize(request, arrival)
        event = to_event(request, arrival, await _read(request), authorizer=authorizer)
        return await self._invoke(self._router, event, LambdaContext(arrival.request_id), to_response)

    async def _authorize(self, request: Request, arrival: Arrival) -> Mapping[str, Any]:
        """Return the context that the authorizer adds."""
        if not any(request.headers.getlist("authorization")):
            raise _Refused(401, "Unauthorized")
        event = to_authorizer_event(request, arrival)
        context = LambdaContext(arrival.request_id, "tl-fif-authorizer")
        verdict = await self._invoke(self._authorizer, event, context, Verdict.read)
        if not verdict.is_authorized:
            raise _Refused(403, "Forbidden")
        return verdict.context

    async def _invoke(
        self, function: Handler, event: dict[str, Any], context: LambdaContext, read: Callable[[Any], _Answer]
    ) -> _Answer:
        try:
            return read(await to_thread.run_sync(function, event, context, limiter=self._invocations))
        except Exception:
            # As Lambda: whatever a function raises, its caller learns nothing and its log everything.
            log.exception("%s failed on request %s", context.function_name, context.aws_request_id)
            raise _Refused(500, "Internal Server Error") from None


async def _read(request: Request) -> bytes:
    """Read the body; refuse it as soon as it is too long, whatever its Content-Length said."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise _Refused(413, "Request Entity Too Large")
    return bytes(body)


@asynccontextmanager
async def serving(gateway: Gateway) -> AsyncIterator[str]:
    """Serve on a free port of loopback and yield the base URL; on the way out, finish what runs (5 s)."""
    with socket.create_server((LOOPBACK, 0), backlog=1024) as listener:
        # asyncio does it for sockets of its own making only; without it the body waits 40 ms behind the headers.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
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
