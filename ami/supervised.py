"""A real worker under a real supervisord, for as long as a proof takes: started here, or by systemd's unit."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Protocol

ROOT: Final = Path(__file__).resolve().parent.parent

_STOP_SECONDS: Final = 60.0
"""supervisord waits 50 s for the worker (supervisord.conf)."""

_LAST_LINES: Final = 15


class CannotStart(Exception):
    """What runs the worker does not start; the message says why."""


class Supervisor(Protocol):
    """What starts supervisord with the worker's settings, and stops it."""

    logs: Path

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it.

        Raises:
            CannotStart: with the reason.
        """

    def stop(self) -> None:
        """Stop it and what it runs."""


class OwnSupervisord:
    """A supervisord as a child of this process, with files in a folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="tl-fif-proof-")
        self._popen: subprocess.Popen[bytes] | None = None
        self.logs = Path(self._folder.name)

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it; what this process has been told by the environment is not for the worker."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TLFIF_")}
        places = {
            "TLFIF_HOME": str(ROOT),
            "TLFIF_PYTHON": sys.executable,
            "TLFIF_LOGS": str(self.logs),
            "TLFIF_RUN": str(self.logs),
        }
        # -m, because no path to a script is known to be right: supervisord is a package of this interpreter.
        command = [sys.executable, "-m", "supervisor.supervisord", "-c", str(ROOT / "supervisord" / "supervisord.conf")]
        quiet = subprocess.DEVNULL
        self._popen = subprocess.Popen(
            command, cwd=ROOT, env={**inherited, **places, **settings}, stdin=quiet, stdout=quiet, stderr=quiet
        )

    def stop(self) -> None:
        """Stop it as systemd does."""
        if self._popen is not None:
            self._popen.terminate()
            try:
                self._popen.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._popen.kill()
                self._popen.wait()
        self._folder.cleanup()


class Unit:
    """The unit of an image that is not a node yet: it has no settings of its own."""

    logs = Path("/var/log/tl-fif")
    settings = Path("/etc/tl-fif/worker.env")

    def __init__(self, name: str) -> None:
        self._name = name
        self._is_ours = False

    def start(self, settings: Mapping[str, str]) -> None:
        """Start it with settings that are there for that long alone."""
        self.settings.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = os.open(self.settings, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise CannotStart(f"{self.settings} is there: this is a node in use, and no image to be proven") from None
        self._is_ours = True
        with os.fdopen(file, "w") as out:
            out.writelines(f"{name}={shlex.quote(value)}\n" for name, value in settings.items())
        if code := self._systemctl("start"):
            raise CannotStart(f"systemctl start {self._name} ended with {code}; look at journalctl -u {self._name}")

    def stop(self) -> None:
        """Stop it and take the settings away."""
        if self._is_ours:
            self._systemctl("stop")
            self.settings.unlink(missing_ok=True)

    def _systemctl(self, word: str) -> int:
        return subprocess.run(["systemctl", word, self._name], stdout=sys.stderr, check=False).returncode  # noqa: S607


class Watch:
    """What supervisord and the worker have said since this began."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._begin = {path.name: path.stat().st_size for path in logs.glob("*.log")}

    def _read(self, name: str) -> str:
        path = self._logs / name
        if not path.exists():
            return ""
        with path.open("rb") as file:
            file.seek(self._begin.get(name, 0))
            return file.read().decode("utf-8", "replace")

    def ended(self) -> str | None:
        """Return how the worker ended, in supervisord's words, or `None` as long as it has not."""
        # Whether it was "expected" depends on how long the worker has lived.
        found = re.search(r"exited: worker \((.+?)[;)]|spawnerr: (.+)", self._read("supervisord.log"))
        return None if found is None else found[1] or found[2]

    def stopped(self, pid: int) -> str | None:
        """Send SIGTERM to the worker and return how it ended, or `None` if it has not in time."""
        os.kill(pid, signal.SIGTERM)
        give_up_at = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < give_up_at:
            if how := self.ended():
                return how
            time.sleep(0.1)
        return None

    def last_words(self, secret: str) -> list[str]:
        """Return the last lines of each log, without `secret`: a crash may have shown what it was about."""
        lines = []
        for name in ("supervisord.log", "worker.log", "worker-stderr.log"):
            said = self._read(name).replace(secret, "…").splitlines()[-_LAST_LINES:]
            lines += [f"{name}: {line}" for line in said]
        return lines
