"""Two routers that queue jobs, hear no answer and queue them again, and whose users change their minds."""

from __future__ import annotations

import random
from dataclasses import replace

import anyio

from router_lambda.job import Job, idempotency_key, new_job_id
from router_lambda.queue import Queue, QueueFull
from tests.fakes import make_job
from tests.simulation.ledger import Broken, Known, Ledger
from tests.simulation.loop import EPOCH, VirtualLoop
from tests.simulation.redis_side import RedisServer

SUBJECT = "somebody"


class Router:
    """One router with the real queue; each of its calls takes effect at once and whole, as one script does."""

    def __init__(self, name: str, loop: VirtualLoop, rng: random.Random, server: RedisServer, ledger: Ledger) -> None:
        self._name = name
        self._rng = rng
        self._loop = loop
        self._server = server
        self._ledger = ledger
        self._queue = Queue(server.client(), clock=lambda: EPOCH + loop.time())

    async def send(self, jobs: int, within: float) -> None:
        """Queue so many jobs, spread over some seconds, each in a task of its own."""
        async with anyio.create_task_group() as users:
            for number in range(jobs):
                await anyio.sleep(self._rng.expovariate(jobs / within))
                users.start_soon(self._serve_user, f"{self._name}-{number}")

    async def _serve_user(self, name: str) -> None:
        key = idempotency_key(SUBJECT, name) if self._rng.random() < 0.3 else None
        job = self._new_job()
        known = self._enqueue(job, key)
        if known is None:
            return
        if self._rng.random() < 0.15:
            # Its answer was lost. The router's client repeats the very same call; a user with a key sends a new job.
            await anyio.sleep(self._rng.choice((0.01, 1.0, self._rng.uniform(0.0, 30.0))))
            self._enqueue(self._new_job() if key else job, key)
        if self._rng.random() < 0.05:
            await self._withdraw(known, key)
        elif self._rng.random() < 0.2:
            await self._cancel(known)

    def _new_job(self) -> Job:
        params = {"n": 2} if self._rng.random() < 0.25 else {}
        job_id = new_job_id(self._rng.randbytes(16))
        return make_job(id=job_id, params=params, enqueued_at=EPOCH + self._loop.time())

    def _enqueue(self, job: Job, key: str | None) -> Known | None:
        job = replace(job, enqueued_at=EPOCH + self._loop.time())
        known = self._ledger.jobs.setdefault(job.id, Known(job.id, job.params.get("n", 1)))
        try:
            placed = self._queue.enqueue(job, key)
        except QueueFull:
            self._ledger.note(self._name, "refused", job.id[:4])
            return None
        self._ledger.note(self._name, "queued", job.id[:4], "as", placed.id[:4])
        self._server.serve()
        if placed.id != job.id:
            if key is None:
                raise Broken(f"{job.id} was queued as {placed.id}, without an Idempotency-Key")
            return None
        if not (key and known.queued):  # else its key stood for itself, and nothing was queued
            known.queued.append(self._loop.time())
        return known

    async def _withdraw(self, known: Known, key: str | None) -> None:
        await anyio.sleep(self._rng.choice((0.0, 0.2)))
        known.is_withdrawn = self._queue.withdraw(known.id, key)
        self._ledger.note(self._name, "withdrew" if known.is_withdrawn else "could not withdraw", known.id[:4])

    async def _cancel(self, known: Known) -> None:
        await anyio.sleep(self._rng.choice((0.0, self._rng.uniform(0.0, 5.0), self._rng.uniform(0.0, 30.0))))
        if self._queue.cancel(known.id, SUBJECT):
            known.cancelled = known.cancelled or self._loop.time()
            self._ledger.note(self._name, "cancelled", known.id[:4])
