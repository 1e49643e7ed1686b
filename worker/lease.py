"""What a run knows of its lease: until when it surely holds, and how to get it back."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from worker.errors import LeaseLost, QueueUnavailable
from worker.health import Health
from worker.lua import LEASE_SECONDS
from worker.queue import Claim, JobQueue

ASK_AGAIN_SECONDS: Final = 5.0
"""Time between two questions for a lease while Redis does not answer: each may take seconds."""


class Lease:
    """The lease of one running job.

    It is renewed together with all others (`Jobs.keep_leases`), which tells it with `renewed`. A process that was
    paused, or that Redis did not answer, cannot know whether its leases still hold: `check` asks before a write.
    """

    def __init__(
        self,
        job_id: str,
        claim: Claim,
        queue: JobQueue,
        health: Health,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin with the lease that `claim` took; `clock` gives monotonic seconds, as the claim has them."""
        self.lost = False
        self._job_id = job_id
        self._claim = claim
        self._queue = queue
        self._health = health
        self._clock = clock
        self._sure_until = claim.asked_at + LEASE_SECONDS
        self._ended = False
        self._one_at_a_time = asyncio.Lock()

    def renewed(self, asked_at: float) -> None:
        """Note that a renewal that was sent at this time, by the lease's clock, has succeeded."""
        self._sure_until = asked_at + LEASE_SECONDS

    async def check(self) -> None:
        """Make sure that nobody else has the job.

        Returns as well when Redis does not answer: then the condition of the write alone decides.

        Raises:
            LeaseLost: somebody else has it.
        """
        if not self.lost and self._clock() >= self._sure_until:
            try:
                await self.retake()
            except QueueUnavailable as error:
                self._health.failed("redis", error)
                self._sure_until = self._clock() + ASK_AGAIN_SECONDS
        if self.lost:
            raise LeaseLost("another worker runs this job by now")

    async def retake(self) -> None:
        """Take the lease back if it has run out; nothing happens to one that is given up.

        Raises:
            QueueUnavailable: Redis does not answer.
        """
        async with self._one_at_a_time:
            if self._ended:
                return
            asked_at = self._clock()
            if await self._queue.retake(self._job_id, self._claim):
                self.renewed(asked_at)
            else:
                self.lost = True

    async def acknowledge(self) -> bool:
        """Give the lease up for a job that is done, see `JobQueue.acknowledge`."""
        async with self._one_at_a_time:  # else a lease that is being taken back would bring the job back as well
            self._ended = True
            return await self._queue.acknowledge(self._job_id)

    async def release(self) -> bool:
        """Give the lease up for others to take the job, see `JobQueue.release`."""
        async with self._one_at_a_time:
            self._ended = True
            return await self._queue.release(self._job_id)
