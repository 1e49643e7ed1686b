"""`python -m local` with the stand-in worker, as a process of its own; as a program, it is that process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import httpx
import psutil
import redis

from local.__main__ import main

REPOSITORY = Path(__file__).parents[2]
STAND_IN_WORKER = (sys.executable, str(Path(__file__).with_name("stand_in_worker.py")))
PATIENCE_SECONDS = 20.0
_MARK = "TLFIF_TEST_MARK"


class LocalProcess:
    """A running `python -m local`, whose descendants are known by a mark in their environment.

    Attributes:
        folder: where it and all below it make their temporary files.
    """

    def __init__(self, folder: Path, command: list[str], **environment: str) -> None:
        # Not below `folder`: the path of a Unix socket, and vLLM makes some, may have 107 bytes at most.
        self.folder = Path(tempfile.mkdtemp(prefix="tlfif-"))
        self._mark = str(uuid4())
        self._stderr = folder / "stderr"
        with self._stderr.open("wb") as stderr:
            self._process = subprocess.Popen(
                command,
                cwd=REPOSITORY,
                env=os.environ | environment | {_MARK: self._mark, "TMPDIR": str(self.folder)},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    @classmethod
    def with_stand_in(cls, folder: Path, wish: str = "ready", **environment: str) -> Self:
        """Start it with the tiny model's files and a worker that does as `wish` says."""
        command = [sys.executable, "-m", "tests.process.local_world", "--tiny"]
        return cls(folder, command, STAND_IN=wish, **environment)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        with suppress(AssertionError):  # after a failed test, too, its own janitor cleans up best
            self.assert_nothing_is_left()
        for process in self.alive():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        shutil.rmtree(self.folder)

    def ready(self) -> dict[str, Any]:
        """Wait for the ready line and return it."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, f"it ended without being ready:\n{self.stderr()}"
        addresses: dict[str, Any] = json.loads(line)
        return addresses

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it alone."""
        self._process.send_signal(number)

    def end(self, patience: float = PATIENCE_SECONDS) -> tuple[int, str]:
        """Wait until it ends; return the exit code and what else it wrote to standard output."""
        rest, _ = self._process.communicate(timeout=patience)
        return self._process.returncode, rest

    def stderr(self) -> str:
        """Return what it has written to standard error so far."""
        return self._stderr.read_text()

    def wait_for_stderr(self, text: str) -> None:
        """Wait until it has said something."""
        wait_until(lambda: text in self.stderr(), f"it says {text!r}")

    def file(self, name: str) -> Path:
        """Return one of its temporary files."""
        (found,) = self.folder.rglob(name)
        return found

    def alive(self) -> list[psutil.Process]:
        """Return every process below it, however far down, its own included.

        They carry the mark, but for Redis, which writes over its environment and works in the run directory.
        """
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                ours = process.environ().get(_MARK) == self._mark or process.cwd().startswith(str(self.folder))
                if ours and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def assert_nothing_is_left(self) -> None:
        """Wait until no process and no file of it is left, which may take its last ones a moment."""
        wait_until(lambda: not self.alive(), "all processes are gone")
        wait_until(lambda: not list(self.folder.iterdir()), "all temporary files are gone")


def health(addresses: dict[str, Any]) -> dict[str, Any]:
    """Return what the gateway's `/healthz` shows."""
    shown: dict[str, Any] = httpx.get(f"{addresses['gateway']}/healthz").json()
    return shown


def forget_calls(addresses: dict[str, Any]) -> None:
    """Let the throttle, which lets five calls through at once, forget all calls so far."""
    with redis.Redis.from_url(addresses["redis"]) as client:
        for key in client.scan_iter("rate:*"):
            client.delete(key)


def wait_until(condition: Callable[[], object], what: str, patience: float = PATIENCE_SECONDS) -> None:
    """Wait for a condition, `patience` seconds at most.

    Raises:
        AssertionError: it did not come true in time.
    """
    give_up_at = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < give_up_at, f"waited in vain until {what}"
        time.sleep(0.02)


if __name__ == "__main__":
    sys.exit(main(worker=STAND_IN_WORKER))
