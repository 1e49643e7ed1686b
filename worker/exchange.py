"""One request over HTTP and its answer, and the connection between them, which may break at any time."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final
from uuid import uuid4

import anyio
import anyio.lowlevel
from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

BODY_BYTES: Final = 1_048_576
"""Longest body of a request; nginx refuses the same (ami/nginx)."""

BODY_SECONDS: Final = 30.0
"""Longest time that a body may take to arrive."""

SEND_SECONDS: Final = 60.0
"""Longest time that a client may take to read what is sent: it holds a place and keeps the GPU up."""

GIVE_UP_SECONDS: Final = 2.0
"""Time that vLLM gets to end a request whose client is gone."""

_REQUEST_ID: Final = re.compile(r"[0-9a-f]{32}")  # as nginx makes them


class Refusal(Exception):
    """A request that is answered here, in the words of OpenAI's API."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = headers

    def response(self) -> JSONResponse:
        """Return what the client gets."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"  # noqa: PLR2004 - HTTP's own border
        error = {"message": str(self), "type": kind, "param": None, "code": self.code}
        return JSONResponse({"error": error}, self.status, self.headers)


class Exchange:
    """One request and its answer, and the connection between them."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.headers = Headers(scope=scope)
        given = self.headers.get("x-request-id", "")
        self.id = given if _REQUEST_ID.fullmatch(given) else uuid4().hex
        self.path: str = scope["path"]
        self.method: str = scope["method"]
        self.body = b""
        self._began = time.monotonic()
        self.status: int | None = None
        """Of the answer, `None` until it begins."""
        self.first_byte_ms: float | None = None
        """Milliseconds until the first byte of its body; `None` before."""
        self.is_whole = False
        """Whether all of it is sent."""
        self._receive = receive
        self._send = send
        self._body_given = False
        self._gone = anyio.Event()
        self._sends_since = math.inf
        # vLLM names its request after this header, and two of one name would be one.
        kept = [(name, value) for name, value in scope["headers"] if name != b"x-request-id"]
        self.scope = {**scope, "headers": [*kept, (b"x-request-id", self.id.encode())]}

    @property
    def is_success(self) -> bool:
        """Whether vLLM took the request."""
        return self.status is not None and self.status < 400  # noqa: PLR2004 - where HTTP's errors begin

    async def read_body(self) -> None:
        """Read the body.

        Raises:
            Refusal: it is too long, or does not come.
        """
        parts = bytearray()
        with anyio.move_on_after(BODY_SECONDS) as patience:
            while True:
                message = await self._receive()
                if message["type"] == "http.disconnect":
                    self.hang_up()
                    raise Refusal(400, "gone", "the client has gone")
                parts += message.get("body", b"")
                if len(parts) > BODY_BYTES:
                    raise Refusal(413, "too_long", f"the body is longer than {BODY_BYTES} bytes")
                if not message.get("more_body"):
                    break
        if patience.cancelled_caught:
            raise Refusal(408, "too_slow", f"the body did not come within {BODY_SECONDS:g} seconds")
        self.body = bytes(parts)

    async def receive(self) -> Message:
        """Give the app the body that was read, then wait until the client has gone or is let go."""
        if self.method == "POST" and not self._body_given:
            self._body_given = True
            return {"type": "http.request", "body": self.body, "more_body": False}
        await self._until_gone()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass a part of the answer on, until the client has gone."""
        if self._gone.is_set():
            await anyio.lowlevel.checkpoint()
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", []), (b"x-request-id", self.id.encode())]
        elif self.first_byte_ms is None and message.get("body"):
            self.first_byte_ms = self.total_ms
        self._sends_since = time.monotonic()
        await self._send(message)
        self._sends_since = math.inf
        if message["type"] == "http.response.body" and not message.get("more_body"):
            self.is_whole = True

    def hang_up(self) -> None:
        """Let the client go: the app is told that it has gone, and ends the request in the engine."""
        self._gone.set()

    async def answered_by(self, app: ASGIApp) -> None:
        """Wait for the app's answer; not for a client that does not read, nor for an app that does not notice it."""

        async def watch() -> None:
            while not self._gone.is_set():
                with anyio.move_on_after(SEND_SECONDS / 4):
                    await self._gone.wait()
                if time.monotonic() - self._sends_since > SEND_SECONDS:
                    self.hang_up()
            await anyio.sleep(GIVE_UP_SECONDS)
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, name="client gone")
            await app(self.scope, self.receive, self.send)
            tasks.cancel_scope.cancel()

    async def unless_gone(self, wait: Callable[[], Awaitable[bool]]) -> bool | None:
        """Wait for something and return what it says; `None` if the client went before."""
        said: bool | None = None

        async def watch() -> None:
            await self._until_gone()
            tasks.cancel_scope.cancel()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, name="client gone")
            said = await wait()
            tasks.cancel_scope.cancel()
        return said

    async def _until_gone(self) -> None:
        """Return once the client has gone or was let go; what else it sends is not looked at."""

        async def watch() -> None:
            while (await self._receive())["type"] != "http.disconnect":
                pass
            self._gone.set()

        if self._gone.is_set():
            return
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch, name="disconnect")
            await self._gone.wait()
            tasks.cancel_scope.cancel()

    @property
    def total_ms(self) -> float:
        """Milliseconds since the request came."""
        return round((time.monotonic() - self._began) * 1e3, 1)
