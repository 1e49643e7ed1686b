"""The supervisor around a stand-in worker."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from local.ports import free_ports
from local.server import StartFailed
from local.supervisor import Supervisor
from tests.process.local_world import STAND_IN_WORKER

PATIENCE_SECONDS = 15.0


class SoonTired(Supervisor):
    """Waits only a moment for a worker to become ready."""

    READY_SECONDS = 0.3


class Strict(Supervisor):
    """Waits only a moment for a worker to end."""

    STOP_SECONDS = 0.3


def supervisor(folder: Path, wish: str, kind: type[Supervisor] = Supervisor) -> Supervisor:
    """Return a supervisor whose worker does as `wish` says."""
    port = free_ports(1)[0]
    environment = os.environ | {"STAND_IN": wish, "TLFIF_HTTP_PORT": str(port), "TLFIF_MODEL": "none"}
    return kind(STAND_IN_WORKER, environment, url=f"http://127.0.0.1:{port}", logfile=folder / "worker.log")


@asynccontextmanager
async def supervising(worker: Supervisor) -> AsyncIterator[None]:
    """Run a supervisor until the block ends."""
    with anyio.fail_after(PATIENCE_SECONDS):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.run)
            yield
            tasks.cancel_scope.cancel()


async def pid_after(worker: Supervisor, former: int) -> int:
    """Wait until a worker other than the former one answers, and return its pid."""
    for _ in range(round(PATIENCE_SECONDS / 0.02)):
        pid: int = (await worker.state()).get("pid", former)
        if pid != former:
            return pid
        await anyio.sleep(0.02)
    raise AssertionError("no new worker came")


def is_alive(pid: int) -> bool:
    """Tell whether a process is there."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_killed_worker_comes_back(tmp_path: Path) -> None:
    """After kill -9 there is a new pid; leaving stops that one too."""
    worker = supervisor(tmp_path, "ready")
    async with supervising(worker):
        await worker.wait_ready()
        first = worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        second = await pid_after(worker, first)
        assert second == worker.pid
    assert not is_alive(first)
    assert not is_alive(second)
    assert worker.pid is None


async def test_bad_settings_are_not_tried_again(tmp_path: Path) -> None:
    """Exit code 2 ends the supervisor with the worker's words."""
    with pytest.raises(StartFailed, match=r"refused its settings(.|\n)*about to exit-2"):
        await supervisor(tmp_path, "exit-2").run()
    assert (tmp_path / "worker.log").read_text() == "about to exit-2\n"


async def test_three_deaths_before_ready(tmp_path: Path) -> None:
    """A worker that never was ready gets three tries, even if it ends with 0."""
    with pytest.raises(StartFailed, match=r"died 3 times before it was ready \(exit code 0\)"):
        await supervisor(tmp_path, "exit-0").run()
    assert (tmp_path / "worker.log").read_text() == "about to exit-0\n" * 3


async def test_never_ready(tmp_path: Path) -> None:
    """A worker that keeps booting is given up after a while."""
    worker = supervisor(tmp_path, "booting", SoonTired)
    with pytest.raises(ExceptionGroup) as failure:
        async with supervising(worker):
            await worker.wait_ready()
    assert failure.group_contains(StartFailed, match="was not ready after")
    assert worker.pid is None


async def test_stubborn_worker_is_killed(tmp_path: Path) -> None:
    """A worker that does not end on SIGTERM gets SIGKILL."""
    worker = supervisor(tmp_path, "stubborn", Strict)
    async with supervising(worker):
        await worker.wait_ready()
        pid = worker.pid
    assert pid is not None
    assert not is_alive(pid)
