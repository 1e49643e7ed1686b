"""What the client meets in unit tests: a scripted gateway and store, and a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
import functools
import io
import json
import re
from collections.abc import Callable, Sequence
from enum import Enum
from typing import Any

import httpx
import pytest

import client.session
from client.cli import main
from client.session import Client

URL = "https://gateway.test/prod"
TOKEN = "sesame-token"
JOB_ID = "5f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c5"
REPLY_URL = f"https://store.test/replies/{JOB_ID}.json?X-Amz-Signature=secret-signature"


def reply(*texts: str, status: str = "streaming", **fields: Any) -> dict[str, Any]:
    """Return a reply document with one choice for each text."""
    reason = "stop" if status == "done" else None
    return {
        "id": JOB_ID,
        "status": status,
        "model": "tiny",
        "choices": [
            {"index": index, "text": text, "finish_reason": reason, "logprobs": None}
            for index, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": sum(map(len, texts))},
        "timing": {"queued_ms": 3.1, "first_token_ms": 41.0, "total_ms": None},
        "attempt": 1,
        "error": None,
        "created_at": 1790000000.0,
        "updated_at": 1790000000.2,
    } | fields


def gpu(state: str, phase: str | None = None, eta: int | None = None, **fields: Any) -> dict[str, Any]:
    """Return what the service tells of the GPU."""
    return {
        "state": state,
        "phase": phase,
        "eta": eta,
        "waiting": 0,
        "running": 0,
        "model": "tiny",
        "idle_seconds": None,
        "problem": None,
    } | fields


def accepted(status: str = "queued", **fields: Any) -> httpx.Response:
    """Return the answer to a POST that queued the job."""
    return httpx.Response(202, json={"status": status, "id": JOB_ID} | fields, headers={"Location": REPLY_URL})


class Clock:
    """Monotonic seconds that pass in `sleep` alone; `slept` lists each sleep.

    Of several tasks that sleep, the one that is due first goes on first.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []
        self._due: list[float] = []

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass without taking any."""
        self.slept.append(seconds)
        due = self.now + seconds
        self._due.append(due)
        try:
            await asyncio.sleep(0)
            while due > min(self._due):  # noqa: ASYNC110 - every turn lets the others come nearer
                await asyncio.sleep(0)
            self.now = due
        finally:
            self._due.remove(due)


class Terminal(io.StringIO):
    """Takes what is written, as a terminal whose width nobody knows."""

    def isatty(self) -> bool:
        """Tell that somebody may be looking."""
        return True

    @property
    def lines(self) -> list[str]:
        """What can be read on it."""
        return screen(self.getvalue())


def screen(written: str) -> list[str]:
    """Return the lines that a terminal shows after all of this was written; the cursor is in the last one."""
    lines, at = [""], 0
    for piece in re.findall(r"\x1b\[K|\r|\n|[^\x1b\r\n]+", written):
        line = lines[-1]
        if piece == "\x1b[K":
            lines[-1] = line[:at]
        elif piece == "\r":
            at = 0
        elif piece == "\n":
            lines.append("")
            at = 0
        else:
            lines[-1] = line[:at] + piece + line[at + len(piece) :]
            at += len(piece)
    return lines


class Store(Enum):
    """What the store does at one look, besides having a new document or failing."""

    EMPTY = 404
    SAME = 304


_Step = dict[str, Any] | bytes | int | BaseException | httpx.Response | Store
"""What comes of one request."""


class Service(httpx.MockTransport):
    """Answers POSTs from `posts`, GETs of the GPU's status from `statuses`, and looks at the reply from `looks`.

    Each goes in order, and the last one repeats. A look is a new document, raw bytes of one, a bare HTTP status, an
    error to raise, or `Store`; so is a status of the GPU, but for `Store`. A reply is sent again unless If-None-Match
    names it, as in S3. Without `statuses`, the service has no such route.
    """

    def __init__(
        self,
        *looks: _Step,
        posts: tuple[httpx.Response | BaseException, ...] = (),
        statuses: Sequence[_Step] = (404,),
    ) -> None:
        super().__init__(self._answer)
        self.requests: list[httpx.Request] = []
        self._looks: list[_Step] = list(looks)
        self._posts: list[_Step] = list(posts or [accepted()])
        self._statuses: list[_Step] = list(statuses)
        self._object: bytes | None = None
        self._version = 0

    def client(self, clock: Clock | None = None, deadline_seconds: float = 600.0) -> Client:
        """Return a client of this service that never really sleeps."""
        clock = clock or Clock()
        return Client(
            URL,
            TOKEN,
            deadline_seconds=deadline_seconds,
            transport=self,
            clock=clock,
            sleep=clock.sleep,
            chance=lambda: 0.5,
        )

    @property
    def body(self) -> dict[str, Any]:
        """What the first request posted."""
        posted: dict[str, Any] = json.loads(self.requests[0].content)
        return posted

    @property
    def asked_for_status(self) -> list[httpx.Request]:
        """The GETs of the GPU's status."""
        return [request for request in self.requests if _asks_for_status(request)]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        asks_for_status = _asks_for_status(request)
        script = self._posts if request.method == "POST" else self._statuses if asks_for_status else self._looks
        step = script.pop(0) if len(script) > 1 else script[0]
        if isinstance(step, BaseException):
            raise step
        if isinstance(step, httpx.Response):
            return step
        if isinstance(step, int):
            return httpx.Response(step)
        if not isinstance(step, Store):
            content = step if isinstance(step, bytes) else json.dumps(step).encode()
            if asks_for_status:
                return httpx.Response(200, content=content)
            self._version += content != self._object
            self._object = content
        return self._get(request)

    def _get(self, request: httpx.Request) -> httpx.Response:
        if self._object is None:
            return httpx.Response(404)
        etag = f'"{self._version}"'
        if request.headers.get("if-none-match") == etag:
            return httpx.Response(304, headers={"ETag": etag})
        return httpx.Response(200, content=self._object, headers={"ETag": etag})


def _asks_for_status(request: httpx.Request) -> bool:
    return str(request.url) == f"{URL}/status"


Run = Callable[..., int]
"""Runs a command of `tlfif` against a `Service`, with these arguments, and returns its exit code."""


def run_command(
    monkeypatch: pytest.MonkeyPatch, command: str, service: Service, *arguments: str, clock: Clock | None = None
) -> int:
    """Run a command of `tlfif` as a user would who has set the environment."""
    clock = clock or Clock()
    wired = functools.partial(Client, transport=service, clock=clock, sleep=clock.sleep)
    monkeypatch.setenv("TLFIF_URL", URL)
    monkeypatch.setenv("TLFIF_TOKEN", TOKEN)
    monkeypatch.setattr(client.session, "Client", wired)
    return main([command, *arguments])
