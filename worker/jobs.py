"""The jobs that this worker runs: takes ids off the queue, keeps their leases, lets them finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup, TaskStatus
from structlog.contextvars import bind_contextvars

from router_lambda.job import is_job_id
from worker import metrics
from worker.average import MovingAverage
from worker.backoff import delays
from worker.errors import EngineDied, QueueUnavailable
from worker.lua import LEASE_SECONDS
from worker.queue import Claim
from worker.run import Run, Services

RENEW_SECONDS = LEASE_SECONDS / 3
"""Time between two renewals: two may fail before a lease runs out."""

RENEW_AGAIN_SECONDS = 1.0
"""Time until a renewal that failed is tried again: after an outage a lease is to be back before anybody sweeps."""

SWEEP_SECONDS = 5.0
"""Time between two searches for jobs that nobody has."""

SWEEP_AFTER_OUTAGE_SECONDS = 2 * RENEW_SECONDS
"""Time that all workers get to take their leases back, once Redis answers again."""

CANCEL_SECONDS = 0.5
"""Time between two looks for jobs that are to be cancelled; a cancelled job stops within that and one write."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Running:
    run: Run
    scope: anyio.CancelScope


class Jobs:
    """At most `limit` jobs at once, each a task of its own."""

    def __init__(self, services: Services, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take as many jobs as `limit`; `clock` gives the seconds that they are measured in."""
        self.limit = limit
        self._services = services
        self._queue = services.queue
        self._clock = clock
        self._held = MovingAverage()
        self._handled: set[str] = set()
        self._running: dict[str, _Running] = {}
        self._tasks: set[anyio.CancelScope] = set()
        self._draining = anyio.Event()
        self._changed = anyio.Event()

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, is about to, or is just ending."""
        return not self._tasks

    @property
    def draining(self) -> bool:
        """Whether no more jobs are taken."""
        return self._draining.is_set()

    @property
    def state(self) -> Literal["ready", "degraded", "draining"]:
        """What this worker is up to, in a word, as `/healthz` and the heartbeat show it."""
        if self.draining:
            return "draining"
        return "degraded" if self._services.health.reasons else "ready"

    @property
    def average_seconds(self) -> float | None:
        """How long finished jobs held their place, from claim to acknowledgement; `None` before the first."""
        return self._held.value

    async def drain_begun(self) -> None:
        """Wait until no more jobs are taken."""
        await self._draining.wait()

    async def consume(self, tasks: TaskGroup) -> None:
        """Pop ids and start a task for each, until `drain`."""
        waits = delays(0.2, 10.0)
        while await self._has_room():
            try:
                popped = await self._next()
                waits = delays(0.2, 10.0)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                popped = None
                await self._pause(next(waits))
            if popped is not None:
                scope = anyio.CancelScope()
                self._tasks.add(scope)
                tasks.start_soon(self._run, popped, scope, name=f"job {popped.decode('ascii', 'replace')}")

    async def _has_room(self) -> bool:
        """Wait until one more job may run; `False` once no more are taken, however many still run."""
        await anyio.lowlevel.checkpoint_if_cancelled()  # there is no other between two pops, which are shielded
        while not self.draining and (len(self._tasks) >= self.limit or not self._services.turns.is_open):
            await self._changed.wait()
        return not self.draining

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the drain."""
        with anyio.move_on_after(seconds):
            await self._draining.wait()

    async def _next(self) -> bytes | None:
        """Pop an id; one that comes while draining goes back.

        Shielded, because a BLPOP that is cancelled while an id is on its way loses it until the next sweep.
        """
        with anyio.CancelScope(shield=True):
            popped = await self._queue.pop()
            self._services.health.ok("redis")
            if popped is not None and self.draining:
                await self._queue.put_back(popped)
                popped = None
        return popped

    async def _run(self, popped: bytes, scope: anyio.CancelScope) -> None:
        job_id = popped.decode("ascii", "replace")
        try:
            with scope:
                if not is_job_id(job_id):
                    log.error("dropped what names no job", length=len(popped))
                    await self._queue.forget(popped)
                elif job_id in self._handled:
                    # Its lease ran out while this process stood still, and a sweep found it. The run sees to its lease
                    # itself; the same worker must not claim it a second time.
                    log.warning("popped a job that still runs here", job=job_id, **self._trace(job_id))
                else:
                    self._handled.add(job_id)
                    try:
                        await self._claim_and_run(job_id, scope)
                    finally:
                        self._handled.remove(job_id)
        except QueueUnavailable as error:  # still in the open set: the sweep puts it back
            self._services.health.failed("redis", error)
        finally:
            self._tasks.remove(scope)
            self._notify()

    def _trace(self, job_id: str) -> dict[str, str]:
        return self._running[job_id].run.trace if job_id in self._running else {}

    async def _claim_and_run(self, job_id: str, scope: anyio.CancelScope) -> None:
        claim = await self._claim(job_id)
        if claim.state in {"taken", "gone"}:
            log.info("nothing to do for a popped id", job=job_id, state=claim.state)
            return
        began = self._clock()
        run = Run(job_id, claim, self._services)
        # This task is the job's alone, and so is its context: what libraries log in it names the job, too.
        bind_contextvars(job=job_id, **run.trace)
        self._running[job_id] = _Running(run, scope)
        metrics.RUNNING.set(self.running)
        self._services.idle.begin()
        try:
            await run.finish()
        except BaseException as end:
            if isinstance(end, EngineDied):
                self.drain()  # before the job goes back, or this worker would pop it again
            await run.hand_back()
            raise
        else:
            self._held.add(self._clock() - began)
        finally:
            self._services.idle.end(run.idle_minutes)
            del self._running[job_id]
            metrics.RUNNING.set(self.running)

    async def _claim(self, job_id: str) -> Claim:
        """Claim an id, asking again when Redis does not answer: it may have granted what it could not say.

        Raises:
            QueueUnavailable: there is no time left to ask again.
        """
        again = False
        for delay in delays(0.2, 5.0):
            try:
                return await self._queue.claim(job_id, again=again)
            except QueueUnavailable as error:
                if self.draining:
                    raise
                self._services.health.failed("redis", error)
                again = True
            await self._pause(delay)
        raise AssertionError("delays never end")

    async def keep_leases(self) -> None:
        """Renew the leases of what runs; a job whose lease is lost stops at once and writes nothing more."""
        due = self._clock()
        while True:
            now = self._clock()
            due = max(due + RENEW_SECONDS, now)
            await anyio.sleep(due - now)
            try:
                await self._renew()
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                due = self._clock() + RENEW_AGAIN_SECONDS - RENEW_SECONDS

    async def _renew(self) -> None:
        if not self._running:
            return
        running = dict(self._running)
        asked_at = time.monotonic()
        renewal = await self._queue.renew(running)
        for job_id in running.keys() - renewal.lost - renewal.free:
            running[job_id].run.lease.renewed(asked_at)
        for job_id in renewal.lost:
            running[job_id].run.lease.lost = True
        for job_id, each in running.items():
            if job_id in renewal.free:
                await each.run.lease.retake()
            if each.run.lease.lost and self._running.get(job_id) is each:
                log.warning("lost the lease", job=job_id, **each.run.trace)
                each.scope.cancel()

    async def watch_cancels(self) -> None:
        """Stop the running jobs whose owners do not want them any more."""
        while True:
            await anyio.sleep(CANCEL_SECONDS)
            if not self._running:
                continue
            try:
                unwanted = await self._queue.cancelled(self._running)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                continue
            for job_id in unwanted & self._running.keys():
                self._running[job_id].run.cancel()

    async def sweep(self, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Put jobs that nobody has back into the queue, from time to time; has started once the first try is made."""
        first = True
        while True:
            try:
                if found := await self._queue.sweep(first=first):
                    log.info("put back jobs that nobody had", jobs=found)
                away = False
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                away = True
            if first:
                first = False
                task_status.started()
            if away:
                await self._until_redis_is_back()
            await anyio.sleep(SWEEP_AFTER_OUTAGE_SECONDS if away else SWEEP_SECONDS)

    async def _until_redis_is_back(self) -> None:
        for delay in delays(0.2, 5.0):
            await anyio.sleep(delay)
            try:
                await self._queue.ping()
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
            else:
                return

    def drain(self) -> None:
        """Take no more jobs."""
        self._draining.set()
        self._notify()

    def _notify(self) -> None:
        """Wake whoever waits for a task to end or for the drain."""
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def finished(self, within: float) -> None:
        """Wait until nothing runs any more; what still runs after `within` seconds hands itself back."""
        with anyio.move_on_after(within) as patience:
            await self._until_idle()
        if patience.cancelled_caught:
            log.warning("drain deadline passed", jobs=self.running)
            for scope in self._tasks:
                scope.cancel()
            await self._until_idle()

    async def _until_idle(self) -> None:
        while self._tasks:
            await self._changed.wait()
