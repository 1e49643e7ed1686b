"""What the bundled servers share: start on free ports, wait until ready, stop, kill, restart."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from local.child import spawn, stop, tail
from local.ports import free_ports

_ATTEMPTS: Final = 3


class StartFailed(RuntimeError):
    """A part of the local system did not come up; the message ends with the last lines of its log."""


class Server(ABC):
    """A real server in a process of its own, on loopback, with its data in `folder` and its log in `logs`.

    The calls block: for milliseconds (Redis) to two seconds (S3). They belong in the main thread, see
    `worker.parent_death.die_with`; to start several side by side, `launch()` all before the first `wait_ready()`.
    """

    name: str
    ready_seconds: float
    port_count: int

    def __init__(self, folder: Path, logs: Path | None = None) -> None:
        self.folder = folder
        self.log = (logs or folder) / f"{self.name}.log"
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line for the ports in `self._ports`."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Tell whether this very server answers, and no stranger at its port; never raises if nobody does."""

    def child_environment(self) -> Mapping[str, str] | None:
        """Return the environment for the server's process, `None` for our own."""
        return None

    def set_up(self) -> None:  # noqa: B027 - most servers need nothing
        """Make what the server is to hold from the start, each time that it has become ready.

        Raises:
            StartFailed: the server refuses it.
        """

    @property
    def pid(self) -> int:
        """Process id of the running server.

        Raises:
            RuntimeError: it is not running.
        """
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running; call start() first")
        return self._process.pid

    def start(self) -> None:
        """Start on fresh ports and return once the server answers.

        Raises:
            StartFailed: see `wait_ready`.
        """
        self.launch()
        self.wait_ready()

    def launch(self) -> None:
        """Start on fresh ports and return at once; `wait_ready` has to follow."""
        self._ports = free_ports(self.port_count)
        self._spawn()

    def wait_ready(self) -> None:
        """Return once the launched server answers and is set up.

        Raises:
            StartFailed: it did not, nor did two more, each on other ports.
        """
        for _ in range(_ATTEMPTS - 1):
            try:
                self._finish_start()
            except StartFailed:
                self.launch()
            else:
                return
        self._finish_start()

    def stop(self) -> None:
        """Stop in good order; harmless when it is not running."""
        if self._process is not None:
            stop(self._process)
            self._process = None

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        """Stop if it runs and start again at the same address.

        Raises:
            StartFailed: it did not answer again, for instance because its port was taken meanwhile.
        """
        self.stop()
        self._spawn()
        self._finish_start()

    def _spawn(self) -> None:
        self._process = spawn(self.command(), log=self.log, folder=self.folder, environment=self.child_environment())

    def _finish_start(self) -> None:
        try:
            self._await_answer()
            self.set_up()
        except StartFailed:
            self.kill()
            raise

    def _await_answer(self) -> None:
        assert self._process is not None
        give_up_at = time.monotonic() + self.ready_seconds
        pause = 0.002
        while not self.is_ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > give_up_at:
                what = "did not answer" if code is None else f"ended with exit code {code}"
                raise StartFailed(f"{self.name} {what}. Its log ends with:\n{tail(self.log)}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
