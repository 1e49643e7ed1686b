"""arq, which looks for jobs at intervals; the variant is the interval in seconds."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from arq import create_pool, func  # type: ignore[import-not-found, unused-ignore]
from arq.connections import RedisSettings  # type: ignore[import-not-found, unused-ignore]
from arq.worker import Worker  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.side import PROMPT, SLOTS, Send, Started, run


async def work(url: str, variant: str, started: Started) -> None:
    """Run jobs."""

    async def handler(_context: Any, number: int, prompt: str) -> None:  # noqa: ARG001 - only to be carried
        started(number)

    worker = Worker(
        functions=[func(handler, name="handler")],
        redis_settings=RedisSettings.from_dsn(url),
        max_jobs=SLOTS,
        poll_delay=float(variant),
        handle_signals=False,  # so that SIGTERM ends it, as it ends the others
    )
    await worker.async_run()


@asynccontextmanager
async def sender(url: str, _variant: str) -> AsyncIterator[Send]:
    """Queue by `enqueue_job`."""
    pool = await create_pool(RedisSettings.from_dsn(url))

    async def send(number: int) -> None:
        await pool.enqueue_job("handler", number, PROMPT)

    yield send
    await pool.aclose()


if __name__ == "__main__":
    run(work, sender)
