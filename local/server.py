"""What the bundled Redis and S3 servers share: start on free ports, wait until ready, stop, kill, restart."""

from __future__ import annotations

import signal
import subprocess
import time
from abc import ABC, abstractmethod
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
    `worker.parent_death.die_with`.
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
            StartFailed: it did not, three times in a row, each time on other ports.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            self._ports = free_ports(self.port_count)
            try:
                self._launch()
            except StartFailed:
                if attempt == _ATTEMPTS:
                    raise
            else:
                return

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
        self._launch()

    def _launch(self) -> None:
        self._process = spawn(self.command(), log=self.log, folder=self.folder)
        give_up_at = time.monotonic() + self.ready_seconds
        pause = 0.002
        while not self.is_ready():
            code = self._process.poll()
            if code is not None or time.monotonic() > give_up_at:
                self.kill()
                what = "did not answer" if code is None else f"ended with exit code {code}"
                raise StartFailed(f"{self.name} {what}. Its log ends with:\n{tail(self.log)}")
            time.sleep(pause)
            pause = min(pause * 1.5, 0.1)
