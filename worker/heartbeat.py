"""The key by which the routers know that this worker lives: `worker:{id}`, renewed every few seconds."""

from __future__ import annotations

import json
import time
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

    def __init__(self, services: Services, jobs: Jobs, instance_id: str | None = None) -> None:
        self._services = services
        self._jobs = jobs
        self._instance_id = instance_id
        self._since = time.time()
        self._has_begun = False
        self._asked_for: float | None = None
        self._told_draining = False

    async def keep(self, *, task_status: TaskStatus[float | None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Beat until cancelled; has started once the first beat is tried.

        Starts with when the instance's start was asked for, in Unix seconds, `None` if that is not known.
        """
        due = await self._beat()
        task_status.started(self._asked_for)
        while True:
            with anyio.move_on_at(due):
                await (anyio.sleep_forever() if self._told_draining else self._jobs.drain_begun())
            due = await self._beat()

    async def _beat(self) -> float:
        """Beat once and return when the next beat is due; one that Redis does not take is only noted."""
        due = anyio.current_time() + HEARTBEAT_SECONDS
        self._told_draining = self._jobs.draining
        queue, shown = self._services.queue, self.shown()
        try:
            if self._has_begun:
                await queue.beat(shown, HEARTBEAT_TTL_SECONDS)
            else:
                self._asked_for = await queue.begin(shown, HEARTBEAT_TTL_SECONDS)
        except QueueUnavailable as error:
            self._services.health.failed("redis", error)
        else:
            self._services.health.ok("redis")
            self._has_begun = True
        return due

    def shown(self, state: str | None = None) -> str:
        """Return the heartbeat as JSON, in the present state or in another one.

        `running` counts requests over HTTP, too. The routers multiply `slots`, the places that jobs may have, and
        divide by `job_seconds` to know how long the queue may get. `since`, `token_at`
        and `idle_deadline` are Unix seconds: when this worker became ready, its last token, and when it stops its
        instance if nothing comes, null while something runs.
        """
        jobs, services = self._jobs, self._services
        seconds, left, token_at = jobs.average_seconds, services.idle.seconds_left, services.pulse.token_at
        return json.dumps(
            {
                "state": state or jobs.state,
                "running": jobs.running + jobs.places.requests,
                "model": services.engine.model,
                "idle_deadline": None if left is None else round(time.time() + left, 3),
                "slots": max(1, jobs.places.limit - jobs.places.requests),
                "job_seconds": seconds and round(seconds, 3),
                "instance": self._instance_id,
                "since": round(self._since, 3),
                "token_at": token_at and round(token_at, 3),
            }
        )


async def end(queue: JobQueue) -> None:
    """Take the heartbeat away, so that no router waits for a worker that has gone; if Redis is away, it runs out."""
    with anyio.move_on_after(END_SECONDS, shield=True), suppress(QueueUnavailable):
        await queue.withdraw()
