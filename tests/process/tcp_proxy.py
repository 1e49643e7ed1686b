"""A proxy in front of a server that can be slow, can answer in its stead, and can be pointed at another server."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Self
from urllib.parse import urlsplit

_CHUNK = 65_536

LOADING = b"-LOADING Redis is loading the dataset in memory\r\n"
"""What a Redis answers while it reads its data back after a restart."""

SLOW_DOWN = b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\n\r\n"
"""What S3 answers to more requests than it can take."""


class TcpProxy:
    """Runs in a thread of its own while entered.

    Attributes:
        target: URL of the server that new connections lead to; those that are open stay with theirs, as they do with a
            node that a failover has made a replica.
        delay_seconds: how long each answer is held back.
        canned: what every request is answered with instead of reaching the server.
    """

    def __init__(self, target: str) -> None:
        self.target = target
        self.delay_seconds = 0.0
        self.canned: bytes | None = None
        self._loop = asyncio.new_event_loop()
        self._listening = threading.Event()
        self._port = 0
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)

    @property
    def url(self) -> str:
        """Address to give to a client instead of the target."""
        return urlsplit(self.target)._replace(netloc=f"127.0.0.1:{self._port}").geturl()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._listening.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def _run(self) -> None:
        loop = self._loop
        asyncio.set_event_loop(loop)
        server = loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self._port = server.sockets[0].getsockname()[1]
        self._listening.set()
        loop.run_forever()
        server.close()
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there = urlsplit(self.target)
        with suppress(OSError, asyncio.CancelledError):
            try:
                server_reader, server_writer = await asyncio.open_connection(there.hostname, there.port)
                try:
                    await asyncio.gather(
                        self._requests(reader, server_writer, writer), self._answers(server_reader, writer)
                    )
                finally:
                    server_writer.close()
            finally:
                writer.close()

    async def _requests(
        self, client: asyncio.StreamReader, server: asyncio.StreamWriter, back: asyncio.StreamWriter
    ) -> None:
        while chunk := await client.read(_CHUNK):
            if self.canned is not None:
                back.write(self.canned)
                await back.drain()
            else:
                server.write(chunk)
                await server.drain()
        server.close()

    async def _answers(self, server: asyncio.StreamReader, client: asyncio.StreamWriter) -> None:
        while chunk := await server.read(_CHUNK):
            await asyncio.sleep(self.delay_seconds)
            client.write(chunk)
            await client.drain()
        client.close()
