"""The worker's end of the queue in Redis: pop, claim, renew, acknowledge, release, sweep; and its heartbeat."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha1
from math import inf
from typing import Any, Final, Literal, Self

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError

from router_lambda.job import (
    CLOSING_SECONDS,
    ENQUEUE_LUA,
    GPU_BOOTING,
    GPU_BOOTS,
    GPU_CLOSING,
    GPU_PHASES,
    GPU_STOP,
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
from worker.line import Line

POP_SECONDS: Final = 1
"""How long one BLPOP waits. Also the longest time until a drain or a silent network failure is noticed."""

ANSWER_SECONDS: Final = 5.0
"""Longest wait for an answer that should come at once; for a pop, on top of `POP_SECONDS`."""

MAX_ATTEMPTS: Final = 3
"""Tries after which a job ends as failed: whatever kills its workers must not kill them for ever."""

MOST_AT_ONCE: Final = 16
"""Most ids that one claim takes."""

BOOTS_KEPT: Final = 20
"""Boots whose durations are kept."""


@dataclass(frozen=True, slots=True)
class Claim:
    """What came of claiming an id.

    `run`: this worker holds the lease; `payload` is the job. `cancelled`, `expired`: it holds the lease of a job that
    its owner does not want any more, or whose payload ran out, to tell the client so. `taken`: another worker holds it.
    `gone`: it ended before. `bad`: it can name no job, and was dropped.
    """

    state: Literal["run", "cancelled", "expired", "taken", "gone", "bad"]
    attempt: int = 0
    enqueued_at: float = inf
    """Unix seconds at the router; infinite when nobody noted it."""
    payload: bytes = b""
    asked_at: float = field(default_factory=time.monotonic)
    """Monotonic seconds from which the lease counts at the latest."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of claiming several ids, in the order of the line, and how many still wait."""

    claims: list[tuple[str, Claim]]
    waiting: int

    @classmethod
    def from_answer(cls, answer: Any, asked_at: float) -> Self:
        """Read the answer of `lua.CLAIM`."""
        waiting, said = answer
        return cls([_read_claim(each, asked_at) for each in said], waiting)


@dataclass(frozen=True, slots=True)
class Renewal:
    """What came of renewing leases: ids whose lease somebody else holds, and ids whose lease nobody holds."""

    lost: set[str]
    free: set[str]


@dataclass(slots=True)
class _Ended:
    """Jobs of which Redis is told together that they have ended; `refused` stays `None` if it has not been told."""

    ids: list[str] = field(default_factory=list)
    told: asyncio.Event = field(default_factory=asyncio.Event)
    refused: list[bytes] | None = None
    failure: QueueUnavailable | None = None


