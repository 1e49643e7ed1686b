"""OpenAI's API without vLLM: an app that answers as the test wants, and a client that speaks ASGI."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

import anyio
from starlette.types import Message, Receive, Scope, Send

from tests.fakes import FakeEngine, MemoryStore
from tests.scripted_queue import ScriptedQueue
from worker.health import Health
from worker.idle import IdleTimer
from worker.openai_api import OpenAiApi
from worker.places import Places
from worker.run import Services

KEY = "an-api-key-of-a-test"
CHAT = "/v1/chat/completions"


class FakeApp:
    """Says `parts`, one after each `go` but the first; notes what it was asked and how it ended."""

    def __init__(self, *parts: bytes, status: int = 200) -> None:
        self.parts = parts or (b"data: 1\n\n", b"data: [DONE]\n\n")
        self.status = status
        self.asked: list[tuple[str, bytes, dict[str, str]]] = []
        self.ends: list[str] = []
        self.go = anyio.Event()
        self.notices = True
        """Whether it looks if its client has gone, as vLLM does."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        body = (await receive())["body"] if scope["method"] == "POST" else b""
        self.asked.append((scope["path"], body, {n.decode(): v.decode() for n, v in scope["headers"]}))
        end = "cancelled"
        try:
            async with anyio.create_task_group() as tasks:
                if self.notices:
                    tasks.start_soon(self._watch, receive, tasks.cancel_scope.cancel)
                await self._say(send)
                end = "said"
                tasks.cancel_scope.cancel()
        finally:
            self.ends.append(end)

    async def _watch(self, receive: Receive, cancel: Callable[[], None]) -> None:
        assert (await receive())["type"] == "http.disconnect"
        cancel()

    async def _say(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        for number, part in enumerate(self.parts):
            if number:
                await self.go.wait()
            await send({"type": "http.response.body", "body": part, "more_body": number < len(self.parts) - 1})


class Client:
    """One client's connection: what it sends is in `body`, what it gets in `status`, `headers` and `got`."""

    def __init__(self, path: str = CHAT, body: bytes | None = b"{}", key: str | None = KEY, method: str = "") -> None:
        self.status: int | None = None
        self.headers: dict[str, str] = {}
        self.got = b""
        self.is_whole = False
        self.gone = anyio.Event()
        self.reads = True
        """Whether it reads what it is sent."""
        headers = [] if key is None else [(b"authorization", f"Bearer {key}".encode())]
        self.scope: dict[str, Any] = {
            "type": "http",
            "path": path,
            "method": method or ("GET" if path == "/v1/models" else "POST"),
            "headers": headers,
        }
        self._messages: list[Message] = [] if body is None else [{"type": "http.request", "body": body}]

    async def receive(self) -> Message:
        """Send the body, then nothing more until it goes."""
        if self._messages:
            return self._messages.pop(0)
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Read a part of the answer."""
        if not self.reads:
            await anyio.sleep_forever()
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.got += message["body"]
            self.is_whole = not message.get("more_body")

    @property
    def code(self) -> str:
        """Return the code of the error that it got."""
        return str(json.loads(self.got)["error"]["code"])


class World:
    """An API with a fake app."""

    def __init__(self, app: FakeApp | None = None, *, limit: int = 2, keys: tuple[str, ...] = (KEY,)) -> None:
        self.app = app or FakeApp()
        self.idle = IdleTimer(5)
        self.services = Services(FakeEngine(), ScriptedQueue(), MemoryStore(), Health(), idle=self.idle)
        self.places = Places(limit)
        self.api = OpenAiApi(
            self.app, self.services, self.places, [hashlib.sha256(key.encode()).digest() for key in keys]
        )

    async def ask(self, client: Client) -> Client:
        """Let a client ask and wait for the end of it."""
        await self.api(client.scope, client.receive, client.send)
        return client
