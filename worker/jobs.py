"""The jobs that this worker runs: takes ids off the queue, keeps their leases, lets them finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import anyio
import structlog
from anyio.abc import TaskGroup
from structlog.contextvars import bind_contextvars

from router_lambda.job import is_job_id
from worker import metrics
from worker.average import MovingAverage
from worker.backoff import delays
from worker.errors import EngineDied, QueueUnavailable
from worker.lua import LEASE_SECONDS
from worker.run import Run, Services

RENEW_SECONDS = LEASE_SECONDS / 3
"""Time between two renewals: two may fail before a lease runs out."""

SWEEP_SECONDS = 5.0
"""Time between two searches for jobs that nobody has."""

log = structlog.get_logger(__name__)


class Jobs:
    """At most `limit` jobs at once, each a task of its own."""

    def __init__(self, services: Services, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take as many jobs as `limit`; `clock` gives the seconds that they are measured in."""
        self.limit = limit
        self._services = services
        self._queue = services.queue
        self._clock = clock
        self._held = MovingAverage()
        self._running: dict[str, tuple[Run, anyio.CancelScope]] = {}
        self._tasks: set[anyio.CancelScope] = set()
        self._draining = anyio.Event()
        self._changed = anyio.Event()

    @property
    def running(self) -> int:
        """Jobs that run now."""
        return len(self._running)

    @property
    def draining(self) -> bool:
        """Whether no more jobs are taken."""
        return self._draining.is_set()

    @property
    def state(self) -> Literal["ready", "draining"]:
        """The same in a word, as `/healthz` and the heartbeat show it."""
        return "draining" if self.draining else "ready"

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
                with anyio.move_on_after(next(waits)):
                    await self._draining.wait()
            if popped is not None:
                scope = anyio.CancelScope()
                self._tasks.add(scope)
                tasks.start_soon(self._run, popped, scope, name=f"job {popped.decode('ascii', 'replace')}")

    async def _has_room(self) -> bool:
        """Wait until one more job may run; `False` once no more are taken, however many still run."""
        while len(self._tasks) >= self.limit and not self.draining:
            await self._changed.wait()
        return not self.draining

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
        try:
            with scope:
                await self._claim_and_run(popped, scope)
        except QueueUnavailable as error:  # still in the open set: the sweep puts it back
            self._services.health.failed("redis", error)
        finally:
            self._tasks.remove(scope)
            self._notify()

    async def _claim_and_run(self, popped: bytes, scope: anyio.CancelScope) -> None:
        job_id = popped.decode("ascii", "replace")
        if not is_job_id(job_id):
            log.error("dropped what names no job", length=len(popped))
            await self._queue.forget(popped)
            return
        if job_id in self._running:
            # Its lease ran out while this process stood still. The run finds out at its next renewal; until then
            # the same worker must not claim it a second time.
            log.warning("popped a job that still runs here", job=job_id, **self._running[job_id][0].trace)
            return
        began = self._clock()
        claim = await self._queue.claim(job_id)
        if claim.state in {"taken", "gone"}:
            log.info("nothing to do for a popped id", job=job_id, state=claim.state)
            return
        run = Run(job_id, claim, self._services)
        # This task is the job's alone, and so is its context: what libraries log in it names the job, too.
        bind_contextvars(job=job_id, **run.trace)
        self._running[job_id] = (run, scope)
        metrics.RUNNING.set(self.running)
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
            del self._running[job_id]
            metrics.RUNNING.set(self.running)

    async def keep_leases(self) -> None:
        """Renew the leases of what runs; a job whose lease is lost stops at once and writes nothing more."""
        while True:
            await anyio.sleep(RENEW_SECONDS)
            if not self._running:
                continue
            try:
                lost = await self._queue.renew(self._running)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
                continue
            for job_id in lost & self._running.keys():
                run, scope = self._running[job_id]
                log.warning("lost the lease", job=job_id, **run.trace)
                run.disown()
                scope.cancel()

    async def sweep(self) -> None:
        """Put jobs that nobody has back into the queue, at start and from time to time."""
        while True:
            try:
                if found := await self._queue.sweep():
                    log.info("put back jobs that nobody had", jobs=found)
            except QueueUnavailable as error:
                self._services.health.failed("redis", error)
            await anyio.sleep(SWEEP_SECONDS)

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