class JobQueue:
    """One worker's view of the queue. Every method raises `QueueUnavailable` when Redis does not answer."""

    def __init__(self, line: Line, commands: redis.asyncio.Redis, worker_id: str) -> None:
        """Take jobs by `line`, which BLPOP keeps busy, and do everything else by `commands`."""
        self._line = line
        self._commands = commands
        self._worker_id = worker_id
        self._claim_sha = sha1(lua.CLAIM.encode(), usedforsecurity=False).hexdigest()
        self._give_back = commands.register_script(lua.GIVE_BACK)
        self._renew = commands.register_script(lua.RENEW)
        self._retake = commands.register_script(lua.RETAKE)
        self._acknowledge = commands.register_script(lua.ACKNOWLEDGE)
        self._release = commands.register_script(lua.RELEASE)
        self._sweep = commands.register_script(lua.SWEEP)
        self._begin = commands.register_script(lua.BEGIN)
        self._close = commands.register_script(lua.CLOSE)
        self._translated = _Translated(self._look_up_anew)
        self._ended = _Ended()
        self._telling = asyncio.Lock()

    @classmethod
    def from_url(cls, url: str, worker_id: str) -> Self:
        """Make a queue on a Redis URL; connects on first use.

        No retries inside the client: the callers back off, and they must know. The limit is one for each answer, so
        that a slow server, where shaking hands alone takes several answers, is slow and not out of reach.
        """

        def client(**options: Any) -> redis.asyncio.Redis:
            return redis.asyncio.Redis.from_url(
                url, retry=Retry(NoBackoff(), 0), socket_connect_timeout=ANSWER_SECONDS, **options
            )

        return cls(Line(client(socket_timeout=ANSWER_SECONDS)), client(socket_timeout=ANSWER_SECONDS), worker_id)

    async def take(self, room: int, *, wait: bool = True, known: Iterable[str] | None = None) -> Claimed:
        """Take the leases of at most `room` ids; `wait` up to `POP_SECONDS` for the first by BLPOP.

        BLPOP and the claim of what it pops go out together, so that the claim runs the moment that there is something.

        After a call that got no answer Redis may have granted it all the same. Then `known` are the ids that this
        worker knows it has; what else is leased to it is handed over, too.

        To be shielded from cancellation, after which what was taken would have to be waited for.
        """
        async with self._translated:
            if not wait:
                return await self._claim(b"", room, known)
            asked_at = time.monotonic()
            pop = ("BLPOP", QUEUE_READY, POP_SECONDS)
            popped, said = await self._line.ask(
                pop, self._claiming(b"?", room, known), within=POP_SECONDS + ANSWER_SECONDS
            )
            if isinstance(said, NoScriptError):
                return await self._claim(popped[1] if popped else b"", room, known)
            for answer in (popped, said):
                if isinstance(answer, RedisError):
                    raise answer
            claimed = Claimed.from_answer(said, asked_at)
            if popped and popped[1] not in (each[0] for each in said[1]):
                left = room - len(claimed.claims)
                if left < 1:
                    await self._commands.lpush(QUEUE_READY, popped[1])
                else:
                    others = await self._claim(popped[1], left, None)
                    claimed = Claimed(claimed.claims + others.claims, others.waiting)
        return claimed

    async def _claim(self, popped: bytes, room: int, known: Iterable[str] | None) -> Claimed:
        asked_at = time.monotonic()
        command = self._claiming(popped, room, known)
        (said,) = await self._line.ask(command, within=ANSWER_SECONDS)
        if isinstance(said, NoScriptError):
            await self._commands.script_load(lua.CLAIM)
            (said,) = await self._line.ask(command, within=ANSWER_SECONDS)
        if isinstance(said, RedisError):
            raise said
        return Claimed.from_answer(said, asked_at)

    def _claiming(self, popped: bytes, room: int, known: Iterable[str] | None) -> tuple[Any, ...]:
        """Return the command that runs `lua.CLAIM`."""
        keys = (QUEUE_READY, QUEUE_OPEN, QUEUE_ATTEMPTS)
        limits = (lua.LEASE_SECONDS, JOB_TTL_SECONDS, MAX_ATTEMPTS, min(room, MOST_AT_ONCE))
        again = () if known is None else (lua.SWEEP_SLACK, *known)
        return ("EVALSHA", self._claim_sha, 3, *keys, self._worker_id, *limits, *_PREFIXES, popped, *again)

    async def give_back(self, job_ids: list[str]) -> None:
        """Undo a `take` of jobs that are not begun."""
        async with self._translated:
            await self._give_back(keys=[QUEUE_READY, QUEUE_ATTEMPTS], args=[self._worker_id, lease_key(""), *job_ids])

    async def renew(self, job_ids: Iterable[str]) -> Renewal:
        """Renew the leases of running jobs that this worker holds, and say which it does not."""
        ids = list(job_ids)
        keys = [key for job_id in ids for key in (lease_key(job_id), job_key(job_id))]
        async with self._translated:
            lists = await self._renew(keys=keys, args=[self._worker_id, lua.LEASE_SECONDS, JOB_TTL_SECONDS, *ids])
        lost, free = ({job_id.decode() for job_id in found} for found in lists)
        return Renewal(lost, free)

    async def retake(self, job_id: str, claim: Claim) -> bool:
        """Take a lease back that ran out; `False` if somebody else has it by now.

        A Redis that came back empty is told of the claimed job anew, so that it is found should this worker die.
        """
        keys = [lease_key(job_id), job_key(job_id), QUEUE_OPEN]
        async with self._translated:
            state = await self._retake(keys=keys, args=[job_id, self._worker_id, lua.LEASE_SECONDS, JOB_TTL_SECONDS])
            if state == b"unknown" and claim.payload:
                await self._restore(job_id, claim)
        return bool(state != b"lost")

    async def _restore(self, job_id: str, claim: Claim) -> None:
        """Queue a job again by the one script that may; its entry in the ready list is turned away by the lease."""
        enqueued_at = claim.enqueued_at if claim.enqueued_at < inf else time.time()
        keys = [job_key(job_id), QUEUE_OPEN, QUEUE_READY]
        async with self._commands.pipeline(transaction=True) as step:
            step.eval(ENQUEUE_LUA, len(keys), *keys, job_id, claim.payload, enqueued_at, JOB_TTL_SECONDS)
            step.hsetnx(QUEUE_ATTEMPTS, job_id, claim.attempt)
            await step.execute()

    async def cancelled(self, job_ids: Iterable[str]) -> set[str]:
        """Return those of the ids whose owners want them cancelled."""
        ids = list(job_ids)
        async with self._translated:
            marks = await self._commands.mget([cancel_key(job_id) for job_id in ids])
        return {job_id for job_id, mark in zip(ids, marks, strict=True) if mark is not None}

    async def acknowledge(self, job_id: str) -> bool:
        """Forget a job whose final reply is written; `False` if its lease is somebody else's, who then does it.

        Those that end while Redis is being told of others are told together, by the first of them for all.
        """
        while True:
            batch = self._ended
            batch.ids.append(job_id)
            if len(batch.ids) == 1:
                await self._tell(batch)
            else:
                await batch.told.wait()
            if batch.failure is not None:
                raise QueueUnavailable(str(batch.failure))
            if batch.refused is not None:
                return job_id.encode() not in batch.refused
            # The one that was to tell it was cancelled meanwhile.

    async def _tell(self, batch: _Ended) -> None:
        try:
            await asyncio.sleep(0)  # for whatever else ends in this round of the event loop
            async with self._telling:
                self._ended = _Ended()
                async with self._translated:
                    batch.refused = await self._acknowledge(
                        keys=[QUEUE_OPEN, QUEUE_ATTEMPTS], args=[self._worker_id, *_PREFIXES, *batch.ids]
                    )
        except QueueUnavailable as failure:
            batch.failure = failure
        finally:
            if self._ended is batch:
                self._ended = _Ended()
            batch.told.set()

    async def release(self, job_id: str) -> bool:
        """Hand a job back unfinished; `False` when its lease is somebody else's by now."""
        async with self._translated:
            keys = [lease_key(job_id), QUEUE_READY]
            return bool(await self._release(keys=keys, args=[job_id, self._worker_id]))

    async def sweep(self, *, first: bool = False) -> int:
        """Put back every open id that nobody has; returns how many.

        The `first` sweep of a worker's life also ends the leases that an earlier life under the same id left.
        """
        keys = [QUEUE_OPEN, QUEUE_READY, QUEUE_ATTEMPTS, worker_key(self._worker_id)]
        async with self._translated:
            return int(
                await self._sweep(keys=keys, args=[lease_key(""), self._worker_id if first else "", lua.SWEEP_SLACK])
            )

    async def ping(self) -> None:
        """See whether Redis answers."""
        async with self._translated:
            await self._commands.ping()

    async def begin(self, heartbeat: str, life: int) -> float | None:
        """Show this worker's first heartbeat for `life` seconds, and note how long its boot took.

        Returns when somebody asked for the start, in Unix seconds, `None` if nobody did, as after a crash.
        """
        keys = [worker_key(self._worker_id), GPU_WAKING, GPU_CLOSING, GPU_BOOTING, GPU_BOOTS]
        async with self._translated:
            started = await self._begin(keys=keys, args=[heartbeat, life, time.time(), BOOTS_KEPT])
        return float(started) if started else None

    async def beat(self, heartbeat: str, life: int) -> None:
        """Show this worker's heartbeat for `life` seconds."""
        async with self._translated:
            await self._commands.set(worker_key(self._worker_id), heartbeat, ex=life)

    async def note_phases(self, phases: str) -> None:
        """Keep what the phases of this worker's boot took, as JSON, with those of the last boots."""
        async with self._translated, self._commands.pipeline(transaction=True) as step:
            step.lpush(GPU_PHASES, phases)
            step.ltrim(GPU_PHASES, 0, BOOTS_KEPT - 1)
            await step.execute()

    async def is_stop_wanted(self) -> bool:
        """Tell whether somebody wants the GPU to stop once nothing runs."""
        async with self._translated:
            return bool(await self._commands.exists(GPU_STOP))

    async def close(self, heartbeat: str, life: int) -> bool:
        """Close the GPU if nothing waits or runs; `heartbeat` is then shown for `life` seconds.

        After a call that got no answer it may be closed all the same; the next call says so, or opens it again.
        """
        own = worker_key(self._worker_id)
        async with self._translated:
            others = [key async for key in self._commands.scan_iter(match=worker_key("*"), count=1_000)]
            keys = [QUEUE_OPEN, QUEUE_READY, GPU_CLOSING, GPU_STOP, GPU_WAKING, own]
            keys += sorted(key.decode() for key in others if key != own.encode())
            return bool(await self._close(keys=keys, args=[self._worker_id, CLOSING_SECONDS, heartbeat, life]))

    async def withdraw(self) -> None:
        """Take this worker's heartbeat away."""
        async with self._translated:
            await self._commands.delete(worker_key(self._worker_id))

    async def aclose(self) -> None:
        """Close the connections."""
        await self._line.aclose()
        await self._commands.aclose()

    async def _look_up_anew(self) -> None:
        """Close the connections that nobody uses now, so that the server's name is looked up again."""
        await self._line.hang_up()
        await self._commands.connection_pool.disconnect(inuse_connections=False)


class _Translated:
    """Raises what went wrong with Redis as `QueueUnavailable`."""

    def __init__(self, look_up_anew: Callable[[], Awaitable[None]]) -> None:
        self._look_up_anew = look_up_anew

    async def __aenter__(self) -> None:
        return None

    async def __aexit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        if isinstance(error, (RedisError, TimeoutError, OSError)):
            if "READONLY" in str(error):
                # A failover has made this server a replica, which keeps its connections: without them the name is
                # looked up again, and leads to the new primary.
                await self._look_up_anew()
            raise QueueUnavailable(f"{type(error).__name__}: {error}") from error


_PREFIXES: Final = (lease_key(""), job_key(""), cancel_key(""))


def _read_claim(said: list[Any], asked_at: float) -> tuple[str, Claim]:
    job_id, state, *held = said
    name = job_id.decode("ascii", "replace")
    if not held:
        return name, Claim(state.decode())
    attempt, enqueued_at, payload = held
    return name, Claim(state.decode(), attempt, float(enqueued_at or "inf"), payload, asked_at)
