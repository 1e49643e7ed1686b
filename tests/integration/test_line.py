"""The connection that jobs are taken by, on a real Redis and on servers that misbehave."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator

import pytest
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as Unreachable
from redis.exceptions import ResponseError

from worker import line as line_module
from worker.line import Line


def line_to(url: str) -> Line:
    """Return a line as `JobQueue.from_url` makes it, with a shorter limit for each answer while it connects."""
    client = redis.asyncio.Redis.from_url(
        url, retry=Retry(NoBackoff(), 0), socket_timeout=0.3, socket_connect_timeout=0.3
    )
    return Line(client)


@pytest.fixture
async def line(redis_url: str) -> AsyncIterator[Line]:
    """Yield a line to an empty Redis."""
    made = line_to(redis_url)
    yield made
    await made.aclose()


async def test_answers_come_in_the_order_of_the_commands(line: Line) -> None:
    """All of them went out at once."""
    assert await line.ask(("SET", "a", 1), ("INCR", "a"), ("GET", "a"), within=5) == [b"OK", 2, b"2"]


async def test_an_error_of_redis_is_an_answer(line: Line) -> None:
    """The others are read all the same, and the connection goes on."""
    first = await line.ask(("CLIENT", "ID"), within=5)
    wrong, right = await line.ask(("NOSUCH",), ("PING",), within=5)
    assert isinstance(wrong, ResponseError)
    assert right == b"PONG"
    assert await line.ask(("CLIENT", "ID"), within=5) == first


async def test_one_connection_is_kept(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until it has lain idle for so long that something may have dropped it."""
    first = await line.ask(("CLIENT", "ID"), within=5)
    assert await line.ask(("CLIENT", "ID"), within=5) == first
    monkeypatch.setattr(line_module, "STALE_SECONDS", 0)
    assert await line.ask(("CLIENT", "ID"), within=5) != first


async def test_no_answer_within_the_limit(line: Line) -> None:
    """The command is given up, and with it the connection, whose next answer would be a late one."""
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        await line.ask(("BLPOP", "nothing", 5), within=0.5)
    assert 0.4 < time.monotonic() - began < 3
    assert await line.ask(("PING",), within=5) == [b"PONG"]


async def test_a_wait_may_be_longer_than_the_limit_for_connecting(line: Line) -> None:
    """Which is that of the client's other commands."""
    assert await line.ask(("BLPOP", "nothing", 1), ("PING",), within=5) == [None, b"PONG"]


async def test_a_connection_that_breaks_is_made_anew(line: Line) -> None:
    """The call in which it breaks says so."""
    (own,) = await line.ask(("CLIENT", "ID"), within=5)
    killing = asyncio.ensure_future(line.ask(("BLPOP", "nothing", 5), within=6))
    await asyncio.sleep(0.1)
    other = line_to(f"redis://127.0.0.1:{line._client.connection_pool.connection_kwargs['port']}")
    assert await other.ask(("CLIENT", "KILL", "ID", own), within=5) == [1]
    await other.aclose()
    with pytest.raises(Unreachable):
        await killing
    assert await line.ask(("PING",), within=5) == [b"PONG"]


async def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    """By the limit for connecting, before anything of ours is sent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        line = line_to(f"redis://127.0.0.1:{server.getsockname()[1]}")
        with pytest.raises((TimeoutError, redis.exceptions.TimeoutError)):
            await line.ask(("PING",), within=60)
        await line.aclose()
