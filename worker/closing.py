"""Closes the GPU when it has been idle for long enough, or as soon as somebody wants it to stop.

Closing is one script in Redis (`worker.lua.CLOSE`): it happens only if nothing waits and nothing runs, and whoever
queues a job after it is told that the GPU has to start again. Every order of the two is walked through in
docs/failures.md.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import anyio
import structlog

from worker.errors import QueueUnavailable
from worker.heartbeat import HEARTBEAT_TTL_SECONDS, Heartbeat
from worker.jobs import Jobs
from worker.run import Services

LOOK_SECONDS: Final = 1.0
"""Time between two looks whether somebody wants the GPU to stop, and between two tries to close it."""

PATIENCE_SECONDS: Final = 60.0
"""How long a Redis that does not answer keeps an idle GPU up. Nobody can be told of the stop then, and nobody has to
be: whoever queues a job finds no heartbeat, and the waker finds the job."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Closed:
    """Why the GPU stops, and how many seconds after its idle time was up."""

    reason: Literal["idle", "asked"]
    seconds_late: float


class Closing:
    """Looks after one worker's idle time."""

    def __init__(
        self, services: Services, jobs: Jobs, heartbeat: Heartbeat, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Take what is to be looked at, and what to show; `clock` gives monotonic seconds."""
        self._services = services
        self._heartbeat = heartbeat
        self._idle = services.idle
        self._jobs = jobs
        self._clock = clock
        self._away_since: float | None = None

    async def closed(self) -> Closed:
        """Wait until the GPU is closed; from then on no more jobs are taken."""
        wait = 0.0
        while True:
            await anyio.sleep(wait)
            if self._jobs.draining:
                await anyio.sleep_forever()  # it ends for another reason, and others decide about its instance
            is_due = self._idle.seconds_left == 0.0
            if self._jobs.is_idle and (found := await self._try(is_due=is_due)):
                return found
            left = None if is_due else self._idle.seconds_left
            wait = LOOK_SECONDS if left is None else min(left, LOOK_SECONDS)

    async def _try(self, *, is_due: bool) -> Closed | None:
        """Close if there is a reason to and nothing to do."""
        try:
            if not is_due and not await self._services.queue.is_stop_wanted():
                self._away_since = None
                return None
        except QueueUnavailable as error:
            self._services.health.failed("redis", error)
            return None
        # Requests over HTTP are not in Redis: one that comes from here on waits for what comes of it.
        self._jobs.places.shut()
        try:
            if not self._jobs.is_idle or not await self._is_closed(is_due=is_due):
                return None
            late = self._idle.seconds_late
            self._jobs.drain()
            return Closed("idle" if is_due else "asked", late)
        finally:
            self._jobs.places.reopen()

    async def _is_closed(self, *, is_due: bool) -> bool:
        """Close it in Redis, or for good without Redis once that has not answered for too long."""
        try:
            closed = await self._services.queue.close(self._heartbeat.shown("draining"), HEARTBEAT_TTL_SECONDS)
        except QueueUnavailable as error:
            self._services.health.failed("redis", error)
            if not is_due or not self._is_out_of_patience():
                return False
            log.warning("closes without Redis, which does not answer")
            return True
        self._away_since = None
        return closed

    def _is_out_of_patience(self) -> bool:
        now = self._clock()
        if self._away_since is None:
            self._away_since = now
        return now - self._away_since >= PATIENCE_SECONDS
