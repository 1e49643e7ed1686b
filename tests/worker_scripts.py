"""The worker's scripts, as a test runs them that has no worker."""

from __future__ import annotations

from typing import Any, Final

import redis

from router_lambda.job import JOB_TTL_SECONDS, QUEUE_ATTEMPTS, QUEUE_OPEN, QUEUE_READY, cancel_key, job_key, lease_key
from worker import lua
from worker.queue import MAX_ATTEMPTS

_PREFIXES: Final = (lease_key(""), job_key(""), cancel_key(""))


def claim(client: redis.Redis, job_id: str, worker: str = "w1") -> list[Any]:
    """Claim one job that was popped; return its state and, if that gave the lease, attempt, enqueued_at and payload."""
    limits = [lua.LEASE_SECONDS, JOB_TTL_SECONDS, MAX_ATTEMPTS, 1]
    _, ((_, *said),) = client.register_script(lua.CLAIM)(
        keys=[QUEUE_READY, QUEUE_OPEN, QUEUE_ATTEMPTS], args=[worker, *limits, *_PREFIXES, job_id]
    )
    return list(said)


def acknowledge(client: redis.Redis, job_id: str, worker: str = "w1") -> bool:
    """Forget one job whose final reply is written; `False` if its lease is somebody else's."""
    refused = client.register_script(lua.ACKNOWLEDGE)(
        keys=[QUEUE_OPEN, QUEUE_ATTEMPTS], args=[worker, *_PREFIXES, job_id]
    )
    return not refused
