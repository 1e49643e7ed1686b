"""Workers that become idle at some moment, and how late their GPU is closed."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from typing import Final

import anyio

from tests.fakes import FakeEngine, MemoryStore
from worker.closing import Closing
from worker.health import Health
from worker.heartbeat import Heartbeat
from worker.idle import MINUTE, IdleTimer
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services

AIM_SECONDS: Final = 0.25
"""Largest error at the 99th percentile; the requirement is 5 s."""


class IdleWorker:
    """The real decision and the real closing; jobs are only told to the timer."""

    def __init__(self, queue: JobQueue, idle_minutes: float) -> None:
        self._default = idle_minutes
        self._idle = IdleTimer(idle_minutes)
        self._deadline = anyio.current_time() + idle_minutes * MINUTE
        services = Services(FakeEngine(), queue, MemoryStore(), Health(), idle=self._idle)
        self.jobs = Jobs(services, 8)
        self.services = services
        self.closing = Closing(services, self.jobs, Heartbeat(services, self.jobs))

    async def use(self, rng: random.Random, most_pause: float, most_seconds: float, wishes: Sequence[int]) -> None:
        """Let a few jobs run one after the other, each soon enough after the one before."""
        wished = []
        for _ in range(rng.randrange(4)):
            await anyio.sleep(rng.uniform(0, most_pause))
            self._idle.begin()
            await anyio.sleep(rng.uniform(0, most_seconds))
            minutes = rng.choice(wishes)
            self._idle.end(minutes)
            wished.append(anyio.current_time() + (self._default if minutes == 5 else minutes) * MINUTE)
        self._deadline = max(wished, default=self._deadline)

    async def seconds_late(self) -> float:
        """Wait until the GPU is closed and return how long after the deadline, negative before it."""
        await self.closing.closed()
        return anyio.current_time() - self._deadline


def percentile_99(errors: Sequence[float]) -> float:
    """Return the 99th percentile of the errors' sizes, by the nearest-rank method."""
    ordered = sorted(map(abs, errors))
    return ordered[math.ceil(0.99 * len(ordered)) - 1]
