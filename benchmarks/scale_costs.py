"""What one job, one sweep and one look cost while so many jobs wait: the part of `benchmarks.scale` about the queue.

All on one Redis server that nobody else uses. The queue is filled by the router's own script; around each measure its
length stays the same, as what is queued is taken off again.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from itertools import count
from random import Random
from statistics import median
from typing import Any, Final

import redis

from router_lambda.heartbeat import read_all
from router_lambda.job import (
    ENQUEUE_LUA,
    JOB_TTL_SECONDS,
    QUEUE_OPEN,
    QUEUE_READY,
    Job,
    job_key,
    new_job_id,
    reply_path,
    worker_key,
)
from router_lambda.queue import Queue
from router_lambda.throttle import Throttle, rate_key
from worker.queue import JobQueue

BUCKET: Final = "tl-fif"
PROMPT: Final = ("Why is the sky blue? " * 50)[:1_000]
"""1 kB, as a waiting job carries it."""

AWAKE: Final = json.dumps({"slots": 64, "job_seconds": 0.05})
"""A worker that lets the queue grow: at the usual ten seconds a job the router would refuse long before 100,000."""

PIPED: Final = 1_000
"""Jobs that are queued by one round trip when the queue is filled."""

PING: Final = "PING"
ENQUEUE: Final = "admit and enqueue"
TAKE: Final = "take, acknowledge"
SWEEP: Final = "sweep"
OVERDUE: Final = "a step of a look for overdue jobs"
OVERDUE_WHOLE: Final = "all steps of such a look"
WORKERS: Final = "look for workers"

PER_JOB: Final = (PING, ENQUEUE, TAKE)
"""What is done for each job, after what a round trip takes anyway."""

NOW_AND_THEN: Final = (SWEEP, OVERDUE, OVERDUE_WHOLE, WORKERS)
"""What is done from time to time: every worker sweeps each 5 s, the waker looks once a minute, `/status` when asked."""

SLOWLOG_US: Final = 5
"""Redis notes what takes at least so long: every script, and next to nothing of what scripts call."""

SLOWLOG_ENTRIES: Final = 10_000

Costs = dict[str, float]
"""Milliseconds of each of these, and `bytes` of Redis' memory for a job that waits."""


def jobs() -> Iterator[Job]:
    """Yield jobs, each its own.

    Their ids are random, as the router's: Lua hashes every second letter of them, and numbers would mostly be the same.
    """
    random = Random(1)
    for number in count():
        job_id = new_job_id(random.randbytes(16))
        yield Job(
            id=job_id,
            sub=f"user-{number}",
            prompt=PROMPT,
            messages=None,
            raw=False,
            params={"max_tokens": 256},
            idle_minutes=5,
            reply_path=reply_path(BUCKET, job_id),
            enqueued_at=time.time(),
        )


def fill(client: redis.Redis, source: Iterator[Job], wanted: int) -> None:
    """Queue jobs until so many wait."""
    script: Any = client.script_load(ENQUEUE_LUA)
    for missing in range(wanted - _waiting(client), 0, -PIPED):
        pipeline = client.pipeline(transaction=False)
        for _ in range(min(missing, PIPED)):
            job = next(source)
            keys = (job_key(job.id), QUEUE_OPEN, QUEUE_READY)
            pipeline.evalsha(script, len(keys), *keys, job.id, job.to_json(), str(job.enqueued_at), JOB_TTL_SECONDS)
        pipeline.execute()


async def measure(client: redis.Redis, url: str, lengths: Sequence[int], calls: int, looks: int) -> dict[int, Costs]:
    """Let the queue grow from length to length; return what everything costs at each, the median of all calls.

    Args:
        client: of the Redis at `url`, which is emptied.
        url: where the worker's end connects to.
        lengths: how many jobs wait, from few to many.
        calls: how often a job is queued and taken at each.
        looks: how often everything else is done at each.
    """
    client.flushall()
    client.set(worker_key("stand-in"), AWAKE)
    source, found = jobs(), {}
    empty = _used_bytes(client)
    worker = JobQueue.from_url(url, "bench")
    try:
        await worker.take(1)  # connects
        for length in lengths:
            fill(client, source, length)
            found[length] = {"bytes": (_used_bytes(client) - empty) / length}
            found[length] |= await _per_job(client, worker, source, calls)
            found[length] |= await _now_and_then(client, worker, looks)
    finally:
        await worker.aclose()
    return found


async def _per_job(client: redis.Redis, worker: JobQueue, source: Iterator[Job], calls: int) -> Costs:
    queue, throttle = Queue(client), Throttle(client)
    taken: dict[str, list[float]] = {name: [] for name in PER_JOB}
    for call in range(calls + 2):
        job = next(source)
        times = [time.perf_counter()]
        client.ping()
        times.append(time.perf_counter())
        throttle.take(rate_key(job.sub))
        queue.enqueue(job)
        times.append(time.perf_counter())
        ((job_id, claim),) = (await worker.take(1, wait=False)).claims
        assert claim.state == "run", claim
        await worker.acknowledge(job_id)
        times.append(time.perf_counter())
        if call >= 2:  # the first ones connect and load the scripts
            for name, began, ended in zip(PER_JOB, times, times[1:], strict=False):
                taken[name].append((ended - began) * 1e3)
    return {name: median(each) for name, each in taken.items()}


async def _now_and_then(client: redis.Redis, worker: JobQueue, looks: int) -> Costs:
    """Return how long a sweep and a look for overdue jobs block Redis, and how long a look for workers takes.

    Redis serves others between two steps of a look for overdue jobs; its longest one is told beside all together.
    """
    queue = Queue(client)
    client.config_set("slowlog-max-len", SLOWLOG_ENTRIES)
    taken: dict[str, list[float]] = {name: [] for name in NOW_AND_THEN}
    for look in range(looks + 1):
        client.config_resetstat()
        assert await worker.sweep() == 0
        sweep = _scripts_ms(client)
        client.config_resetstat()
        client.config_set("slowlog-log-slower-than", SLOWLOG_US)
        client.slowlog_reset()
        assert queue.take_overdue().moot == []
        client.config_set("slowlog-log-slower-than", -1)
        step, overdue = _longest_script_ms(client), _scripts_ms(client)
        began = time.perf_counter()
        assert len(read_all(client)) == 1
        workers = (time.perf_counter() - began) * 1e3
        if look:  # the first one loads the scripts
            for name, each in zip(NOW_AND_THEN, (sweep, step, overdue, workers), strict=True):
                taken[name].append(each)
    return {name: median(each) for name, each in taken.items()}


def _scripts_ms(client: redis.Redis) -> float:
    """Return how long the server has spent on scripts since its counters were set to zero."""
    commands: Any = client.info("commandstats")
    return float(commands["cmdstat_evalsha"]["usec"]) / 1e3


def _longest_script_ms(client: redis.Redis) -> float:
    """Return how long the longest script took that is in the slow log."""
    entries: Any = client.slowlog_get(SLOWLOG_ENTRIES)
    return max(float(each["duration"]) for each in entries if each["command"].startswith(b"EVALSHA")) / 1e3


def _used_bytes(client: redis.Redis) -> int:
    memory: Any = client.info("memory")
    return int(memory["used_memory"])


def _waiting(client: redis.Redis) -> int:
    length: Any = client.llen(QUEUE_READY)
    return int(length)
