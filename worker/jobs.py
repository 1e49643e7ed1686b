"""The jobs that this worker runs: takes ids off the queue, keeps their leases, lets them finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from math import inf
from typing import Literal

import anyio
import anyio.lowlevel
import structlog
from anyio.abc import TaskGroup, TaskStatus
from structlog.contextvars import bind_contextvars

from worker import metrics
from worker.average import MovingAverage
from worker.backoff import delays
from worker.errors import EngineDied, QueueUnavailable
from worker.lua import LEASE_SECONDS
from worker.places import Places
from worker.queue import MAX_ATTEMPTS, POP_SECONDS, Claim
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


class Jobs:
    """At most `limit` jobs at once, each a task of its own; `places` are shared with requests that come over HTTP."""

    def __init__(self, services: Services, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take as many jobs as `limit`; `clock` gives the seconds that they are measured in."""
        self.places = Places(limit, self._notify)
        self._services = services
        self._queue = services.queue
        self._clock = clock
        self._held = MovingAverage()
        self._running: dict[str, Run] = {}
        self._tasks: dict[str, anyio.TaskHandle[None]] = {}
        self._ending: set[str] = set()
        self._last_tries: set[str] = set()
        self._at_once = False  # whether the next look is not to wait for an id
        self._unsure_until = -inf
        metrics.RUNNING.set_function(lambda: self.running)
        self._draining = anyio.Event()
        self._changed = anyio.Event()

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    @property
    def room(self) -> int:
        """Jobs that may be taken now; one that has its final reply takes up no place any more."""
        return self.places.room(len(self._tasks) - len(self._ending))

    @property
    def is_idle(self) -> bool:
        """Whether nothing runs, is about to, or is just ending; a request over HTTP neither."""
        return not self._tasks and not self.places.requests and not self.places.waiting_requests

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
        """Take ids off the queue and start a task for each, until `drain`."""
        waits = delays(0.2, 10.0)
        while await self._has_room():
            try:
                claims = await self._next()
                waits = delays(0.2, 10.0)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                claims = []
                await self._pause(next(waits))
            for job_id, claim in claims:
                self._begin(tasks, job_id, claim)
            if claims:
                await anyio.lowlevel.checkpoint()  # they begin before Redis is asked for more

    async def _has_room(self) -> bool:
        """Wait until one more job may run; `False` once no more are taken, however many still run.

        While there is a last try, which runs alone, none is taken: should it kill this worker, none has lost a try.
        """
        await anyio.lowlevel.checkpoint_if_cancelled()  # there is no other between two pops, which are shielded
        while not self.draining and (self.room < 1 or self._last_tries):
            await self._changed.wait()
        return not self.draining

    async def _pause(self, seconds: float) -> None:
        """Wait, but no longer than until the drain."""
        with anyio.move_on_after(seconds):
            await self._draining.wait()

    async def _next(self) -> list[tuple[str, Claim]]:
        """Wait for ids and take them; those that come while draining go back."""
        wait, self._at_once = not self._at_once, False
        unsure = self._clock() < self._unsure_until
        try:
            with anyio.CancelScope(shield=True):
                taken = await self._queue.take(self.room, wait=wait, known=self._tasks if unsure else None)
                self._services.health.ok("redis")
                self._at_once = taken.waiting > 0
                begun = [each for each in taken.claims if not self._goes_back(*each)]
                if back := [job_id for job_id, claim in taken.claims if self._goes_back(job_id, claim)]:
                    await self._queue.give_back(back)
                    await self._retake(back)
        except QueueUnavailable:
            # What was asked for may have been granted all the same, or be granted to a connection that is gone.
            self._unsure_until = self._clock() + POP_SECONDS + LEASE_SECONDS
            self._at_once = True
            raise
        return begun

    def _goes_back(self, job_id: str, claim: Claim) -> bool:
        """Whether a job that was just taken must not be begun: now that this worker drains, or beside its own run."""
        return claim.attempt > 0 and (self.draining or job_id in self._tasks)

    async def _retake(self, job_ids: list[str]) -> None:
        """Let those go on that still run here.

        The lease of such a job ran out while this process stood still, and a sweep put it back. Taking it counted as
        another try, so it was given back first; now the job is its run's again, unless another worker was faster.
        """
        for job_id in job_ids:
            if running := self._running.get(job_id):
                log.warning("popped a job that still runs here", job=job_id, **running.trace)
                await running.lease.retake()

    def _begin(self, tasks: TaskGroup, job_id: str, claim: Claim) -> None:
        """Start a task for a job, if there is anything to do for it."""
        if claim.state == "bad":
            log.error("dropped what names no job", length=len(job_id))
        elif claim.state in {"taken", "gone"}:
            log.info("nothing to do for a popped id", job=job_id, state=claim.state)
        else:
            if claim.attempt >= MAX_ATTEMPTS:
                self._last_tries.add(job_id)
            self._tasks[job_id] = tasks.start_soon(self._run, job_id, claim, name=f"job {job_id}")

    async def _run(self, job_id: str, claim: Claim) -> None:
        try:
            await self._run_claimed(job_id, claim)
        except QueueUnavailable as error:  # still in the open set: the sweep puts it back
            self._services.health.failed("redis", error)
        finally:
            del self._tasks[job_id]
            self._ending.discard(job_id)
            self._last_tries.discard(job_id)
            self._notify()

    def _ends(self, job_id: str) -> None:
        """Note that a job has its final reply, so that its place is free; only Redis is still to be told."""
        self._ending.add(job_id)
        self.places.leave("job")

    async def _run_claimed(self, job_id: str, claim: Claim) -> None:
        began = self._clock()
        run = Run(job_id, claim, self._services, self._ends)
        # This task is the job's alone, and so is its context: what libraries log in it names the job, too.
        bind_contextvars(job=job_id, **run.trace)
        self._running[job_id] = run
        self._services.idle.begin()
        has_place = False
        try:
            await self.places.take("job")
            has_place = True
            await run.finish()
        except BaseException as end:
            if isinstance(end, EngineDied):
                self.drain()  # before the job goes back, or this worker would pop it again
            await run.hand_back()
            raise
        else:
            self._held.add(self._clock() - began)
        finally:
            if has_place and job_id not in self._ending:
                self.places.leave("job")
            self._services.idle.end(run.idle_minutes)
            del self._running[job_id]

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
            running[job_id].lease.renewed(asked_at)
        for job_id in renewal.lost:
            running[job_id].lease.lost = True
        for job_id, run in running.items():
            if job_id in renewal.free:
                await run.lease.retake()
            if run.lease.lost and self._running.get(job_id) is run:
                log.warning("lost the lease", job=job_id, **run.trace)
                self._tasks[job_id].cancel()

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
                self._running[job_id].cancel()

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
        """Take no more jobs, and let no more requests in."""
        self._draining.set()
        self.places.drain()
        self._notify()

    def _notify(self) -> None:
        """Wake whoever waits for a task to end or for the drain."""
        if self._changed.statistics().tasks_waiting:
            changed, self._changed = self._changed, anyio.Event()
            changed.set()

    async def finished(self, within: float) -> None:
        """Wait until nothing runs any more; what still runs after `within` seconds hands itself back."""
        with anyio.move_on_after(within) as patience:
            await self._until_idle()
        if patience.cancelled_caught:
            log.warning("drain deadline passed", jobs=self.running)
            for task in self._tasks.values():
                task.cancel()
            await self._until_idle()

    async def _until_idle(self) -> None:
        while self._tasks:
            await self._changed.wait()
