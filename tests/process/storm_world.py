"""The real parts that a storm blows through: Redis, S3 and two workers, each worker started again when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Final, NoReturn, Self

import anyio
import anyio.to_thread
import httpx
import psutil

from local.child import spawn, tail
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.s3_server import S3Server
from local.server import Server
from local.tiny_model import write_tiny_model
from tests.process.storm_plan import WORKERS
from tests.process.worker_process import COVERAGE, ROOT, Surroundings

READY_SECONDS: Final = 120.0
BUSY_SECONDS: Final = 3.0
END_SECONDS: Final = 60.0
RESTART_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 0.05

ENVIRONMENT: Final = {
    "AWS_EC2_METADATA_DISABLED": "true",
    "TLFIF_MAX_CONCURRENCY": "16",
    "TLFIF_DRAIN_SECONDS": "1",
}


class DurableRedis(RedisServer):
    """A Redis that keeps what it has acknowledged when it is killed: on disk before it answers."""

    def command(self) -> list[str]:
        """See `Server.command`."""
        # Of an option that comes twice Redis takes the last.
        return [*super().command(), "--appendonly", "yes", "--appendfsync", "always", "--dir", str(self.folder)]


async def bring_back(server: Server) -> None:
    """Start a killed server at its old address, without holding up what else goes on in this thread."""
    server._spawn()  # here, in the main thread, with which it is to die
    await anyio.to_thread.run_sync(server._finish_start)


class Worker:
    """A worker process that is started again whenever it dies, as supervisord would do."""

    def __init__(self, name: str, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.ends: Counter[int] = Counter()
        """How often it ended with which exit code."""
        self._name = name
        self._environment = {name: value for name, value in environment.items() if name != COVERAGE}
        self._url = f"http://127.0.0.1:{environment['TLFIF_HTTP_PORT']}/healthz"
        self._popen: subprocess.Popen[bytes] | None = None

    async def keep(self) -> NoReturn:
        """Start it again and again until cancelled; runs in the main thread, see `worker.parent_death.die_with`."""
        while True:
            self._popen = spawn(
                [sys.executable, "-m", "worker"], log=self.log, folder=ROOT, environment=self._environment
            )
            while (code := self._popen.poll()) is None:  # noqa: ASYNC110 - nobody tells when a process ends
                await anyio.sleep(_LOOK_SECONDS)
            self.ends[code] += 1
            await anyio.sleep(RESTART_SECONDS)

    async def ready(self) -> psutil.Process:
        """Wait until it takes jobs.

        Raises:
            AssertionError: it does not within `READY_SECONDS`.
        """
        give_up_at = time.monotonic() + READY_SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while (shown := await self._state(http)).get("state") not in {"ready", "degraded"}:
                assert time.monotonic() < give_up_at, f"worker {self._name} is not ready but {shown}:\n{tail(self.log)}"
                await anyio.sleep(_LOOK_SECONDS)
        return psutil.Process(shown["pid"])

    async def at_work(self) -> psutil.Process:
        """Wait until it takes jobs and, if any come within `BUSY_SECONDS`, until it runs some."""
        process = await self.ready()
        give_up_at = time.monotonic() + BUSY_SECONDS
        async with httpx.AsyncClient(trust_env=False, timeout=2.0) as http:
            while time.monotonic() < give_up_at and not (await self._state(http)).get("running"):  # noqa: ASYNC110 - as above
                await anyio.sleep(_LOOK_SECONDS)
        return process

    async def _state(self, http: httpx.AsyncClient) -> dict[str, Any]:
        """Return what `/healthz` says, nothing while nobody answers."""
        try:
            shown = (await http.get(self._url)).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return dict(shown) if self._popen is not None and shown.get("pid") == self._popen.pid else {}

    async def ended(self, times: int) -> None:
        """Wait until it has ended so many times.

        Raises:
            AssertionError: it does not within `END_SECONDS`.
        """
        give_up_at = time.monotonic() + END_SECONDS
        while self.ends.total() < times:
            assert time.monotonic() < give_up_at, f"worker {self._name} should end:\n{tail(self.log)}"
            await anyio.sleep(_LOOK_SECONDS)

    def kill(self) -> None:
        """End it for good, also one that is stopped; its engine dies with it."""
        if self._popen is not None and self._popen.poll() is None:
            os.killpg(self._popen.pid, signal.SIGKILL)
        if self._popen is not None:
            self._popen.wait()


def engine_core(worker: psutil.Process) -> psutil.Process:
    """Return vLLM's engine core."""
    (core,) = worker.children()
    return core


class World:
    """Redis, S3 and the workers; a `with` block starts the servers and ends everything, whatever happens in it."""

    def __init__(self, logs: Path | None = None) -> None:
        """Keep the logs in `logs`, or nowhere."""
        self._directory = RunDirectory("tl-fif-storm-")
        folder = self._directory.path
        self.logs = logs or folder
        self.redis = DurableRedis(folder, self.logs)
        self.s3 = S3Server(folder, self.logs)
        self.workers: dict[str, Worker] = {}

    def __enter__(self) -> Self:
        try:
            self.redis.launch()
            self.s3.launch()
            self.redis.wait_ready()
            self.s3.wait_ready()
            model = write_tiny_model(self._directory.path / "model")
            self.around = Surroundings(self.redis, self.s3, model)
            self.workers = {
                name: Worker(
                    name,
                    self.around.environment(TLFIF_WORKER_ID=name, **ENVIRONMENT),
                    self.logs / f"worker-{name}.log",
                )
                for name in WORKERS
            }
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.workers.values():
            worker.kill()
        self.s3.kill()
        self.redis.kill()
        self._directory.remove()
