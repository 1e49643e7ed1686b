"""Whether a claimed job may run, and with which status one that may not comes to its end."""

from __future__ import annotations

from typing import Final

from router_lambda.job import JOB_TTL_SECONDS, InvalidJob, Job, reply_path
from worker.errors import JobRejected
from worker.queue import MAX_ATTEMPTS, Claim

_STATUS: Final = {"expired": "expired", "cancelled": "cancelled"}


def admitted(job_id: str, claim: Claim, bucket: str) -> Job:
    """Read the claimed payload and decide whether it may run.

    Raises:
        JobRejected: it may not, ever.
    """
    if claim.state == "cancelled":
        raise cancelled()
    if claim.state == "expired":
        raise JobRejected("expired", f"no worker was free for it within {JOB_TTL_SECONDS} seconds; send it again")
    try:
        job = Job.from_json(claim.payload)
    except InvalidJob as error:
        raise JobRejected("invalid_job", str(error)) from None
    if job.id != job_id:
        raise JobRejected("invalid_job", "its id is not the one it is queued under")
    if job.reply_path != reply_path(bucket, job_id):
        raise JobRejected("invalid_job", f"its reply_path must be {reply_path(bucket, job_id)}")
    if claim.attempt > MAX_ATTEMPTS:
        raise JobRejected("too_many_attempts", f"{MAX_ATTEMPTS} workers stopped while they ran it")
    return job


def cancelled() -> JobRejected:
    """Return what ends a job that its owner does not want any more."""
    return JobRejected("cancelled", "its owner cancelled it")


def final_status(refusal: JobRejected) -> str:
    """Return the status of the reply of a job that was refused."""
    return _STATUS.get(refusal.code, "failed")
