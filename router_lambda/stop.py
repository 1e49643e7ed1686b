"""`POST /stop`: cancels one of the caller's jobs, or stops the GPU."""

from __future__ import annotations

from typing import Any

from router_lambda.admission import Admission, explained
from router_lambda.gpu import Gpu
from router_lambda.http import Problem, Request, answer
from router_lambda.job import FieldError, is_job_id
from router_lambda.queue import Queue
from router_lambda.schema import check, raise_any, read_json

SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id"],
    "properties": {"id": {"type": "string"}},
}
"""Body that cancels a job; the id is a lower-case UUID v4."""


class Stop:
    """The route."""

    def __init__(self, admission: Admission, queue: Queue, gpu: Gpu) -> None:
        self._admission = admission
        self._queue = queue
        self._gpu = gpu

    def __call__(self, request: Request) -> dict[str, Any]:
        """Answer 202.

        Raises:
            Problem, InvalidJob: nothing was cancelled or stopped.
        """
        sub = self._admission.subject(request)
        job_id = _read(request.body) if request.body.strip() else None
        with explained("RedisStopFail"):
            self._admission.admit(sub, "stop")
            if job_id is None:
                return answer(202, {"status": self._gpu.stop(self._queue)})
            if not self._queue.cancel(job_id, sub):
                raise Problem(404, "no job of yours with this id waits or runs")
        return answer(202, {"status": "cancelling", "id": job_id})


def _read(body: bytes) -> str:
    errors: list[FieldError] = []
    asked: Any = read_json(body)
    check(asked, SCHEMA, "", errors)
    if not errors and not is_job_id(asked["id"]):
        errors.append(FieldError("id", "must be a lower-case UUID v4"))
    raise_any(errors)
    job_id: str = asked["id"]
    return job_id
