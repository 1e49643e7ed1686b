"""saq, with its own settings but for the number of jobs at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from saq import Queue, Worker  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.side import PROMPT, SLOTS, Send, Started, run


async def work(url: str, _variant: str, started: Started) -> None:
    """Run jobs."""

    async def handler(_context: Any, *, number: int, prompt: str) -> None:  # noqa: ARG001 - only to be carried
        started(number)

    queue = Queue.from_url(url)
    await Worker(queue, functions=[("handler", handler)], concurrency=SLOTS).start()


@asynccontextmanager
async def sender(url: str, _variant: str) -> AsyncIterator[Send]:
    """Queue by `Queue.enqueue`."""
    queue = Queue.from_url(url)

    async def send(number: int) -> None:
        await queue.enqueue("handler", number=number, prompt=PROMPT)

    yield send
    await queue.disconnect()


if __name__ == "__main__":
    run(work, sender)
