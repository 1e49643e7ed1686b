"""Keeps the worker running: a process of its own, started again whenever it dies, as supervisord would do."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import anyio
import httpx

from local.child import tail
from local.server import StartFailed
from worker.parent_death import die_with

log = logging.getLogger(__name__)

BAD_SETTINGS: Final = 2
"""Exit code of a worker that refuses its settings: starting it again would change nothing."""

_ROOT: Final = Path(__file__).resolve().parents[1]
_POLL_SECONDS: Final = 0.1
_REPORT_SECONDS: Final = 5.0


class Backoff:
    """Pauses between starts: 0.5 s, doubled each time up to 10 s, and anew after a run of a minute."""

    SHORTEST = 0.5
    LONGEST = 10.0
    STEADY_SECONDS = 60.0

    def __init__(self) -> None:
        self._next = self.SHORTEST

    def after(self, ran_seconds: float) -> float:
        """Return the pause in seconds after a process that ran for `ran_seconds`."""
        if ran_seconds >= self.STEADY_SECONDS:
            self._next = self.SHORTEST
        pause, self._next = self._next, min(self._next * 2, self.LONGEST)
        return pause


class Supervisor:
    """Runs one worker. `url` is where it serves `/healthz`; both its outputs go to the file `logfile`."""

    FIRST_TRIES = 3
    READY_SECONDS = 180.0
    STOP_SECONDS = 50.0  # longer than a worker drains: 30 s unless it is told otherwise, and 12 s to hand back and end

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], *, url: str, logfile: Path) -> None:
        self._command = command
        self._environment = environment
        self.url = url
        self._logfile = logfile
        self._was_ready = False
        self._process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the worker, `None` between a death and the next start."""
        return self._process.pid if self._process is not None else None

    async def run(self) -> NoReturn:
        """Start the worker, again and again, until cancelled; then let it drain.

        Raises:
            StartFailed: it refused its settings, or died three times without ever having become ready.
        """
        backoff = Backoff()
        starts = 0
        while True:
            starts += 1
            began = time.monotonic()
            code = await self._run_once()
            ran = time.monotonic() - began
            if code == BAD_SETTINGS:
                raise StartFailed(self._explain("refused its settings (exit code 2)"))
            if not self._was_ready and starts == self.FIRST_TRIES:
                raise StartFailed(self._explain(f"died {starts} times before it was ready (exit code {code})"))
            pause = backoff.after(ran)
            log.warning("the worker ended with exit code %d after %.1f s; next start in %.1f s", code, ran, pause)
            await anyio.sleep(pause)

    async def wait_ready(self, *, report: bool = True) -> None:
        """Return once the worker says that it is ready; `report` says from time to time that it is not yet.

        Raises:
            StartFailed: it does not within `READY_SECONDS`.
        """
        began = reported = time.monotonic()
        while (await self.state()).get("state") != "ready":
            now = time.monotonic()
            if now - began > self.READY_SECONDS:
                raise StartFailed(self._explain(f"was not ready after {self.READY_SECONDS:.0f} s"))
            if report and now - reported >= _REPORT_SECONDS:
                log.info("the worker is still starting, %.0f s so far", now - began)
                reported = now
            await anyio.sleep(_POLL_SECONDS)
        self._was_ready = True

    async def state(self) -> dict[str, Any]:
        """Return what the worker's `/healthz` shows, or `{"state": "down"}` when nobody answers."""
        try:
            # Without the environment's proxies, which could not reach this machine's loopback.
            async with httpx.AsyncClient(trust_env=False, timeout=2.0) as client:
                shown = (await client.get(f"{self.url}/healthz")).json()
        except (httpx.HTTPError, ValueError):
            shown = None
        return shown if isinstance(shown, dict) else {"state": "down"}

    async def _run_once(self) -> int:
        """Run the worker until it ends and return its exit code; cancelling stops it in good order."""
        with self._logfile.open("ab") as output:
            # In the main thread, where this event loop runs; see `die_with`.
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=asyncio.subprocess.STDOUT,
                cwd=_ROOT,
                env=self._environment,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        self._process = process
        try:
            return await process.wait()
        finally:
            with anyio.CancelScope(shield=True):
                await self._stop(process)
            self._process = None

    async def _stop(self, process: asyncio.subprocess.Process) -> None:
        if process.returncode is not None:
            return
        log.info("the worker drains")
        process.terminate()
        with anyio.move_on_after(self.STOP_SECONDS):
            await process.wait()
            return
        log.warning("the worker did not end within %.0f s of SIGTERM; killing it", self.STOP_SECONDS)
        process.kill()
        await process.wait()

    def _explain(self, what: str) -> str:
        return f"the worker {what}. Its log ends with:\n{tail(self._logfile)}"
