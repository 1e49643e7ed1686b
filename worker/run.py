"""One claimed job on its way to its final reply: check → generate → write → acknowledge."""

from __future__ import annotations

import time
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, aclosing
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from router_lambda.job import DEFAULT_IDLE_MINUTES, Job, reply_key
from worker import metrics
from worker.admission import admitted, cancelled, final_status
from worker.backoff import delays
from worker.earlier import EarlierReply
from worker.engine import Engine, Step
from worker.errors import EngineDied, JobRejected, LeaseLost, QueueUnavailable, ReplyConflict
from worker.health import Health
from worker.idle import IdleTimer
from worker.lease import Lease
from worker.publisher import Publisher, until_stored
from worker.pulse import Pulse
from worker.queue import MAX_ATTEMPTS, Claim, JobQueue
from worker.reply import Reply
from worker.report import report
from worker.store import ReplyStore
from worker.trace import trace_fields
from worker.turns import Turns

SAVE_SECONDS: Final = 5.0
"""Time that an interrupted job gets to write what it has."""

RELEASE_SECONDS: Final = 2.0
"""Time that it then gets to hand itself back."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Services:
    """What a run works with; the same for all runs of a worker."""

    engine: Engine
    queue: JobQueue
    store: ReplyStore
    health: Health
    pulse: Pulse = field(default_factory=Pulse)
    turns: Turns = field(default_factory=Turns)
    idle: IdleTimer = field(default_factory=lambda: IdleTimer(DEFAULT_IDLE_MINUTES))


class Run:
    """One claimed job: `finish` it, or `hand_back` what came of it when that is interrupted."""

    def __init__(
        self, job_id: str, claim: Claim, services: Services, ends: Callable[[str], None] = lambda _job_id: None
    ) -> None:
        """Begin with what `claim` took; `ends` is called once the final reply is written, before Redis is told."""
        self.id = job_id
        self.trace = trace_fields(claim.payload)
        self.idle_minutes: int | None = None
        """How long the GPU is to stay up after this job; `None` if it never ran."""
        self.lease = Lease(job_id, claim, services.queue, services.health)
        self._claim = claim
        self._ends = ends
        self._services = services
        self._clock = _steady_clock()
        self._generation = anyio.CancelScope()
        self._delivered = False
        self._unfinished = 0
        self._reply = Reply(
            job_id,
            services.engine.model,
            attempt=claim.attempt,
            enqueued_at=claim.enqueued_at,
            now=self._clock(),
        )
        self._publisher = Publisher(
            services.store, services.health, self._reply, self.lease, self._clock, pulse=services.pulse
        )

    def cancel(self) -> None:
        """Stop generating, for good: the job ends as cancelled with the text that it has."""
        self._generation.cancel()

    async def finish(self) -> None:
        """Bring the job to its final reply and acknowledge it.

        Raises:
            EngineDied: the engine is gone.
        """
        try:
            earlier = await self._earlier_reply()
            if earlier is None or not earlier.is_final:
                await self._answer(earlier)
                await self._deliver()
            self._ends(self.id)
            await self._acknowledge()
        except LeaseLost as lost:
            log.warning("stopped a job that is not ours", job=self.id, reason=str(lost))
        except ReplyConflict as conflict:
            log.warning("another run writes this reply", job=self.id, reason=str(conflict))
            await self._release()

    async def hand_back(self) -> None:
        """Write what there is and let the next worker have the job, soon; nothing if somebody has it already.

        Shielded from cancellation, and bounded instead.
        """
        try:
            with anyio.move_on_after(SAVE_SECONDS, shield=True):
                if await self._save():
                    return
        except LeaseLost:
            return
        except ReplyConflict as conflict:
            log.warning("another run writes this reply", job=self.id, reason=str(conflict))
        with anyio.move_on_after(RELEASE_SECONDS, shield=True):
            await self._release()
            log.info("job handed back", job=self.id)

    async def _earlier_reply(self) -> EarlierReply | None:
        """Read what an earlier attempt has written, if there was one."""
        if self._claim.attempt == 1:
            return None
        store, key = self._services.store, reply_key(self.id)
        found = await until_stored(lambda: store.read(key), self._services.health, self.id)
        if found is None:
            return None
        document, etag = found
        self._publisher.continue_from(etag)
        earlier = EarlierReply.from_json(document)
        if earlier is None:
            log.error("wrote over a reply object that no worker has written", job=self.id, length=len(document))
        return earlier

    async def _answer(self, earlier: EarlierReply | None) -> None:
        """Run the job as far as it can be run, which gives the reply its final status."""
        try:
            if earlier is not None:
                self._reply.restore(earlier, self._services.engine.count_tokens)
            job = admitted(self.id, self._claim, self._services.store.bucket)
            self.idle_minutes = job.idle_minutes
            await self._generate(job, self._streams(job, earlier))
        except JobRejected as refusal:
            self._reply.finish(final_status(refusal), self._clock(), error=(refusal.code, str(refusal)))
        except (EngineDied, LeaseLost, ReplyConflict):
            raise
        except Exception as error:  # noqa: BLE001 - one job that trips over a bug must not take the others along
            # Only the type and the frames: the message of a foreign exception may quote the prompt.
            frames = "".join(traceback.format_tb(error.__traceback__))
            log.error("job failed for an unforeseen reason", job=self.id, error=type(error).__name__, frames=frames)
            reason = "the worker failed on this job; its log has the details under the job's id"
            self._reply.finish("failed", self._clock(), error=("internal_error", reason))
        else:
            self._reply.finish("done", self._clock())

    def _streams(self, job: Job, earlier: EarlierReply | None) -> list[AsyncGenerator[Step, None]]:
        """Return what has to be streamed: the whole job, or the rest of each choice that has been shown in part."""
        engine = self._services.engine
        if earlier is None or earlier.is_blank:
            return [engine.generate(job)]
        log.info("job goes on from its last snapshot", job=self.id, attempt=self._claim.attempt)
        metrics.RESUMED.inc()
        return [
            engine.resume(job, choice.index, choice.text, earlier.spent(choice, engine.count_tokens))
            for choice in earlier.unfinished
        ]

    async def _generate(self, job: Job, streams: list[AsyncGenerator[Step, None]]) -> None:
        """Stream the job through the engine when it is its turn.

        Raises:
            JobRejected: its owner cancelled it, or the engine refuses it.
        """
        self._reply.expect(job.params.get("n", 1))
        with self._generation:
            async with self._turn():
                with self._services.pulse.working():
                    await self._stream(streams)
        if self._generation.cancelled_caught:
            raise cancelled()

    def _turn(self) -> AbstractAsyncContextManager[None]:
        """Let the last try be alone: if it kills the engine once more, no other job has to pay for it."""
        turns = self._services.turns
        return turns.alone() if self._claim.attempt >= MAX_ATTEMPTS else turns.together()

    async def _stream(self, streams: list[AsyncGenerator[Step, None]]) -> None:
        """Collect what the engine says while the snapshots go out beside it.

        A stream that is alone, as nearly all are, is begun here: its request reaches the engine before anything else is
        set up. It goes on in a task of its own, as each token would have to pass through all that this one is amid.
        """
        if len(streams) == 1:
            first = await anext(streams[0], None)
            if first is None:
                return
            self._add(first)
        self._unfinished = len(streams)
        failure: Exception | None = None
        try:
            async with anyio.create_task_group() as tasks:
                self._publisher.begin(tasks)
                for stream in streams:
                    tasks.start_soon(self._follow, stream, name=f"stream of {self.id}")
        except* Exception as group:  # noqa: BLE001 - only unwraps it
            failure = _first(group)
        if failure is not None:
            raise failure

    async def _follow(self, stream: AsyncGenerator[Step, None]) -> None:
        async with aclosing(stream) as steps:
            async for step in steps:
                self._add(step)
        self._unfinished -= 1
        if self._unfinished == 0:
            self._publisher.end()

    def _add(self, step: Step) -> None:
        self._services.pulse.beat()
        self._reply.add(step, self._clock())
        self._publisher.grown()

    async def _acknowledge(self) -> None:
        for delay in delays(0.2, 10.0):
            try:
                if not await self.lease.acknowledge():
                    log.warning("finished a job whose lease had passed on", job=self.id)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                await anyio.sleep(delay)
            else:
                return

    async def _release(self) -> None:
        try:
            await self.lease.release()
        except QueueUnavailable as error:  # the lease runs out by itself
            self._services.health.failed("redis", error)

    async def _save(self) -> bool:
        """Write what there is; return whether that ended the job."""
        if self.lease.lost:
            raise LeaseLost("another worker runs this job by now")
        if self._reply.is_final:
            await self._deliver()
            await self._acknowledge()
            return True
        if self._reply.first_token_ms is not None:
            await self._publisher.write_last()
        return False

    async def _deliver(self) -> None:
        """Write the final document, once."""
        if not self._delivered:
            await self._publisher.write_last()
            self._delivered = True
            report(self._reply)


def _first(group: BaseExceptionGroup[Exception]) -> Exception:
    """Return the first exception in a group, however deep."""
    found = group.exceptions[0]
    return _first(found) if isinstance(found, BaseExceptionGroup) else found


def _steady_clock() -> Callable[[], float]:
    """Return a clock of Unix seconds that a correction of the system's time cannot turn back."""
    offset = time.time() - time.monotonic()
    return lambda: offset + time.monotonic()
