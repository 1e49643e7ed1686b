"""The composition root: builds every part from the settings and runs them in one task group."""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
from contextlib import AsyncExitStack
from typing import Any, Final

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskStatus
from starlette.types import ASGIApp

from router_lambda.job import reply_key
from worker import heartbeat, http, imds, metrics, spot
from worker.booting import Deadline, booting
from worker.closing import Closing
from worker.errors import EngineDied, InstanceRunsOn, QueueUnavailable, StoreUnavailable
from worker.health import Health
from worker.idle import IdleTimer
from worker.instance import Instance
from worker.jobs import Jobs
from worker.log import count
from worker.notify import Notifier
from worker.openai_api import OpenAiApi
from worker.phases import Phases, announce, process_began
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
    """One worker: the engine first, then everything that serves it, until a signal or the idle time says otherwise."""

    def __init__(self, settings: Settings, notifier: Notifier) -> None:
        self._settings = settings
        self._notifier = notifier
        self._health = Health()
        self._phases = Phases(process_began())
        self._drain_reason = "told to stop"
        self._closed = False
        self._instance_stops = anyio.Event()

    async def run(self) -> None:
        """Boot, serve and shut down.

        Raises:
            SettingsError: the settings do not fit this machine.
            ExceptionGroup: a background task failed; with `EngineDied` inside if that was it, or `InstanceRunsOn`.
        """
        settings = self._settings
        listener = http.bind(settings.http_port)
        listener.close()  # only to fail early: the engine's processes must not inherit it
        instance = await self._instance()
        worker_id = settings.worker_id or instance.id or socket.gethostname()
        engine = await self._load(worker_id, instance)
        async with AsyncExitStack() as resources:
            resources.push_async_callback(engine.stop)
            queue = JobQueue.from_url(settings.redis_url.get_secret_value(), worker_id)
            resources.push_async_callback(queue.aclose)
            resources.push_async_callback(heartbeat.end, queue)
            # A reply has at most one write under way; one more for reading what an earlier attempt wrote.
            store = await resources.enter_async_context(
                ReplyStore.open(settings.bucket, connections=settings.max_concurrency + 1)
            )
            pulse, idle = Pulse(settings.stall_seconds), IdleTimer(settings.idle_minutes)
            services = Services(engine, queue, store, self._health, pulse, idle=idle)
            app = await engine.openai_app(pulse) if settings.api_key_sha256 else None
            await self._serve(services, app, worker_id, instance)
        log.info("stopped")

    async def _instance(self) -> Instance:
        """Look where this worker runs."""
        settings = self._settings
        found = None if settings.metadata_disabled else await imds.instance_id(settings.metadata_endpoint)
        named = settings.worker_id if settings.worker_id and imds.looks_like_an_instance(settings.worker_id) else None
        return Instance(found or named, settings.halt_command)

    async def _load(self, worker_id: str, instance: Instance) -> VllmEngine:
        """Load the engine, or stop the instance if that takes too long."""
        settings, phases = self._settings, self._phases
        phases.ended("daemon")
        left = settings.boot_deadline_seconds - phases.total_seconds

        def give_up() -> bool:
            count("BootFailures", instance=instance.id, seconds=settings.boot_deadline_seconds)
            return instance.stop()

        def imported() -> None:
            phases.ended("imports")
            announce(redis_url, "engine", left)

        redis_url = settings.redis_url.get_secret_value()
        shown = {"worker": worker_id, "pid": os.getpid()}
        self._notifier.status("loading the engine")
        with booting(settings.http_port, shown, Deadline(max(0.0, left), give_up)):
            announce(redis_url, "imports", left)
            engine = await VllmEngine.start(
                settings.model, settings.engine_args, imported, openai=bool(settings.api_key_sha256)
            )
        phases.ended("engine")
        # What the imports and the engine left on the heap stays for good: no collection needs to look at it again.
        gc.freeze()
        gc.enable()
        return engine

    async def _serve(self, services: Services, app: ASGIApp | None, worker_id: str, instance: Instance) -> None:
        jobs = Jobs(services, self._settings.max_concurrency)
        beats = heartbeat.Heartbeat(services, jobs, instance.id)
        listener = http.bind(self._settings.http_port)

        def state() -> dict[str, Any]:
            return {
                "state": jobs.state,
                "reasons": [self._drain_reason, *self._health.reasons] if jobs.draining else self._health.reasons,
                "worker": worker_id,
                "pid": os.getpid(),
                "instance": instance.id,
                "model": services.engine.model,
                "running": jobs.running,
                "requests": jobs.places.requests,
                "idle_seconds": services.idle.seconds_left,
                **self._health.components,
            }

        metrics.IDLE_SECONDS.set_function(lambda: -1.0 if (left := services.idle.seconds_left) is None else left)
        closing = Closing(services, jobs, beats)
        api = OpenAiApi(app, services, jobs.places, self._settings.api_key_sha256)
        async with anyio.create_task_group() as tasks:
            await tasks.start(self._watch_signals, jobs, name="signals")
            # Before the heartbeat, which would make what an earlier life left look like ours.
            await tasks.start(jobs.sweep, name="sweep")
            # Before anybody is told that this worker is ready: the routers believe the heartbeat alone.
            self._booted(await tasks.start(beats.keep, name="heartbeat"))
            tasks.start_soon(http.serve, listener, state, api, name="http")
            tasks.start_soon(jobs.keep_leases, name="leases")
            tasks.start_soon(jobs.watch_cancels, name="cancels")
            tasks.start_soon(self._notifier.feed_watchdog, name="watchdog")
            tasks.start_soon(_watch_engine, services, jobs, name="engine")
            tasks.start_soon(_watch_store, services, name="store")
            tasks.start_soon(self._watch_first_token, services, name="first token")
            tasks.start_soon(self._watch_idle, closing, jobs, api, instance, name="idle")
            if not self._settings.metadata_disabled:
                tasks.start_soon(self._watch_spot, jobs, name="spot")
            self._notifier.ready("waiting for jobs")
            log.info("ready", model=services.engine.model, port=listener.getsockname()[1])
            await jobs.consume(tasks)
            await self._finished(jobs, api)
            if self._closed:
                await self._instance_stops.wait()
            self._notifier.stopping()
            tasks.cancel_scope.cancel()

    def _booted(self, asked_for: float | None) -> None:
        phases = self._phases
        phases.asked_for(asked_for)
        phases.ended("ready")
        for phase, seconds in phases.seconds.items():
            metrics.BOOT_SECONDS.labels(phase).set(seconds)
        log.info("booted", seconds=phases.total_seconds, phases=phases.seconds)

    async def _watch_first_token(self, services: Services) -> None:
        """Keep what this boot took, once the first user has seen something of it.

        As with `gpu:boots`, only if its start was asked for: one after a crash says nothing of how long a GPU takes.
        """
        await services.pulse.first_token()
        self._phases.ended("first_token")
        phases = self._phases.seconds
        metrics.BOOT_SECONDS.labels("first_token").set(phases["first_token"])
        log.info("first token", phases=phases)
        if "instance" in phases:
            try:
                await services.queue.note_phases(json.dumps(phases))
            except QueueUnavailable as error:
                services.health.failed("redis", error)

    async def _finished(self, jobs: Jobs, api: OpenAiApi) -> None:
        """Wait for what still runs, as long as it may."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(jobs.finished, self._settings.drain_seconds, name="last jobs")
            tasks.start_soon(api.finished, self._settings.drain_seconds, name="last requests")

    async def _watch_idle(self, closing: Closing, jobs: Jobs, api: OpenAiApi, instance: Instance) -> None:
        """Stop the instance when it has been idle for long enough.

        Here and not behind `consume`, whose last pop may take a second.

        Raises:
            InstanceRunsOn: it will not be stopped.
        """
        closed = await closing.closed()
        self._closed = True
        self._drain_reason = "idle for long enough" if closed.reason == "idle" else "asked to stop once idle"
        self._drain(jobs, self._drain_reason)
        await self._finished(jobs, api)  # one may have come in the very moment
        count("AutoStops", instance=instance.id, reason=closed.reason, secondsLate=round(closed.seconds_late, 3))
        if not await anyio.to_thread.run_sync(instance.stop):
            raise InstanceRunsOn("neither StopInstances nor TLFIF_HALT_COMMAND stopped it; the log above says why")
        self._instance_stops.set()

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
        self._notifier.status(f"draining: {reason}")
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
