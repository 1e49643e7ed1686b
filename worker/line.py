"""One connection to Redis that is kept, for one command after another.

Every job is taken over it, and what redis-py's client does around a command, a pool, a task for each
limit of time and its statistics, takes as long as the command itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Any, Final

import redis.asyncio
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError

STALE_SECONDS: Final = 5.0
"""Time without a command after which a connection is made anew: a server or a router in between may have dropped it."""


class Line:
    """A connection out of a client's pool. Raises what redis-py raises; the next command then makes a new one."""

    def __init__(self, client: redis.asyncio.Redis) -> None:
        """Connect by `client` when the first command comes, with its limits for each answer."""
        self._client = client
        self._connection: AbstractConnection | None = None
        self._limit: float | None = None
        self._used_at = 0.0

    async def ask(self, *commands: tuple[Any, ...], within: float) -> list[Any]:
        """Send commands together and return their answers, errors of Redis among them.

        Not to be called while another call is under way.

        Raises:
            TimeoutError: not all answers within so many seconds, not counting those for connecting.
        """
        if time.monotonic() - self._used_at > STALE_SECONDS:
            await self.hang_up()
        connection = self._connection or await self._connect()
        try:
            async with asyncio.timeout(within):
                await connection.send_packed_command(connection.pack_commands(commands))
                answers = [await _answer(connection) for _ in commands]
        except BaseException:
            await self.hang_up()
            raise
        self._used_at = time.monotonic()
        return answers

    async def aclose(self) -> None:
        """Close the connection and its client, for good."""
        await self.hang_up()
        await self._client.aclose()

    async def hang_up(self) -> None:
        """Close the connection, if there is one; the next command looks up the server anew."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.socket_timeout = self._limit
            with contextlib.suppress(Exception):
                await connection.disconnect(nowait=True)
            await self._client.connection_pool.release(connection)

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = await self._client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        # Its own limits would cost a task each; `ask` has one for both ways.
        self._limit, connection.socket_timeout = connection.socket_timeout, None
        self._connection = connection
        return connection


async def _answer(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
