"""Puts jobs into Redis."""

from __future__ import annotations

from typing import Final

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router_lambda.job import ENQUEUE_LUA, JOB_TTL_SECONDS, QUEUE_OPEN, QUEUE_READY, Job, job_key

TIMEOUT_SECONDS: Final = 1.0
"""Longest wait for a connection and for an answer. A VPC needs a millisecond, and a user waits for this."""


class QueueUnavailable(Exception):
    """Redis could not be reached or did not answer in time; the job may be sent again."""


class Queue:
    """The router's end of the queue. Its connection lives as long as the Lambda's process."""

    def __init__(self, client: redis.Redis) -> None:
        self._client = client
        self._enqueue = client.register_script(ENQUEUE_LUA)

    @classmethod
    def from_url(cls, url: str) -> Queue:
        """Make a queue on a Redis URL; connects on first use.

        One retry, because a Lambda thaws with connections that the server closed long ago. A job that is
        queued twice by it runs once: the second id finds its lease taken or its job gone.
        """
        return cls(
            redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT_SECONDS,
                socket_connect_timeout=TIMEOUT_SECONDS,
                retry=Retry(NoBackoff(), 1),
            )
        )

    def enqueue(self, job: Job) -> None:
        """Queue a job for `JOB_TTL_SECONDS`.

        Raises:
            QueueUnavailable: Redis is out of reach, loading, read-only or out of memory.
        """
        keys = [job_key(job.id), QUEUE_OPEN, QUEUE_READY]
        try:
            self._enqueue(keys=keys, args=[job.id, job.to_json(), job.enqueued_at, JOB_TTL_SECONDS])
        except redis.RedisError as error:
            raise QueueUnavailable(str(error)) from error
