"""taskiq with brokers of taskiq-redis: `list`, which forgets what it hands out, and `stream`, which acknowledges."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from taskiq.api import run_receiver_task  # type: ignore[import-not-found, unused-ignore]
from taskiq_redis import ListQueueBroker, RedisStreamBroker  # type: ignore[import-not-found, unused-ignore]

from benchmarks.peers.side import PROMPT, SLOTS, Send, Started, run

_BROKERS: Final = {"list": ListQueueBroker, "stream": RedisStreamBroker}


def _set_up(url: str, variant: str, started: Started) -> tuple[Any, Any]:
    """Return the broker and its one task."""
    broker = _BROKERS[variant](url)

    @broker.task(task_name="handler")  # type: ignore[untyped-decorator, unused-ignore]
    async def handler(number: int, prompt: str) -> None:  # noqa: ARG001 - only to be carried
        started(number)

    return broker, handler


async def work(url: str, variant: str, started: Started) -> None:
    """Run jobs as `taskiq worker --workers 1` does."""
    broker, _handler = _set_up(url, variant, started)
    broker.is_worker_process = True
    await broker.startup()
    await run_receiver_task(broker, max_async_tasks=SLOTS)


@asynccontextmanager
async def sender(url: str, variant: str) -> AsyncIterator[Send]:
    """Queue by `kiq`."""
    broker, handler = _set_up(url, variant, lambda _number: None)
    await broker.startup()  # makes the stream's group, which would see nothing that was sent before

    async def send(number: int) -> None:
        await handler.kiq(number, PROMPT)

    yield send
    await broker.shutdown()


if __name__ == "__main__":
    run(work, sender)
