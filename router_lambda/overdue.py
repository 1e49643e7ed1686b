"""Answers jobs whose time ran out before any worker came: their clients wait for a reply that nobody would write."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import cached_property
from typing import Any, Final

from router_lambda import logs
from router_lambda.job import FINAL_STATUSES, JOB_TTL_SECONDS, reply_key

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 5.0

_ABSENT: Final = frozenset({"NoSuchKey", "404", "AccessDenied"})
"""What S3 says of an object that is not there; the last one to those who may not list the bucket."""

_CONFLICT: Final = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})


def _client() -> Any:
    """Make the client. Here and not at the top: boto3 takes longer to import than all the rest together."""
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(connect_timeout=CONNECT_SECONDS, read_timeout=READ_SECONDS, retries={"total_max_attempts": 3})
    return boto3.Session().client("s3", config=config)


class Overdue:
    """Writes final replies with the status `expired` into one bucket."""

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

    def answer(self, job_id: str, enqueued_at: float, refusal: str | None) -> bool:
        """Write the final reply of one job, keeping the text that a worker may have written; return whether it has one.

        `enqueued_at` is in Unix seconds, `refusal` why EC2 did not start a GPU, if that was it. Written only over the
        version that was read: whoever comes in between has the job, and it is looked at again later.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `_client`

        try:
            document, condition = self._read(job_id)
            if document.get("status") in FINAL_STATUSES:
                return True
            body = json.dumps(self._expired(document, job_id, enqueued_at, refusal), ensure_ascii=False)
            self._s3.put_object(
                Bucket=self._bucket,
                Key=reply_key(job_id),
                Body=body.encode(),
                ContentType="application/json",
                **condition,
            )
        except (ClientError, BotoCoreError) as error:
            if _code(error) not in _CONFLICT:
                logs.count("OverdueFailures", job=job_id, reason=str(error))
            return False
        logs.count("JobsExpired", job=job_id)
        return True

    def _read(self, job_id: str) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what is there, empty if nothing is, and the condition on which it may be replaced."""
        from botocore.exceptions import ClientError  # noqa: PLC0415 - see `_client`

        try:
            found = self._s3.get_object(Bucket=self._bucket, Key=reply_key(job_id))
        except ClientError as error:
            if _code(error) in _ABSENT:
                return {}, {"IfNoneMatch": "*"}
            raise
        try:
            document = json.loads(found["Body"].read())
        except ValueError:
            document = None
        return document if isinstance(document, dict) else {}, {"IfMatch": found["ETag"]}

    def _expired(
        self, document: dict[str, Any], job_id: str, enqueued_at: float, refusal: str | None
    ) -> dict[str, Any]:
        now = self._clock()
        waited = round(max(0.0, now - enqueued_at) * 1e3, 3)
        why = f"no GPU could be started for it: {refusal}" if refusal else "no worker could take it"
        blank = {
            "id": job_id,
            "status": "expired",
            "model": "",
            "choices": [{"index": 0, "text": "", "finish_reason": None, "logprobs": None}],
            "usage": {"prompt_tokens": 0, "completion_tokens": 0},
            "timing": {"queued_ms": waited, "first_token_ms": None, "total_ms": None},
            "attempt": 0,
            "error": {"code": "expired", "message": f"after {JOB_TTL_SECONDS} seconds {why}; send the job again"},
            "created_at": now,
            "updated_at": now,
        }
        expired = blank | document | {each: blank[each] for each in ("id", "status", "error", "updated_at")}
        timing = expired["timing"] if isinstance(expired["timing"], dict) else blank["timing"]
        return expired | {"timing": {**timing, "total_ms": waited}}


def _code(error: Exception) -> str:
    """Return S3's word for what happened, empty if it was not reached."""
    response: Any = getattr(error, "response", None)
    return str(response["Error"]["Code"]) if response else ""
