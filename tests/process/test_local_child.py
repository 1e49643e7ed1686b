"""Child processes that will not go, and those that must."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local import child
from tests.process.local_world import REPOSITORY, wait_until


def test_polite_child_gets_sigterm(tmp_path: Path) -> None:
    """A child that ends on SIGTERM is not killed; what it wrote is in its log."""
    log = tmp_path / "log"
    script = "trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.01; done"
    process = child.spawn(["sh", "-c", script], log=log, folder=tmp_path)
    wait_until(lambda: child.tail(log) == "ready", "it runs")
    child.stop(process)
    assert (process.returncode, child.tail(log)) == (3, "ready\nbye")


def test_stubborn_child_gets_sigkill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that does not mind SIGTERM is killed after a while."""
    monkeypatch.setattr(child, "STOP_SECONDS", 0.1)
    log = tmp_path / "log"
    process = child.spawn(["sh", "-c", "trap '' TERM; echo ready; sleep 60"], log=log, folder=tmp_path)
    wait_until(lambda: child.tail(log) == "ready", "it runs")
    (sleeping,) = psutil.Process(process.pid).children()
    child.stop(process)
    sleeping.kill()
    assert process.returncode == -signal.SIGKILL


def test_child_dies_with_its_parent(tmp_path: Path) -> None:
    """Killed with -9, a process takes its child along; the log of a child that never wrote is empty."""
    script = (
        "import os, pathlib, local.child as c; p = pathlib.Path(os.environ['FOLDER']);"
        "print(c.spawn(['sleep', '60'], log=p / 'log', folder=p).pid, flush=True); os.kill(os.getpid(), 9)"
    )
    parent = subprocess.run(
        [sys.executable, "-c", script],
        cwd=REPOSITORY,
        env=os.environ | {"FOLDER": str(tmp_path)},
        capture_output=True,
        check=False,
    )
    wait_until(lambda: not psutil.pid_exists(int(parent.stdout)), "the child is gone")
    assert child.tail(tmp_path / "log") == ""
    assert child.tail(tmp_path / "no-log") == ""
