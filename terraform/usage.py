"""What a plan cannot say: how much the system is used. Every assumption of the cost table is here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

_MILLISECONDS: Final = {
    "router": 40.0,
    "authorizer": 10.0,
    "queue-health": 10.0,
    "waker": 60.0,
    "reaper": 60.0,
    "gauges": 150.0,
    "canary": 250.0,
    "cost-publisher": 800.0,
    "budget-killer": 10_000.0,
}

_STAGE_MINUTES: Final = {
    "test": 8.0,
    "bake": 3.0,
    "deploy": 6.0,
    "smoke": 5.0,
}


@dataclass(frozen=True, slots=True)
class Usage:
    """A month of use.

    Attributes:
        gpu_hours: hours that instances run, all together.
        requests: calls of POST /infer.
        calls_per_request: calls of the API for each of them, itself and one of /status or /stop.
        snapshots_per_reply: how often the worker writes a reply object, the intervals growing.
        polls_per_reply: how often a client asks S3 for it.
        reply_kb: size of a reply when it is done, in KB.
        reply_days: for how long it is kept, in days.
        ami_gb: what the image's snapshot holds, in GB: packages, driver and weights.
        bake_hours: hours that builder and test machine run for an image, together: twelve minutes to build, what EC2
            takes for the snapshot, and the test.
        bake_log_mb: what a build logs, in MB.
        archive_mb: size of the source archive, in MB.
        worker_log_mb: what an hour of the worker logs, in MB.
        call_log_kb: what a call of a function logs, in KB, Lambda's own lines included.
        access_log_kb: what a call of the API adds to the access log, in KB.
        milliseconds: how long each function runs for a call.
        synthetics_schedule: when CloudWatch Synthetics runs, where the plan does not know its template yet.
        synthetics_seconds: how long a run of CloudWatch Synthetics is.
        synthetics_puts: objects that such a run writes.
        metrics_at_all_times: custom metrics that get data every minute or every 15.
        metrics_with_gpu: custom metrics that get data only in hours in which the GPU runs; AWS bills by the hour.
            Twelve come from the CloudWatch agent, the others from logs of worker and router.
        nlb_capacity_units: how busy the load balancer is on average.
        mails: mails that alarms send.
        pushes: pushes to the branch that is delivered, none of which bakes an image.
        source_minutes: what taking a commit counts for, in minutes; each action is rounded up to a whole one.
        stage_minutes: how long each stage's build takes, its set-up included, where it bakes nothing.
        full_test_minutes: how long the stage Test takes with the full suite.
        bake_wait_minutes: how much longer the stage Bake takes where it bakes.
        smoke_gpu_hours: how long the GPU runs for a smoke test: boot, answer, a minute of idleness, stop.
        push_mb: what a push leaves in the bucket, in MB.
        push_days: for how long, in days.
        push_log_mb: what its builds log, in MB.
        state_mb: size of the state of terraform/image with its old versions, in MB.
    """

    gpu_hours: float = 10.0
    requests: float = 3_000.0
    calls_per_request: float = 2.0
    snapshots_per_reply: float = 8.0
    polls_per_reply: float = 20.0
    reply_kb: float = 8.0
    reply_days: float = 1.0
    ami_gb: float = 20.0
    bake_hours: float = 0.6
    bake_log_mb: float = 2.0
    archive_mb: float = 1.0
    worker_log_mb: float = 10.0
    call_log_kb: float = 1.0
    access_log_kb: float = 0.3
    milliseconds: Mapping[str, float] = field(default_factory=lambda: _MILLISECONDS)
    synthetics_schedule: str = "rate(1 minute)"
    synthetics_seconds: float = 5.0
    synthetics_puts: float = 3.0
    metrics_at_all_times: float = 7.0
    metrics_with_gpu: float = 30.0
    nlb_capacity_units: float = 0.01
    mails: float = 20.0
    pushes: float = 10.0
    source_minutes: float = 1.0
    stage_minutes: Mapping[str, float] = field(default_factory=lambda: _STAGE_MINUTES)
    full_test_minutes: float = 40.0
    bake_wait_minutes: float = 35.0
    smoke_gpu_hours: float = 0.08
    push_mb: float = 5.0
    push_days: float = 7.0
    push_log_mb: float = 1.0
    state_mb: float = 5.0
