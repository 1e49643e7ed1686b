"""The real supervisord with the project's configuration, around a stand-in and around a real worker."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import httpx
import psutil
import pytest

from local.run_directory import RunDirectory
from tests.process.worker_process import COVERAGE, ROOT, Surroundings, wait_for
from worker.__main__ import EXIT_BAD_SETTINGS, EXIT_ENGINE_DIED
from worker.parent_death import die_with

CONFIGURATION = ROOT / "supervisord" / "supervisord.conf"
PROGRAMS = Path(sys.executable).parent

_TIE = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
TIED = (sys.executable, "-c", _TIE)
"""Python that is killed as soon as supervisord is gone, as `worker.parent_death` explains."""

STAND_IN = """
import os, signal, sys, time

def drain(*_):
    print("drained", flush=True)
    sys.exit(0)

signal.signal(signal.SIGTERM, drain)
time.sleep(float(os.environ["STAND_IN_SECONDS"]))
sys.exit(int(os.environ["STAND_IN_CODE"]))
"""
"""Found by `python -m worker` in its working directory: ends with a code after some seconds, or drains when told to."""

LONG = 600.0
LONG_ENOUGH = 2.5
"""Seconds after which supervisord takes a process for started."""


class Supervisord:
    """A running supervisord; `folder` is where it keeps its files, with a short path because of the socket in it."""

    def __init__(self, folder: Path, home: Path, environment: Mapping[str, str], interpreter: Sequence[str]) -> None:
        self._folder = folder
        self._environment = {
            **environment,
            "TLFIF_HOME": str(home),
            "TLFIF_PYTHON": shlex.join(interpreter),
            "TLFIF_LOGS": str(folder),
            "TLFIF_RUN": str(folder),
            "SECRET": "100%(is)s no format",  # supervisord replaces such things in what it reads
        }
        self._popen = subprocess.Popen(
            [PROGRAMS / "supervisord", "-c", CONFIGURATION],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
        )

    def control(self, *words: str) -> str:
        """Run supervisorctl and return what it says."""
        command = [str(PROGRAMS / "supervisorctl"), "-c", str(CONFIGURATION), *words]
        return subprocess.run(command, env=self._environment, stdout=subprocess.PIPE, text=True, check=False).stdout

    def state(self) -> str:
        """Return the worker's state, in capitals."""
        return self.control("status", "worker").split()[1]

    def log(self, name: str = "supervisord.log") -> str:
        """Return a log, empty while there is none."""
        path = self._folder / name
        return path.read_text() if path.exists() else ""

    def starts(self) -> list[tuple[datetime, int]]:
        """Return when workers were started, and their pids."""
        lines = [line.split() for line in self.log().splitlines() if " spawned: 'worker' " in line]
        return [(datetime.fromisoformat(f"{line[0]} {line[1]}"), int(line[-1])) for line in lines]

    def pid(self, number: int) -> int:
        """Wait for the worker that is started as the `number`th and return its pid."""
        return wait_for(lambda: self.starts()[number - 1 :], within=10)[0][1]

    def wait_for_log(self, text: str, within: float = 30.0) -> None:
        """Wait until supervisord has said something."""
        wait_for(lambda: text in self.log(), within)

    def assert_no_more_starts(self, expected: int) -> None:
        """Give it time for another start, for it looks once a second what there is to do, and see none."""
        time.sleep(2.5)
        assert len(self.starts()) == expected

    def end(self) -> None:
        """Stop it as systemd does; nothing of it may be left."""
        self._popen.terminate()
        self._popen.wait(60)
        wait_for(lambda: not self._processes(), within=5)

    def kill(self) -> None:
        """Kill what is left."""
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self._popen.wait()

    def _processes(self) -> list[psutil.Process]:
        """List what runs in its session, which is all that it and its worker have started."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, ProcessLookupError):
                if os.getsid(process.pid) == self._popen.pid and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found


@contextmanager
def running(home: Path, environment: Mapping[str, str], interpreter: Sequence[str] = TIED) -> Iterator[Supervisord]:
    """Run supervisord, and leave nothing of it."""
    with RunDirectory("tl-fif-test-supervisord-") as directory:
        supervisord = Supervisord(directory.path, home, environment, interpreter)
        try:
            yield supervisord
            supervisord.end()
        finally:
            supervisord.kill()


@contextmanager
def standing_in(folder: Path, seconds: float = LONG, code: int = 0) -> Iterator[Supervisord]:
    """Run supervisord around a stand-in."""
    (folder / "worker.py").write_text(STAND_IN)
    environment = {name: value for name, value in os.environ.items() if name != COVERAGE}
    with running(folder, {**environment, "STAND_IN_SECONDS": str(seconds), "STAND_IN_CODE": str(code)}) as supervisord:
        yield supervisord


def test_1_a_killed_worker_comes_back_and_a_stopped_one_stays_away(tmp_path: Path) -> None:
    """After kill -9 at once, under another pid; `supervisorctl stop` lets it drain."""
    with standing_in(tmp_path) as supervisord:
        first = supervisord.pid(1)
        supervisord.wait_for_log("success: worker entered RUNNING state")
        os.kill(first, signal.SIGKILL)
        assert supervisord.pid(2) != first
        wait_for(lambda: supervisord.state() == "RUNNING")

        assert supervisord.control("stop", "worker") == "worker: stopped\n"
        assert supervisord.log("worker.log") == "drained\n"
        assert supervisord.state() == "STOPPED"
        supervisord.assert_no_more_starts(2)


@pytest.mark.parametrize("code", [0, EXIT_BAD_SETTINGS])
def test_2_a_wanted_stop_and_bad_settings_are_final(tmp_path: Path, code: int) -> None:
    """Once the worker has lived for two seconds."""
    with standing_in(tmp_path, LONG_ENOUGH, code) as supervisord:
        supervisord.wait_for_log(f"exited: worker (exit status {code}; expected)")
        assert supervisord.state() == "EXITED"
        supervisord.assert_no_more_starts(1)


def test_3_any_other_end_is_not(tmp_path: Path) -> None:
    """Such as that of an engine."""
    with standing_in(tmp_path, LONG_ENOUGH, EXIT_ENGINE_DIED) as supervisord:
        supervisord.wait_for_log(f"exited: worker (exit status {EXIT_ENGINE_DIED}; not expected)")
        supervisord.pid(2)


def test_4_a_worker_that_dies_at_once_is_given_up(tmp_path: Path) -> None:
    """After three more tries, one second later each time; with any exit code, that of bad settings among them."""
    with running(tmp_path, os.environ, ["/bin/sh", "-c", f"exit {EXIT_BAD_SETTINGS}"]) as supervisord:
        supervisord.wait_for_log("gave up: worker entered FATAL state")
        assert supervisord.state() == "FATAL"
        times = [moment for moment, _ in supervisord.starts()]
    pauses = [(after - before).total_seconds() for before, after in pairwise(times)]
    assert len(pauses) == 3
    assert all(pause >= shortest for pause, shortest in zip(pauses, (1, 2, 3), strict=True))


def test_5_supervisord_s_end_is_the_worker_s(tmp_path: Path) -> None:
    """It hands SIGTERM on and waits; only its user may control it."""
    with standing_in(tmp_path) as supervisord:
        supervisord.wait_for_log("success: worker entered RUNNING state")
        socket = supervisord._folder / "supervisord.sock"
        assert socket.stat().st_mode & 0o777 == 0o700
        assert not [each for process in supervisord._processes() for each in process.net_connections("inet")]
        supervisord.end()
        assert supervisord.log("worker.log") == "drained\n"


def test_6_a_real_worker(around: Surroundings) -> None:
    """After kill -9 it is ready again; after SIGTERM it stays away; its log is JSON line by line."""
    environment = around.environment()

    def ready() -> int:
        """Return the pid of the worker that is ready, 0 while none is."""
        with suppress(httpx.TransportError):
            health = httpx.get(f"http://127.0.0.1:{environment['TLFIF_HTTP_PORT']}/healthz").json()
            return int(health["pid"]) if health["state"] == "ready" else 0
        return 0

    with running(ROOT, environment) as supervisord:
        first = wait_for(ready, within=120)
        assert first == supervisord.pid(1)
        os.kill(first, signal.SIGKILL)
        second = supervisord.pid(2)
        assert second == wait_for(ready, within=120)

        os.kill(second, signal.SIGTERM)
        supervisord.wait_for_log("exited: worker (exit status 0; expected)")
        assert supervisord.state() == "EXITED"
        supervisord.assert_no_more_starts(2)
        events = [json.loads(line)["event"] for line in supervisord.log("worker.log").splitlines()]
        assert events.count("ready") == 2
        assert events[-1] == "stopped"
