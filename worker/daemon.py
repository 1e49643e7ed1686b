"""The composition root: builds every part from the settings and runs them in one task group."""

from __future__ import annotations

import gc
import os
import signal
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskStatus

from router_lambda.job import reply_key
from worker import heartbeat, http, spot
from worker.booting import booting
from worker.engine import Engine
from worker.errors import EngineDied, StoreUnavailable
from worker.health import Health
from worker.jobs import Jobs
from worker.pulse import Pulse
from worker.queue import JobQueue
from worker.run import Services
from worker.settings import Settings
from worker.store import ReplyStore
from worker.vllm_engine import VllmEngine

ENGINE_CHECK_SECONDS: Final = 0.5
"""Time between two looks at the engine."""

STORE_CHECK_SECONDS: Final = 5.0
"""Time between two looks at an S3 that did not answer: no job may come that would find out."""

log = structlog.get_logger(__name__)


class Daemon:
    """One worker: the engine first, then everything that serves it, until a signal says otherwise."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._health = Health()

    async def run(self) -> None:
        """Boot, serve and shut down.

        Raises:
            SettingsError: the settings do not fit this machine.
            ExceptionGroup: a background task failed; with `EngineDied` inside if that was it.
        """
        settings = self._settings
        listener = http.bind(settings.http_port)
        listener.close()  # only to fail early: the engine's processes must not inherit it
        with booting(settings.http_port, {"worker": settings.worker_id, "pid": os.getpid()}):
            engine = await VllmEngine.start(settings.model, settings.engine_args)
        # What the imports and the engine left on the heap stays for good: no collection needs to look at it again.
        gc.freeze()
        gc.enable()
        async with AsyncExitStack() as resources:
            resources.push_async_callback(engine.stop)
            queue = JobQueue.from_url(settings.redis_url.get_secret_value(), settings.worker_id)
            resources.push_async_callback(queue.aclose)
            resources.push_async_callback(heartbeat.end, queue)
            # A reply has at most one write under way; one more for reading what an earlier attempt wrote.
            store = await resources.enter_async_context(
                ReplyStore.open(settings.bucket, connections=settings.max_concurrency + 1)
            )
            await self._serve(engine, queue, store)
        log.info("stopped")

    async def _serve(self, engine: Engine, queue: JobQueue, store: ReplyStore) -> None:
        services = Services(engine, queue, store, self._health, Pulse(self._settings.stall_seconds))
        jobs = Jobs(services, self._settings.max_concurrency)
        listener = http.bind(self._settings.http_port)

        def state() -> dict[str, Any]:
            return {
                "state": jobs.state,
                "reasons": ["told to stop", *self._health.reasons] if jobs.draining else self._health.reasons,
                "worker": self._settings.worker_id,
                "pid": os.getpid(),
                "model": engine.model,
                "running": jobs.running,
                **self._health.components,
            }

        async with anyio.create_task_group() as tasks:
            await tasks.start(self._watch_signals, jobs, name="signals")
            # Before the heartbeat, which would make what an earlier life left look like ours.
            await tasks.start(jobs.sweep, name="sweep")
            # Before anybody is told that this worker is ready: the routers believe the heartbeat alone.
            await tasks.start(heartbeat.Heartbeat(services, jobs).keep, name="heartbeat")
            tasks.start_soon(http.serve, listener, state, name="http")
            tasks.start_soon(jobs.keep_leases, name="leases")
            tasks.start_soon(jobs.watch_cancels, name="cancels")
            tasks.start_soon(_watch_engine, services, jobs, name="engine")
            tasks.start_soon(_watch_store, services, name="store")
            if not self._settings.metadata_disabled:
                tasks.start_soon(self._watch_spot, jobs, name="spot")
            log.info("ready", model=engine.model, port=listener.getsockname()[1])
            await jobs.consume(tasks)
            await jobs.finished(self._settings.drain_seconds)
            tasks.cancel_scope.cancel()

    async def _watch_signals(self, jobs: Jobs, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drain at the first SIGTERM or SIGINT, kill this process at the second."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            told = False
            async for number in signals:
                name = signal.Signals(number).name
                if told:
                    log.warning("second signal, stopping at once", signal=name, jobs=jobs.running)
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                told = True
                self._drain(jobs, name)

    async def _watch_spot(self, jobs: Jobs) -> None:
        """Drain when EC2 is about to take this instance back."""
        notice = await spot.noticed(self._settings.metadata_endpoint)
        self._drain(jobs, f"Spot interruption: {notice.action} at {notice.time}")

    def _drain(self, jobs: Jobs, reason: str) -> None:
        log.info("draining", reason=reason, jobs=jobs.running, seconds=self._settings.drain_seconds)
        jobs.drain()


async def _watch_engine(services: Services, jobs: Jobs) -> None:
    """End this worker when its engine has died or hangs.

    Raises:
        EngineDied: it has.
    """
    while True:
        try:
            await services.engine.check()
            services.pulse.passed(ENGINE_CHECK_SECONDS)
        except EngineDied:
            jobs.drain()  # before the jobs go back, or this worker would pop them again
            raise
        await anyio.sleep(ENGINE_CHECK_SECONDS)


async def _watch_store(services: Services) -> None:
    """Look at S3 at the start, and as long as it does not answer; whether the object is there is all the same."""
    asked = False
    while True:
        if not asked or services.health.components["s3"] != "ok":
            try:
                await services.store.read(reply_key("health"))
                services.health.ok("s3")
            except StoreUnavailable as error:
                services.health.failed("s3", error)
            asked = True
        await anyio.sleep(STORE_CHECK_SECONDS)
