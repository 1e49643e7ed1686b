"""One claimed job on its way to its final reply: check → generate → write → acknowledge."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

import anyio
import structlog

from router_lambda.job import FINAL_STATUSES, JOB_TTL_SECONDS, InvalidJob, Job, reply_key, reply_path
from worker import metrics
from worker.backoff import delays
from worker.engine import Engine
from worker.errors import EngineDied, JobRejected, QueueUnavailable, ReplyConflict
from worker.health import Health
from worker.publisher import Publisher, until_stored
from worker.queue import Claim, JobQueue
from worker.reply import Reply
from worker.store import ReplyStore
from worker.trace import trace_fields

MAX_ATTEMPTS: Final = 3
"""Tries after which a job ends as failed: whatever kills its workers must not kill them for ever."""

HAND_BACK_SECONDS: Final = 5.0
"""Time that an interrupted job gets to write what it has and to hand itself back."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What a run works with; the same for all runs of a worker."""

    engine: Engine
    queue: JobQueue
    store: ReplyStore
    health: Health


class Run:
    """One claimed job: `finish` it, or `hand_back` what came of it when that is interrupted."""

    def __init__(self, job_id: str, claim: Claim, services: Services) -> None:
        self.id = job_id
        self.trace = trace_fields(claim.payload)
        self._claim = claim
        self._services = services
        self._clock = _steady_clock()
        self._owned = True
        self._delivered = False
        self._reply = Reply(
            job_id,
            services.engine.model,
            attempt=claim.attempt,
            enqueued_at=claim.enqueued_at,
            now=self._clock(),
        )
        self._publisher = Publisher(services.store, services.health, self._reply, self._clock)

    def disown(self) -> None:
        """Note that the lease is somebody else's: nothing of this run may be written any more."""
        self._owned = False

    async def finish(self) -> None:
        """Bring the job to its final reply and acknowledge it.

        Raises:
            EngineDied: the engine is gone.
        """
        try:
            earlier = await self._earlier_reply()
            if earlier is None or earlier.get("status") not in FINAL_STATUSES:
                await self._answer(earlier)
                await self._deliver()
            await self._acknowledge()
        except ReplyConflict as conflict:
            log.warning("another run writes this reply", job=self.id, reason=str(conflict))
            await self._release()

    async def hand_back(self) -> None:
        """Write what there is and let the next worker have the job, soon; nothing if it was disowned.

        Shielded from cancellation, and bounded instead.
        """
        with anyio.move_on_after(HAND_BACK_SECONDS, shield=True):
            if self._owned:
                await self._hand_back()

    async def _earlier_reply(self) -> dict[str, Any] | None:
        """Read what an earlier attempt has written, if there was one."""
        if self._claim.attempt == 1:
            return None
        store, key = self._services.store, reply_key(self.id)
        found = await until_stored(lambda: store.read(key), self.id)
        if found is None:
            return None
        document, etag = found
        self._publisher.continue_from(etag)
        try:
            earlier: dict[str, Any] = json.loads(document)
        except ValueError:  # not written by a worker: nothing of it can be kept
            earlier = {}
        return earlier

    async def _answer(self, earlier: dict[str, Any] | None) -> None:
        """Run the job as far as it can be run, which gives the reply its final status."""
        try:
            if earlier is not None:
                self._reply.restore(earlier)
            bucket = self._services.store.bucket
            job = _admitted(self.id, self._claim, bucket, interrupted=earlier is not None)
            await self._generate(job)
        except JobRejected as refusal:
            status = "expired" if refusal.code == "expired" else "failed"
            self._reply.finish(status, self._clock(), error=(refusal.code, str(refusal)))
        except (EngineDied, ReplyConflict):
            raise
        except Exception as error:  # noqa: BLE001 - one job that trips over a bug must not take the others along
            # Only the type and the frames: the message of a foreign exception may quote the prompt.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("job failed for an unforeseen reason", job=self.id, error=type(error).__name__, frames=frames)
            reason = "the worker failed on this job; its log has the details under the job's id"
            self._reply.finish("failed", self._clock(), error=("internal_error", reason))
        else:
            self._reply.finish("done", self._clock())

    async def _generate(self, job: Job) -> None:
        """Stream the job through the engine while its snapshots go out beside it."""
        self._reply.expect(job.params.get("n", 1))
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._publisher.snapshots, name=f"snapshots of {self.id}")
                async with aclosing(self._services.engine.generate(job)) as steps:
                    async for step in steps:
                        self._reply.add(step, self._clock())
                        self._publisher.grown()
                self._publisher.end()
        except* Exception as group:  # noqa: BLE001 - only unwraps it
            failure = group.exceptions[0]
        if failure is not None:
            raise failure

    async def _acknowledge(self) -> None:
        for delay in delays(0.2, 10.0):
            try:
                if not await self._services.queue.acknowledge(self.id):
                    log.warning("finished a job whose lease had passed on", job=self.id)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                await anyio.sleep(delay)
            else:
                return

    async def _release(self) -> None:
        try:
            await self._services.queue.release(self.id)
        except QueueUnavailable as error:  # the lease runs out by itself
            self._services.health.failed("redis", error)

    async def _hand_back(self) -> None:
        try:
            if self._reply.is_final:
                await self._deliver()
                await self._acknowledge()
                return
            if self._reply.first_token_ms is not None:
                await self._publisher.write_last()
        except ReplyConflict as conflict:
            log.warning("another run writes this reply", job=self.id, reason=str(conflict))
        log.info("job handed back", job=self.id)
        await self._release()

    async def _deliver(self) -> None:
        """Write the final document, once."""
        if not self._delivered:
            await self._publisher.write_last()
            self._delivered = True
            self._report()

    def _report(self) -> None:
        """Log and count the finished job; its text stays out of both."""
        reply = self._reply
        log.info(
            "job finished",
            job=self.id,
            status=reply.status,
            error=reply.error and reply.error["code"],
            queue_ms=round(reply.queued_ms, 1),
            first_token_ms=reply.first_token_ms and round(reply.first_token_ms, 1),
            total_ms=reply.total_ms and round(reply.total_ms, 1),
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            attempt=reply.attempt,
        )
        metrics.JOBS.labels(reply.status).inc()
        metrics.COMPLETION_TOKENS.inc(reply.completion_tokens)
        metrics.QUEUE_SECONDS.observe(reply.queued_ms / 1e3)
        if reply.first_token_ms is not None:
            metrics.FIRST_TOKEN_SECONDS.observe(reply.first_token_ms / 1e3)
        if reply.total_ms is not None:
            metrics.JOB_SECONDS.observe(reply.total_ms / 1e3)


def _admitted(job_id: str, claim: Claim, bucket: str, *, interrupted: bool) -> Job:
    """Read the claimed payload and decide whether it may run.

    Raises:
        JobRejected: it may not, ever.
    """
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
    if interrupted:  # generating anew could contradict what the client has read
        raise JobRejected("interrupted", "its worker stopped in the middle of the reply; send it again")
    return job


def _steady_clock() -> Callable[[], float]:
    """Return a clock of Unix seconds that a correction of the system's time cannot turn back."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
