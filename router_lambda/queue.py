"""The router's end of the queue: puts jobs in, takes one back, and sees whether a worker is there to run it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router_lambda.backlog import Capacity
from router_lambda.job import (
    CLOSING_SECONDS,
    GPU_CLOSING,
    GPU_REFUSED,
    GPU_STOP,
    GPU_WAKING,
    JOB_TTL_SECONDS,
    QUEUE_ATTEMPTS,
    QUEUE_OPEN,
    QUEUE_READY,
    Job,
    cancel_key,
    job_key,
    lease_key,
    worker_key,
)
from router_lambda.lua import CANCEL_LUA as CANCEL_LUA
from router_lambda.lua import CLOSE_LUA, FORGET_LUA, LOOK_IDS, PLACE_LUA, TAKE_OVERDUE_LUA, WITHDRAW_LUA

TIMEOUT_SECONDS: Final = 1.0
"""Longest wait for a connection and for an answer. A VPC needs a millisecond, and a user waits for this."""

STOP_SECONDS: Final = 3_600
"""Life of `gpu:stop`: longer than anything waits or runs."""

WAKER: Final = "waker"
"""Who holds the lease of a job that is answered without a worker."""

ANSWER_SECONDS: Final = 30
"""Life of such a lease: longer than an answer takes; what was not answered by then is looked at again."""


class QueueUnavailable(Exception):
    """Redis could not be reached or did not answer in time; the request may be sent again."""


class QueueFull(Exception):
    """So many ids wait that a job would expire among them. `retry_after` is in seconds."""

    def __init__(self, waiting: int, retry_after: int) -> None:
        super().__init__(f"{waiting} jobs wait")
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Placed:
    """What came of queueing a job.

    Attributes:
        id: the job's, or that of the earlier one that its Idempotency-Key stands for.
        is_new: whether this request queued it.
        is_open: whether it is still to be finished.
        has_worker: whether a worker is alive that will not stop before it has run the job.
        closing_at: Unix seconds since which the GPU is about to stop, `None` if it is not.
        backlog_seconds: how long one worker would need for all that waits.
    """

    id: str
    is_new: bool
    is_open: bool
    has_worker: bool
    closing_at: float | None
    backlog_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Moot:
    """An open job that takes no worker any more, only its final reply.

    Attributes:
        enqueued_at: when it was queued, in Unix seconds.
        status: of its reply: `cancelled` by its owner, or `expired` since its time ran out.
    """

    id: str
    enqueued_at: float
    status: str


@dataclass(frozen=True, slots=True)
class Work:
    """What there is to do.

    Attributes:
        live: open jobs that take a worker, or have one.
        moot: those that take none any more and that nobody has; they are leased for `ANSWER_SECONDS`.
        refusal: why EC2 last refused to start a GPU, if it was within the life of a job.
    """

    live: int
    moot: list[Moot]
    refusal: str | None


def connect(url: str, timeout_seconds: float = TIMEOUT_SECONDS) -> redis.Redis:
    """Make a client that connects on first use and keeps its connections between invocations.

    One retry, because a Lambda thaws with connections that the server closed long ago. A job that is queued
    twice by it runs once: the second id finds its lease taken or its job gone.
    """
    return redis.Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),
    )


@contextmanager
def translated() -> Iterator[None]:
    """Turn what redis-py raises into `QueueUnavailable`."""
    try:
        yield
    except redis.RedisError as error:
        raise QueueUnavailable(str(error)) from error


def closing_at(now: float, left_ms: int) -> float | None:
    """Return when the GPU announced its own stop, `None` if it did not: by the life left of `gpu:closing`, in ms.

    Times are Unix seconds. Without the key Redis says -2.
    """
    return now - CLOSING_SECONDS + left_ms / 1e3 if left_ms > 0 else None


class Queue:
    """The queue behind `client`. Every method raises `QueueUnavailable` when Redis cannot do it now."""

    def __init__(self, client: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        self._client = client
        self._clock = clock
        self._withdraw = client.register_script(WITHDRAW_LUA)
        self._enqueue = client.register_script(PLACE_LUA)
        self._cancel = client.register_script(CANCEL_LUA)
        self._close = client.register_script(CLOSE_LUA)
        self._take_overdue = client.register_script(TAKE_OVERDUE_LUA)
        self._forget = client.register_script(FORGET_LUA)
        # A worker is found by a scan of all keys, which takes longer the more there are; so the last one's key is kept.
        self._worker: str | bytes = worker_key("")
        self._capacity = Capacity()

    def enqueue(self, job: Job, idempotency_key: str | None = None) -> Placed:
        """Queue a job for `JOB_TTL_SECONDS`, unless its key in Redis, `idempotency_key`, stands for an earlier one.

        In one round trip, and in this order: the job is queued before the look at `gpu:closing`, so that a worker
        either sees the job, and does not close, or has closed, and is seen to have.

        Raises:
            QueueFull: the job would not run before it expires; nothing is queued.
        """
        keys = [job_key(job.id), QUEUE_OPEN, QUEUE_READY, *([idempotency_key] if idempotency_key else [])]
        with translated():
            result, waiting, closing_ms = self._place(job, keys)
            if isinstance(result, int) and result < self._capacity.most_waiting():
                # Refused by what was known of the worker before; it can do more.
                result, waiting, closing_ms = self._place(job, keys)
        if isinstance(result, int):
            raise QueueFull(result, self._capacity.seconds_until_room(result))
        closing = closing_at(self._clock(), closing_ms)
        found, is_open = result if isinstance(result, list) else (job.id.encode(), 1)
        return Placed(
            id=found.decode(),
            # By the id, as the client may have sent this job twice, when the first answer was lost.
            is_new=found == job.id.encode(),
            is_open=bool(is_open),
            has_worker=self._capacity.is_awake and closing is None,
            closing_at=closing,
            backlog_seconds=self._capacity.backlog_seconds(waiting),
        )

    def _place(self, job: Job, keys: list[str]) -> tuple[Any, int, int]:
        """Run the script and look at the worker.

        Returns what the script said, how many jobs wait, and the life of `gpu:closing` in ms.
        """
        most = self._capacity.most_waiting()
        result, waiting, closing_ms, heartbeat = self._enqueue(
            keys=[*keys[:3], GPU_CLOSING, self._worker, *keys[3:]],
            args=[job.id, job.to_json(), job.enqueued_at, JOB_TTL_SECONDS, most],
        )
        capacity = Capacity.from_heartbeat(heartbeat)
        self._capacity = capacity if capacity.is_awake else self._find_worker()
        return result, waiting, closing_ms

    def _find_worker(self) -> Capacity:
        """Look for any worker that takes jobs and say what can be run."""
        for key in self._client.scan_iter(match=worker_key("*"), count=1_000):
            heartbeat: Any = self._client.get(key)
            capacity = Capacity.from_heartbeat(heartbeat)
            if capacity.is_awake:
                self._worker = key
                return capacity
        return Capacity()

    def withdraw(self, job_id: str, idempotency_key: str | None = None) -> bool:
        """Take a job back; `False` if a worker has it already."""
        keys = [
            QUEUE_READY,
            QUEUE_OPEN,
            QUEUE_ATTEMPTS,
            job_key(job_id),
            *([idempotency_key] if idempotency_key else []),
        ]
        with translated():
            return bool(self._withdraw(keys=keys, args=[job_id]))

    def cancel(self, job_id: str, subject: str) -> bool:
        """Mark a job for cancelling; `False` if `subject` has no such job that is waiting or running."""
        with translated():
            return bool(self._cancel(keys=[job_key(job_id), cancel_key(job_id)], args=[subject, JOB_TTL_SECONDS]))

    def close(self) -> bool:
        """Set `gpu:closing` if nothing waits or runs; otherwise leave word that the GPU is to stop, and say `False`."""
        with translated():
            keys = [QUEUE_OPEN, GPU_CLOSING, GPU_STOP, GPU_WAKING]
            return bool(self._close(keys=keys, args=[CLOSING_SECONDS, STOP_SECONDS]))

    def reopen(self) -> None:
        """Forget `gpu:closing`."""
        with translated():
            self._client.delete(GPU_CLOSING)

    def take_overdue(self) -> Work:
        """See what there is to do, and take the jobs that are only to be answered, oldest first.

        In steps of `LOOK_IDS` ids, between which Redis serves others: a job that somebody takes or finishes meanwhile
        is seen as it was when its turn came.
        """
        live, flat, refusal = 0, list[bytes](), None
        prefixes, last = (job_key(""), cancel_key(""), lease_key("")), list[bytes]()
        while last is not None:
            args: list[str | int | bytes] = [*prefixes, WAKER, ANSWER_SECONDS, LOOK_IDS, *last]
            with translated():
                found, taken, last, refusal = self._take_overdue(keys=[QUEUE_OPEN, GPU_REFUSED], args=args)
            live += found
            flat += taken
        parts = [part.decode("utf-8", "replace") for part in flat]
        moot = [Moot(*each) for each in zip(parts[::3], map(float, parts[1::3]), parts[2::3], strict=True)]
        return Work(live, moot, None if refusal is None else refusal.decode("utf-8", "replace"))

    def forget(self, job_id: str) -> None:
        """Forget a job that was taken by `take_overdue` and is answered; nothing happens if somebody else has it."""
        keys = [lease_key(job_id), job_key(job_id), cancel_key(job_id), QUEUE_OPEN, QUEUE_ATTEMPTS, QUEUE_READY]
        with translated():
            self._forget(keys=keys, args=[job_id, WAKER])
