"""Answers jobs that no worker will run: their clients wait for a final reply that nobody else would write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from router_lambda import logs
from router_lambda.aws import make_client
from router_lambda.heartbeat import read_object
from router_lambda.job import FINAL_STATUSES, JOB_TTL_SECONDS, reply_key
from router_lambda.queue import Moot

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 3.0
ATTEMPTS: Final = 2

SLOWEST_SECONDS: Final = 20.0
"""With the three above the longest that an answer takes: two calls, and the pauses before their second attempts."""

_ABSENT: Final = frozenset({"NoSuchKey", "404", "AccessDenied"})
"""What S3 says of an object that is not there; the last one to those who may not list the bucket."""

_CONFLICT: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


def _client() -> Any:
    return make_client("s3", connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts=ATTEMPTS)


class Overdue:
    """Writes final replies into one bucket."""

    def __init__(
        self, bucket: str, make_client: Callable[[], Any] = _client, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the bucket; `clock` gives Unix seconds."""
        self._bucket = bucket
        self._make_client = make_client
        self._clock = clock

    @cached_property
    def _s3(self) -> Any:
        return self._make_client()

    def answer(self, job: Moot, refusal: str | None) -> bool:
        """Write the final reply of a job, keeping the text that a worker may have written; return whether it has one.

        `refusal` is why no GPU was started, if that was it. Written only over the version that was read: whoever
        comes in between has the job, and it is looked at again later.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `router_lambda.aws`

        try:
            found, condition = self._read(job.id)
            if str(found.get("status")) in FINAL_STATUSES:
                return True
            document = final_document(job, found, refusal, self._clock())
            self._s3.put_object(
                Bucket=self._bucket,
                Key=reply_key(job.id),
                Body=json.dumps(document).encode(),
                ContentType="application/json",
                **condition,
            )
        except (ClientError, BotoCoreError) as error:
            if _code(error) not in _CONFLICT:
                logs.count("OverdueFailures", job=job.id, reason=str(error))
            return False
        logs.count("JobsExpired" if job.status == "expired" else "JobsCancelled", job=job.id)
        return True

    def _read(self, job_id: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return the document that is there, empty if none is, and the condition on which it may be replaced."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see `router_lambda.aws`

        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=reply_key(job_id))
        except ClientError as error:
            if _code(error) in _ABSENT:
                return {}, {"IfNoneMatch": "*"}
            raise
        return read_object(found["Body"].read()), {"IfMatch": found["ETag"]}


def final_document(job: Moot, found: dict[str, Any], refusal: str | None, now: float) -> dict[str, Any]:
    """Return a job's final reply at `now`, in Unix seconds: what is shown of it, and why there is no more to come.

    `found` is the document that is there, empty if none is; one that no worker can have written is as good as none.
    """
    took = round(max(0.0, now - job.enqueued_at) * 1e3, 3)
    ends = {
        "status": job.status,
        "error": {"code": job.status, "message": _why(job, refusal)},
        "updated_at": now,
    }
    blank: dict[str, Any] = {
        "id": job.id,
        "model": "",
        "choices": [{"index": 0, "text": "", "finish_reason": None, "logprobs": None}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "timing": {"queued_ms": took, "first_token_ms": None, "total_ms": None},
        "attempt": 0,  # no worker had it, or none that wrote anything
        "created_at": now,
        **ends,
    }
    shown = found | ends
    document = shown if shown.get("id") == job.id and _is_like(shown, blank) else blank
    return document | {"timing": document["timing"] | {"total_ms": took}}


def _why(job: Moot, refusal: str | None) -> str:
    if job.status == "cancelled":
        return "its owner cancelled it"
    if refusal:
        return f"no GPU could be started for it within {JOB_TTL_SECONDS} seconds: {refusal}"
    return f"no worker was free for it within {JOB_TTL_SECONDS} seconds; send it again"


def _is_like(value: Any, model: Any) -> bool:
    """Tell whether a value has the form of another: the same names, and the same kinds; anything is like `None`."""
    match model:
        case None:
            return True
        case dict():
            has_names = isinstance(value, dict) and value.keys() == model.keys()
            return has_names and all(_is_like(value[name], part) for name, part in model.items())
        case list():
            return isinstance(value, list) and bool(value) and all(_is_like(each, model[0]) for each in value)
        case str():
            return isinstance(value, str)
        case _:
            return isinstance(value, int | float) and not isinstance(value, bool)


def _code(error: Exception) -> str:
    """Return S3's word for what happened, empty if it was not reached."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"]["Code"]) if response else ""
