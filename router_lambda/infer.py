"""`POST /infer`: checks a request, queues its job, wakes the GPU if it sleeps, and says where the reply will be."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from typing import Any, Final

from router_lambda.admission import Admission, explained
from router_lambda.ec2 import Ec2Unavailable
from router_lambda.gpu import Gpu
from router_lambda.http import Problem, Request, answer
from router_lambda.job import FieldError, Job, idempotency_key, new_job_id, parse_request, reply_path
from router_lambda.queue import Placed, Queue, QueueFull
from router_lambda.replies import Replies
from router_lambda.trace import traceparent

_IDEMPOTENCY_KEY: Final = re.compile(r"[ -~]{1,64}")


class Infer:
    """The route. Everything that differs between Lambda and a test comes in through the constructor."""

    def __init__(
        self,
        admission: Admission,
        queue: Queue,
        gpu: Gpu,
        replies: Replies,
        clock: Callable[[], float] = time.time,
        *,
        max_gpus: int = 1,
    ) -> None:
        """Take the parts; `clock` gives Unix seconds, and `max_gpus` instances may run at a time."""
        self._admission = admission
        self._queue = queue
        self._gpu = gpu
        self._replies = replies
        self._clock = clock
        self._max_gpus = max_gpus

    def __call__(self, request: Request) -> dict[str, Any]:
        """Answer 202.

        Raises:
            Problem, InvalidJob: the request is refused, and nothing is queued.
        """
        sub = self._admission.subject(request)
        job, key = self._read(request, sub)
        location = self._replies.sign_get(job.id)
        with explained("RedisEnqueueFail"):
            self._admission.admit(sub, "infer")
            placed = self._enqueue(job, key)
            eta = self._wake(placed, key)
        if not placed.is_new:
            location = self._replies.sign_get(placed.id)
        headers = {"x-request-id": placed.id, "location": location}
        if eta is None:
            return answer(202, {"status": "queued", "id": placed.id}, headers)
        content = {"status": "starting", "eta": eta, "id": placed.id}
        return answer(202, content, headers | {"retry-after": str(eta)})

    def _read(self, request: Request, sub: str) -> tuple[Job, str | None]:
        """Return the job that a request asks for and its key in Redis for its Idempotency-Key, if it has one."""
        errors: list[FieldError] = []
        key = request.headers.get("idempotency-key")
        if key is not None and not _IDEMPOTENCY_KEY.fullmatch(key):
            errors.append(FieldError("Idempotency-Key", "must be 1 to 64 printable ASCII characters"))
        fields = parse_request(request.body, errors)
        job_id = new_job_id(os.urandom(16))
        job = Job(
            id=job_id,
            sub=sub,
            reply_path=reply_path(self._replies.bucket, job_id),
            enqueued_at=self._clock(),
            traceparent=traceparent(request.headers, os.environ.get("_X_AMZN_TRACE_ID", "")),
            **fields,
        )
        return job, None if key is None else idempotency_key(sub, key)

    def _enqueue(self, job: Job, key: str | None) -> Placed:
        try:
            return self._queue.enqueue(job, key)
        except QueueFull as full:
            detail = "so many jobs wait that this one would expire; send it again after Retry-After seconds"
            raise Problem.try_later(detail, full.retry_after) from None

    def _wake(self, placed: Placed, key: str | None) -> int | None:
        """Return the seconds until the job can start, `None` if a worker is there; take the job back if none comes.

        Queued first and woken then: the other way round a worker could close in between and leave the job behind.
        """
        if placed.has_worker or not placed.is_open:
            if placed.is_new:
                self._gpu.reinforce(placed.backlog_seconds, self._max_gpus)
            return None
        try:
            return self._gpu.wake(placed.closing_at)
        except Ec2Unavailable:
            if placed.is_new and not self._queue.withdraw(placed.id, key):
                return None  # a worker has come meanwhile and taken it
            raise
