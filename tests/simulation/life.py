"""One life of a worker: what `worker.daemon` does once the engine is there, inside one simulated process."""

from __future__ import annotations

import asyncio
import random

import anyio
from anyio.abc import TaskGroup

from router_lambda.job import DEFAULT_IDLE_MINUTES
from tests.simulation.engine import SimulatedEngine
from tests.simulation.ledger import Broken
from tests.simulation.loop import Process, VirtualLoop
from tests.simulation.network import Killed, Network
from tests.simulation.redis_side import RedisServer, SimulatedQueue
from tests.simulation.s3_side import Bucket, simulated_store
from worker import heartbeat
from worker.errors import EngineDied, InstanceRunsOn
from worker.health import Health
from worker.idle import IdleTimer
from worker.jobs import Jobs
from worker.run import Services


class Life(Process):
    """A worker from its boot to its end."""

    def __init__(
        self,
        name: str,
        worker_id: str,
        *,
        loop: VirtualLoop,
        rng: random.Random,
        server: RedisServer,
        bucket: Bucket,
        idle_minutes: float = DEFAULT_IDLE_MINUTES,
    ) -> None:
        super().__init__(name, worker_id)
        self.has_ended_well = False
        """Whether it ended by itself and in good order, which no supervisor mends."""
        self._loop = loop
        self._network: Network = server.network
        self._ledger = server.ledger
        self.engine = SimulatedEngine(rng, self)
        self._queue = SimulatedQueue(server, self)
        idle = IdleTimer(idle_minutes, loop.time)
        self._services = Services(self.engine, self._queue, simulated_store(bucket, self), Health(), idle=idle)
        self.jobs = Jobs(self._services, rng.randint(1, 6), clock=loop.time)
        self._heartbeat = heartbeat.Heartbeat(self._services, self.jobs, worker_id)
        self._drain_seconds = rng.choice((0.5, 3.0, 20.0))
        self._scope = anyio.CancelScope()
        self.task: asyncio.Task[None] = loop.create_process_task(self, self._live())

    async def _live(self) -> None:
        """Run until drained, killed or left by the engine."""
        try:
            with self._scope:
                await self._serve()
                self.has_ended_well = True
        except BaseExceptionGroup as group:
            _, others = group.split((Killed, EngineDied, InstanceRunsOn))
            if others is not None:
                raise others from None
        except (Killed, EngineDied):
            pass

    async def _serve(self) -> None:
        jobs = self.jobs
        try:
            async with anyio.create_task_group() as tasks:
                await tasks.start(jobs.sweep)
                await tasks.start(self._heartbeat.keep)
                self._start_watching(tasks)
                await jobs.consume(tasks)
                await jobs.finished(self._drain_seconds)
                await self._before_the_end()
                tasks.cancel_scope.cancel()
        finally:
            await heartbeat.end(self._queue)

    def _start_watching(self, tasks: TaskGroup) -> None:
        tasks.start_soon(self.jobs.keep_leases)
        tasks.start_soon(self.jobs.watch_cancels)
        tasks.start_soon(self._watch_engine)

    async def _before_the_end(self) -> None:
        """Do what has to be done once no job runs any more."""

    async def _watch_engine(self) -> None:
        """Do as the daemon does when it looks after its engine; without looking twice a second, to save time."""
        await self.engine.died.wait()
        self.jobs.drain()
        await self.engine.check()

    @property
    def is_hurried(self) -> bool:
        """Return whether the storm is over: what is left of slow jobs only takes time."""
        return not self._network.is_stormy

    def engine_began(self, job_id: str, others: set[str]) -> None:
        """See `Listener`."""
        try:
            self._ledger.generates(self, job_id, others)
        except Broken as broken:  # not to be caught by the worker, which would make a failed job of it
            self._loop.call_exception_handler({"message": "a rule is broken", "exception": broken})

    def engine_died(self) -> None:
        """See `Listener`."""
        self.is_leaving = True
        self._ledger.fault("dead engines", self)

    def drain(self) -> None:
        """Let it finish what it can and end, as the first SIGTERM does."""
        self.is_leaving = True
        self.jobs.drain()

    def kill(self) -> None:
        """End it at once, as kill -9 does: nothing that it does from now on reaches anybody."""
        self._network.kill(self)
        if self.is_stopped:
            self._loop.continue_process(self)
        self._scope.cancel()
