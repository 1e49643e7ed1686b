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

from worker import heartbeat, http
from worker.engine import Engine
from worker.health import Health
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services
from worker.settings import Settings
from worker.store import ReplyStore
from worker.vllm_engine import VllmEngine

ENGINE_CHECK_SECONDS: Final = 0.5
"""Time between two looks at an engine that nobody asks anything."""

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
        services = Services(engine, queue, store, self._health)
        jobs = Jobs(services, self._settings.max_concurrency)
        listener = http.bind(self._settings.http_port)

        def state() -> dict[str, Any]:
            return {
                "state": jobs.state,
                "worker": self._settings.worker_id,
                "pid": os.getpid(),
                "model": engine.model,
                "running": jobs.running,
                **self._health.components,
            }

        async with anyio.create_task_group() as tasks:
            await tasks.start(self._watch_signals, jobs, name="signals")
            # Before anybody is told that this worker is ready: the routers believe the heartbeat alone.
            await tasks.start(heartbeat.Heartbeat(services, jobs).keep, name="heartbeat")
            tasks.start_soon(http.serve, listener, state, name="http")
            tasks.start_soon(jobs.keep_leases, name="leases")
            tasks.start_soon(jobs.sweep, name="sweep")
            tasks.start_soon(_watch_engine, engine, name="engine")
            log.info("ready", model=engine.model, port=listener.getsockname()[1])
            await jobs.consume(tasks)
            await jobs.finished(self._settings.drain_seconds)
            tasks.cancel_scope.cancel()

    async def _watch_signals(self, jobs: Jobs, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
        """Drain at the first SIGTERM or SIGINT, kill this process at the second."""
        with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            task_status.started()
            async for number in signals:
                name = signal.Signals(number).name
                if jobs.draining:
                    log.warning("second signal, stopping at once", signal=name, jobs=jobs.running)
                    signal.signal(number, signal.SIG_DFL)
                    signal.raise_signal(number)
                log.info("draining", signal=name, jobs=jobs.running, seconds=self._settings.drain_seconds)
                jobs.drain()


async def _watch_engine(engine: Engine) -> None:
    while True:
        await engine.check()
        await anyio.sleep(ENGINE_CHECK_SECONDS)
