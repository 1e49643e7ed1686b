"""The watch for a Spot interruption notice, over real HTTP: whatever the instance metadata does."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from local.ports import LOOPBACK, free_ports
from worker import imds, spot
from worker.spot import UNKNOWN, Notice, noticed

NOTICE = Notice("terminate", "2026-11-23T08:22:00Z")
Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]
Logs = list[MutableMapping[str, Any]]


def plain(status: int, text: str = "") -> Answer:
    """Return an answer of this body."""

    async def send(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, text=text)

    return send


async def hang(_request: web.Request) -> web.StreamResponse:
    """Never answer."""
    return await asyncio.Future()


async def break_off(request: web.Request) -> web.StreamResponse:
    """Begin an answer of 200 and hang up in the middle of it."""
    response = web.StreamResponse(headers={"content-length": "100"})
    await response.prepare(request)
    await response.write(b'{"action": ')
    assert request.transport is not None
    request.transport.close()
    return response


QUIET = plain(404)
DUE = plain(200, f'{{"action": "{NOTICE.action}", "time": "{NOTICE.time}"}}')


class Metadata:
    """Instance metadata that insists on a token, and gives `answers` in turn and the last of them for ever."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.endpoint = f"http://{LOOPBACK}:{self.port}"
        self.answers: list[Answer] = [QUIET]
        self.token_answers: list[Answer] = [self._grant]
        self.tokens = 0
        self.refused = 0
        self.looks = 0
        self._token = ""

    @asynccontextmanager
    async def up(self) -> AsyncIterator[None]:
        """Serve meanwhile."""
        app = web.Application()
        app.router.add_put("/latest/api/token", self._put_token)
        app.router.add_get("/latest/meta-data/spot/instance-action", self._get_action)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, LOOPBACK, self.port).start()
        try:
            yield
        finally:
            await runner.cleanup()

    def expire(self) -> None:
        """Let the token run out."""
        self._token = ""

    async def _put_token(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["X-aws-ec2-metadata-token-ttl-seconds"] == "21600"
        self.tokens += 1
        return await _next(self.token_answers)(request)

    async def _grant(self, _request: web.Request) -> web.StreamResponse:
        self._token = uuid4().hex
        return web.Response(text=self._token)

    async def _get_action(self, request: web.Request) -> web.StreamResponse:
        if not self._token or request.headers.get("X-aws-ec2-metadata-token") != self._token:
            self.refused += 1
            return web.Response(status=401)
        self.looks += 1
        return await _next(self.answers)(request)


def _next(answers: list[Answer]) -> Answer:
    return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def metadata() -> Metadata:
    """Return instance metadata that is not up yet."""
    return Metadata()


@pytest.fixture(autouse=True)
def in_no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look all the time."""
    monkeypatch.setattr(spot, "POLL_SECONDS", 0.0)
    monkeypatch.setattr(spot, "ABSENT_SECONDS", 0.0)


@pytest.fixture
def logs() -> Iterator[Logs]:
    """Yield what is logged."""
    with capture_logs() as lines:
        yield lines


async def seen(metadata: Metadata) -> Notice:
    """Return the notice, which has to come."""
    with anyio.fail_after(10):
        return await noticed(metadata.endpoint)


def levels(logs: Logs) -> list[str]:
    """Return how loud the lines are."""
    return [line["log_level"] for line in logs]


async def until(look: Callable[[], object]) -> None:
    """Let other tasks run until there is something to see."""
    with anyio.fail_after(10):
        while not look():
            await anyio.lowlevel.checkpoint()


async def test_no_notice_then_one(metadata: Metadata, logs: Logs) -> None:
    """One token serves all the looks."""
    metadata.answers = [QUIET, QUIET, QUIET, DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert (metadata.tokens, metadata.refused, metadata.looks, levels(logs)) == (1, 0, 4, ["info"])


async def test_a_notice_at_the_first_look(metadata: Metadata) -> None:
    """A worker that starts late is told as well, also with a slash behind the address."""
    metadata.answers = [DUE]
    async with metadata.up():
        with anyio.fail_after(10):
            assert await noticed(metadata.endpoint + "/") == NOTICE


async def test_the_token_runs_out(metadata: Metadata, logs: Logs) -> None:
    """Another is fetched at once, and nobody needs to hear of it."""

    async def last_look(request: web.Request) -> web.StreamResponse:
        metadata.expire()
        return await QUIET(request)

    metadata.answers = [QUIET, last_look, QUIET, DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert (metadata.tokens, metadata.refused, metadata.looks, levels(logs)) == (2, 1, 4, ["info"])


async def test_no_token_is_any_good(metadata: Metadata, logs: Logs) -> None:
    """Two tokens for one look and no more, or it would ask without a pause; later ones are tried all the same."""
    metadata.answers = [plain(401)] * 4 + [DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert (metadata.tokens, metadata.looks) == (3, 5)
    assert [line["reason"].rpartition(" ")[2] for line in logs] == ["401"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(plain(403), id="switched off"),
        pytest.param(plain(500), id="failing"),
        pytest.param(plain(200), id="empty"),
        pytest.param(plain(200, "two\r\nlines"), id="two lines"),
        pytest.param(plain(200, "tökén"), id="not ASCII"),
        hang,
        break_off,
    ],
)
async def test_a_token_is_refused_at_first(
    answer: Answer, metadata: Metadata, logs: Logs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or is none that could be sent, or never comes."""
    monkeypatch.setattr(imds, "REQUEST_SECONDS", 0.1)
    metadata.token_answers.insert(0, answer)
    metadata.answers = [DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert (metadata.tokens, levels(logs)) == (2, ["info"])


async def test_a_server_that_is_away_first(metadata: Metadata, logs: Logs) -> None:
    """One line while it is away, one when it is there."""
    async with asyncio.TaskGroup() as tasks:
        watch = tasks.create_task(seen(metadata))
        await until(lambda: logs)
        async with metadata.up():
            await until(lambda: metadata.looks > 2)
            metadata.answers = [DUE]
            assert await watch == NOTICE
    assert levels(logs) == ["info", "info"]


async def test_a_server_that_restarts(metadata: Metadata, logs: Logs) -> None:
    """It has forgotten the token; each outage is one warning, and one line when it is over."""
    async with asyncio.TaskGroup() as tasks:
        async with metadata.up():
            watch = tasks.create_task(seen(metadata))
            await until(lambda: metadata.looks > 2)
        await until(lambda: len(logs) == 2)
        metadata.expire()
        looks = metadata.looks
        async with metadata.up():
            await until(lambda: metadata.looks > looks + 1)
            metadata.answers = [DUE]
            assert await watch == NOTICE
    assert levels(logs) == ["info", "warning", "info"]


async def test_a_server_that_stumbles(metadata: Metadata, logs: Logs) -> None:
    """No other status is a notice, and none is followed elsewhere."""
    metadata.answers = [QUIET, plain(500), plain(503, "busy"), plain(302), QUIET, DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert [(line["log_level"], line.get("reason", "")[-3:]) for line in logs] == [
        ("info", ""),
        ("warning", "500"),
        ("info", ""),
    ]


async def test_an_answer_that_hangs(metadata: Metadata, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up in time, and the log says why."""
    monkeypatch.setattr(imds, "REQUEST_SECONDS", 0.1)
    metadata.answers = [QUIET, hang, hang, DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE
    assert [line.get("reason", "").partition(":")[0] for line in logs] == ["", "TimeoutError"]


@pytest.mark.parametrize(
    "answer", [pytest.param(plain(200, "soon"), id="not JSON"), pytest.param(plain(200), id="empty"), break_off]
)
async def test_a_malformed_notice(answer: Answer, metadata: Metadata) -> None:
    """It counts, and so does one that breaks off."""
    metadata.answers = [QUIET, answer]
    async with metadata.up():
        assert await seen(metadata) == Notice(UNKNOWN, "")


async def test_it_is_asked_without_a_proxy(metadata: Metadata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy would give the notice of its own machine."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{LOOPBACK}:{free_ports(1)[0]}")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    metadata.answers = [DUE]
    async with metadata.up():
        assert await seen(metadata) == NOTICE


async def test_it_is_cancelled_in_a_pause(metadata: Metadata, logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """No session and no connection is left."""
    monkeypatch.setattr(spot, "POLL_SECONDS", 60.0)
    async with metadata.up(), anyio.create_task_group() as tasks:
        tasks.start_soon(noticed, metadata.endpoint)
        await until(lambda: logs)
        tasks.cancel_scope.cancel()
    gc.collect()  # what was left open would warn now, which is an error


async def test_it_is_cancelled_in_the_middle_of_a_look(metadata: Metadata) -> None:
    """No session and no connection is left."""
    metadata.answers = [hang]
    async with metadata.up(), anyio.create_task_group() as tasks:
        tasks.start_soon(noticed, metadata.endpoint)
        await until(lambda: metadata.looks)
        tasks.cancel_scope.cancel()
    gc.collect()  # as above


async def test_it_is_cancelled_while_nobody_answers(logs: Logs, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on every machine that is not EC2's; the server behind this address takes connections and no more."""
    monkeypatch.setattr(spot, "ABSENT_SECONDS", 60.0)
    monkeypatch.setattr(imds, "REQUEST_SECONDS", 0.1)
    with socket.create_server((LOOPBACK, 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(noticed, f"http://{LOOPBACK}:{listener.getsockname()[1]}")
            await until(lambda: logs)
            tasks.cancel_scope.cancel()
    gc.collect()  # as above
