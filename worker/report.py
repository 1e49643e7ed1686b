"""Logs and counts what became of a job; its text stays out of both."""

from __future__ import annotations

from typing import Final

import structlog

from router_lambda.job import FINAL_STATUSES
from worker import metrics
from worker.reply import Reply

_JOBS: Final = {status: metrics.JOBS.labels(status) for status in FINAL_STATUSES}

log = structlog.get_logger(__name__)


def report(reply: Reply) -> None:
    """Note that a job's final reply is written."""
    log.info(
        "job finished",
        job=reply.id,
        status=reply.status,
        error=reply.error and reply.error["code"],
        queue_ms=round(reply.queued_ms, 1),
        first_token_ms=reply.first_token_ms and round(reply.first_token_ms, 1),
        first_shown_ms=reply.first_shown_ms and round(reply.first_shown_ms, 1),
        total_ms=reply.total_ms and round(reply.total_ms, 1),
        prompt_tokens=reply.prompt_tokens,
        completion_tokens=reply.completion_tokens,
        attempt=reply.attempt,
    )
    _JOBS[reply.status].inc()
    metrics.COMPLETION_TOKENS.inc(reply.completion_tokens)
    metrics.QUEUE_SECONDS.observe(reply.queued_ms / 1e3)
    if reply.first_token_ms is not None:
        metrics.FIRST_TOKEN_SECONDS.observe(reply.first_token_ms / 1e3)
    if reply.first_shown_ms is not None and reply.attempt == 1:  # a later attempt does not know when the text was shown
        metrics.FIRST_SHOWN_SECONDS.observe(reply.first_shown_ms / 1e3)
    if reply.total_ms is not None:
        metrics.JOB_SECONDS.observe(reply.total_ms / 1e3)
