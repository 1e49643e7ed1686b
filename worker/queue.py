"""The worker's end of the queue in Redis: pop, claim, renew, acknowledge, release, sweep; and its heartbeat."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from math import inf
from typing import Any, Final, Literal, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError

from router_lambda.job import (
    GPU_WAKING,
    JOB_TTL_SECONDS,
    QUEUE_ATTEMPTS,
    QUEUE_OPEN,
    QUEUE_READY,
    cancel_key,
    job_key,
    lease_key,
    worker_key,
)
from worker import lua
from worker.errors import QueueUnavailable

POP_SECONDS: Final = 1
"""How long one BLPOP waits. Also the longest time until a drain or a silent network failure is noticed."""

ANSWER_SECONDS: Final = 5.0
"""Longest wait for an answer that should come at once; for a pop, on top of `POP_SECONDS`."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of claiming an id.

    `run`: this worker holds the lease; `payload` is the job. `expired`: it holds the lease of a job whose payload ran
    out, to tell the client so. `taken`: another worker holds it. `gone`: it ended before.
    """

    state: Literal["run", "expired", "taken", "gone"]
    attempt: int = 0
    enqueued_at: float = inf
    """Unix seconds at the router; infinite when nobody noted it."""
    payload: bytes = b""


class JobQueue:
    """One worker's view of the queue. Every method raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, blocking: redis.asyncio.Redis, commands: redis.asyncio.Redis, worker_id: str) -> None:
        """Take two clients: BLPOP keeps one connection busy, and the others must not wait behind it."""
        self._blocking = blocking
        self._commands = commands
        self._worker_id = worker_id
        self._claim = commands.register_script(lua.CLAIM)
        self._renew = commands.register_script(lua.RENEW)
        self._acknowledge = commands.register_script(lua.ACKNOWLEDGE)
        self._release = commands.register_script(lua.RELEASE)
        self._sweep = commands.register_script(lua.SWEEP)

    @classmethod
    def from_url(cls, url: str, worker_id: str) -> Self:
        """Make a queue on a Redis URL; connects on first use.

        No retries inside the client: the callers back off, and they must know. No socket timeout on the blocking
        client, which would fire while BLPOP waits as it should, and can swallow a cancellation on Python 3.11;
        `pop` sets its own limit.
        """

        def client(**options: Any) -> redis.asyncio.Redis:
            return redis.asyncio.Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=ANSWER_SECONDS, **options
            )

        return cls(client(socket_timeout=None), client(socket_timeout=ANSWER_SECONDS), worker_id)

    async def pop(self) -> bytes | None:
        """Wait up to `POP_SECONDS` for an id and take it off the ready list; it may be any bytes."""
        async with _translated():
            async with asyncio.timeout(POP_SECONDS + ANSWER_SECONDS):
                popped: Any = await self._blocking.blpop([QUEUE_READY], timeout=POP_SECONDS)
            return popped[1] if popped else None

    async def claim(self, job_id: str) -> Claim:
        """Take the lease of an id, count the attempt and read the payload."""
        keys = [lease_key(job_id), job_key(job_id), QUEUE_OPEN, QUEUE_ATTEMPTS]
        async with _translated():
            state, *held = await self._claim(
                keys=keys, args=[job_id, self._worker_id, lua.LEASE_SECONDS, JOB_TTL_SECONDS]
            )
        if not held:
            return Claim(state.decode())
        attempt, enqueued_at, payload = held
        return Claim(state.decode(), attempt, float(enqueued_at or "inf"), payload)

    async def renew(self, job_ids: Iterable[str]) -> set[str]:
        """Renew the leases of running jobs and return the ids that this worker no longer holds."""
        ids = list(job_ids)
        keys = [key for job_id in ids for key in (lease_key(job_id), job_key(job_id))]
        async with _translated():
            lost = await self._renew(keys=keys, args=[self._worker_id, lua.LEASE_SECONDS, JOB_TTL_SECONDS, *ids])
        return {job_id.decode() for job_id in lost}

    async def acknowledge(self, job_id: str) -> bool:
        """Forget a job whose final reply is written; `False` when its lease is somebody else's by now."""
        keys = [lease_key(job_id), job_key(job_id), cancel_key(job_id), QUEUE_OPEN, QUEUE_ATTEMPTS]
        async with _translated():
            return bool(await self._acknowledge(keys=keys, args=[job_id, self._worker_id]))

    async def release(self, job_id: str) -> bool:
        """Hand a job back unfinished; `False` when its lease is somebody else's by now."""
        async with _translated():
            keys = [lease_key(job_id), QUEUE_READY]
            return bool(await self._release(keys=keys, args=[job_id, self._worker_id]))

    async def put_back(self, popped: bytes) -> None:
        """Undo a pop before any claim."""
        async with _translated():
            await self._commands.lpush(QUEUE_READY, popped)

    async def forget(self, popped: bytes) -> None:
        """Drop an id that can name no job."""
        async with _translated():
            await self._commands.zrem(QUEUE_OPEN, popped)

    async def sweep(self) -> int:
        """Put back every open id that nobody has; returns how many."""
        async with _translated():
            return int(await self._sweep(keys=[QUEUE_OPEN, QUEUE_READY], args=[lease_key("")]))

    async def beat(self, heartbeat: str, life: int, *, first: bool) -> None:
        """Show this worker's heartbeat for `life` seconds.

        The first one also takes away the routers' note that a start was asked for, in the same step: whoever finds
        no note finds a worker.
        """
        async with _translated(), self._commands.pipeline(transaction=True) as step:
            step.set(worker_key(self._worker_id), heartbeat, ex=life)
            if first:
                step.delete(GPU_WAKING)
            await step.execute()

    async def withdraw(self) -> None:
        """Take this worker's heartbeat away."""
        async with _translated():
            await self._commands.delete(worker_key(self._worker_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._blocking.aclose()
        await self._commands.aclose()


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, TimeoutError, OSError) as error:
        raise QueueUnavailable(f"{type(error).__name__}: {error}") from error
