"""The key by which the routers know that this worker lives: `worker:{id}`, renewed every few seconds."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Final

import anyio
from anyio.abc import TaskStatus

from worker.errors import QueueUnavailable
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services

HEARTBEAT_SECONDS: Final = 3.0
"""Time between two beats: two in a row may fail before the key runs out."""

HEARTBEAT_TTL_SECONDS: Final = 10
"""Life of the key without renewal: how long the routers believe in a worker that was killed."""

END_SECONDS: Final = 1.0
"""Longest time that a worker that ends spends on saying so."""


class Heartbeat:
    """Tells the routers every `HEARTBEAT_SECONDS` what this worker does, and at once when it begins to drain."""

    def __init__(self, services: Services, jobs: Jobs) -> None:
        self._services = services
        self._jobs = jobs
        self._first = True
        self._told_draining = False

    async def keep(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled; has started once the first beat is tried."""
        due = await self._beat()
        task_status.started()
        while True:
            with anyio.move_on_at(due):
                await (anyio.sleep_forever() if self._told_draining else self._jobs.drain_begun())
            due = await self._beat()

    async def _beat(self) -> float:
        """Beat once and return when the next beat is due; one that Redis does not take is only noted."""
        due = anyio.current_time() + HEARTBEAT_SECONDS
        self._told_draining = self._jobs.draining
        shown = describe(self._services.engine.model, self._jobs)
        try:
            await self._services.queue.beat(shown, HEARTBEAT_TTL_SECONDS, first=self._first)
        except QueueUnavailable as error:
            self._services.health.failed("redis", error)
        else:
            self._services.health.ok("redis")
            self._first = False
        return due


def describe(model: str, jobs: Jobs) -> str:
    """Return the heartbeat as JSON.

    The routers multiply `slots` and divide by `job_seconds` to know how long the queue may get; `idle_deadline` is
    null as long as nothing stops an idle worker.
    """
    seconds = jobs.average_seconds
    return json.dumps(
        {
            "state": jobs.state,
            "running": jobs.running,
            "model": model,
            "idle_deadline": None,
            "slots": jobs.limit,
            "job_seconds": seconds and round(seconds, 3),
        }
    )


async def end(queue: JobQueue) -> None:
    """Take the heartbeat away, so that no router waits for a worker that has gone; if Redis is away, it runs out."""
    with anyio.move_on_after(END_SECONDS, shield=True), suppress(QueueUnavailable):
        await queue.withdraw()
