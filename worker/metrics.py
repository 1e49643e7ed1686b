"""The worker's own Prometheus metrics. vLLM adds its `vllm:*` families to the same registry."""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge, Histogram

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)

JOBS = Counter("tlfif_jobs", "Jobs that reached a final reply, by its status", ["status"])
RESUMED = Counter("tlfif_jobs_resumed", "Jobs that went on from what an earlier worker had shown")
RUNNING = Gauge("tlfif_jobs_running", "Jobs that run now")
REQUESTS = Counter("tlfif_requests", "Requests over HTTP that were answered, by path and status", ["path", "status"])
REQUESTS_RUNNING = Gauge("tlfif_requests_running", "Requests over HTTP that have a place now")
IDLE_SECONDS = Gauge("tlfif_idle_seconds_left", "Until an idle worker stops its instance; -1 while a job runs")
BOOT_SECONDS = Gauge("tlfif_boot_seconds", "What each phase of this boot took", ["phase"])
QUEUE_SECONDS = Histogram("tlfif_queue_seconds", "From queued by the router to taken by a worker", buckets=_SECONDS)
FIRST_TOKEN_SECONDS = Histogram("tlfif_first_token_seconds", "From queued to the first token", buckets=_SECONDS)
FIRST_SHOWN_SECONDS = Histogram("tlfif_first_shown_seconds", "From queued to the first text in S3", buckets=_SECONDS)
JOB_SECONDS = Histogram("tlfif_job_seconds", "From queued to the end of generation", buckets=_SECONDS)
COMPLETION_TOKENS = Counter("tlfif_completion_tokens", "Tokens generated")
REPLY_WRITES = Counter("tlfif_reply_writes", "Writes of reply objects, by kind and outcome", ["kind", "outcome"])
REPLY_BYTES = Counter("tlfif_reply_bytes", "Bytes of reply objects written, by kind", ["kind"])
COMPONENT_UP = Gauge("tlfif_component_up", "1 while the component answers, else 0", ["component"])
