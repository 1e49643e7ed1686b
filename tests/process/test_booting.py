"""Who answers while the engine loads, who ends when, and what is left: processes that boot for as long as a test likes.

Scenarios: 1 a boot · 2 a boot that fails · 3 SIGTERM and Ctrl-C · 4 kill -9 · 5 signals to what was forked meanwhile
· 6 a port that is taken, and none.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import psutil
import pytest

from local.ports import LOOPBACK, free_ports
from tests.process.worker_process import ROOT, wait_for

SCRIPT = """
import os, signal, sys, time
from worker import http
from worker.booting import Deadline, booting

parent = os.getpid()

def tell(word):
    print(word, flush=True)
    sys.stdin.readline()

def fork(then):
    pid = os.fork()
    if pid == 0:
        then()
    tell("inside")
    return os.waitpid(pid, 0)[1]

def give_up():
    print("gave up", flush=True)
    return {stops}

{before}
try:
    with booting({port}, {{"worker": "one", "pid": os.getpid()}}, Deadline({deadline}, give_up)):
        {inside}
finally:
    {after}
"""
WAIT = "tell('inside')"
BIND = "http.bind({port}).close(); tell('free')"


class Booting:
    """A process that boots."""

    def __init__(self, port: int, deadline: tuple[float, bool], **parts: str) -> None:
        self.port = port
        seconds, stops = deadline
        filled = {name: part.format(port=port) for name, part in parts.items()}
        script = SCRIPT.format(port=port, deadline=seconds, stops=stops, **filled)
        self.popen = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def hear(self) -> str:
        """Return the next line that it prints."""
        assert self.popen.stdout is not None
        return self.popen.stdout.readline().rstrip()

    def go_on(self) -> None:
        """Let it go on to what comes next."""
        assert self.popen.stdin is not None
        self.popen.stdin.write("\n")
        self.popen.stdin.flush()

    def get(self, path: str) -> httpx.Response | None:
        """Return the answer, `None` while nobody listens."""
        try:
            return httpx.get(f"http://{LOOPBACK}:{self.port}{path}", timeout=5)
        except httpx.TransportError:
            return None

    def answer(self, path: str = "/healthz") -> httpx.Response:
        """Return the answer as soon as there is one."""
        return wait_for(lambda: [got] if (got := self.get(path)) is not None else None)[0]

    def child(self) -> psutil.Process:
        """Return the process that answers."""
        (child,) = psutil.Process(self.popen.pid).children()
        return child

    def end(self) -> tuple[int, str, str]:
        """Wait for the end, which is not there before every process that holds its output has ended too."""
        output, errors = self.popen.communicate(timeout=30)
        return self.popen.returncode, output, errors


@contextmanager
def spawned(
    port: int | None = None,
    *,
    deadline: tuple[float, bool] = (600.0, False),
    before: str = "pass",
    inside: str = WAIT,
    after: str = BIND,
) -> Iterator[Booting]:
    """Start a process that boots, wait until it is inside, and kill what is left of it afterwards.

    `deadline` is in seconds, with whether the machine can be stopped when it has passed.
    """
    port = free_ports(1)[0] if port is None else port
    process = Booting(port, deadline, before=before, inside=inside, after=after)
    try:
        assert process.hear() == "inside"
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.popen.pid, signal.SIGKILL)
        process.popen.communicate()


def gone(process: psutil.Process) -> bool:
    """Tell whether a process has ended, whether or not somebody has asked for its exit code yet."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def refused(port: int) -> bool:
    """Tell whether nobody listens."""
    with socket.socket() as client:
        return client.connect_ex((LOOPBACK, port)) != 0


def test_1_a_boot() -> None:
    """The state and for how long, on loopback alone; then the port is free, whatever clients hold on to it."""
    with spawned() as process:
        answer = process.answer()
        assert (answer.status_code, answer.headers["content-type"]) == (503, "application/json")
        shown = answer.json()
        seconds = shown.pop("seconds")
        assert shown == {
            "state": "booting",
            "reasons": ["the engine loads"],
            "worker": "one",
            "pid": process.popen.pid,
        }
        wait_for(lambda: process.answer().json()["seconds"] > seconds)
        assert process.answer("/healthz?verbose").status_code == 503
        assert [process.answer(path).status_code for path in ("/", "/metrics", "/healthz/")] == [404] * 3
        listening = [c.laddr for c in process.child().net_connections() if c.status == "LISTEN"]
        assert listening == [(LOOPBACK, process.port)]
        assert Path(f"/proc/{process.child().pid}/fd/0").readlink() == Path(os.devnull)

        with socket.create_connection((LOOPBACK, process.port)) as silent:
            assert process.answer().status_code == 503
            silent.settimeout(0)
            with pytest.raises(BlockingIOError):  # nobody had to wait until it was sent away
                silent.recv(1)
            silent.settimeout(5)
            process.go_on()
            assert process.hear() == "free"
            assert silent.recv(1) == b""
        assert psutil.Process(process.popen.pid).children() == []
        process.go_on()
        assert process.end() == (0, "", "")


def test_1_a_boot_asks_for_patience() -> None:
    """Clients of OpenAI's API as well: theirs try again when they are told so, and the answer outlives their body."""
    with spawned() as process:
        process.answer()
        sent = httpx.post(f"http://{LOOPBACK}:{process.port}/v1/chat/completions", content=b"x" * 300_000)
        asked = process.answer("/v1/models")
        for answer in (sent, asked):
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
            assert answer.json()["error"]["code"] == "booting"
        assert httpx.post(f"http://{LOOPBACK}:{process.port}/metrics").status_code == 404


def test_1_a_boot_leaves_the_signals_as_they_were() -> None:
    """What a signal did before, it does again."""
    before = "signal.signal(signal.SIGTERM, lambda *_: os._exit(7))"
    with spawned(before=before) as process:
        process.go_on()
        assert process.hear() == "free"
        process.popen.terminate()
        assert process.end() == (7, "", "")


def test_1_a_boot_whose_child_was_killed() -> None:
    """It goes on: an engine that loads is worth more than an answer that it does."""
    with spawned() as process:
        process.answer()
        child = process.child()
        child.terminate()
        wait_for(lambda: gone(child))
        process.go_on()
        assert process.hear() == "free"
        process.go_on()
        assert process.end() == (0, "", "")


def test_1_a_boot_whose_child_was_reaped() -> None:
    """Somebody who waits for any child may come first."""
    with spawned(before="signal.signal(signal.SIGCHLD, signal.SIG_IGN)") as process:
        process.answer()
        process.go_on()
        assert process.hear() == "free"
        process.go_on()
        assert process.end() == (0, "", "")


def test_2_a_boot_that_fails() -> None:
    """The error goes its way, and the port is free."""
    with spawned(inside="tell('inside'); raise RuntimeError('no such model')") as process:
        process.answer()
        process.go_on()
        assert process.hear() == "free"
        assert psutil.Process(process.popen.pid).children() == []
        process.go_on()
        code, output, errors = process.end()
        assert (code, output, errors.splitlines()[-1]) == (1, "", "RuntimeError: no such model")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_3_stopped_while_booting(number: signal.Signals) -> None:
    """Exit code 0, one line, and nobody is left."""
    with spawned(inside="tell('inside'); time.sleep(60)") as process:
        process.answer()
        child = process.child()
        process.popen.send_signal(number)
        code, output, errors = process.end()
        assert (code, errors, len(output.splitlines())) == (0, "", 1)
        assert "stopped while booting" in output
        assert number.name in output
        wait_for(lambda: gone(child))
        assert refused(process.port)


def test_3_ctrl_c_reaches_the_group() -> None:
    """The child ignores it and goes with its parent."""
    with spawned() as process:
        process.answer()
        child = process.child()
        child.send_signal(signal.SIGINT)
        assert process.answer().status_code == 503
        os.killpg(process.popen.pid, signal.SIGINT)
        assert process.end()[0] == 0
        wait_for(lambda: gone(child))


def test_4_kill_9() -> None:
    """The child goes along."""
    with spawned() as process:
        process.answer()
        child = process.child()
        process.popen.kill()
        assert process.end() == (-signal.SIGKILL, "", "")
        wait_for(lambda: gone(child))
        assert refused(process.port)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_5_a_signal_to_what_was_forked(number: signal.Signals) -> None:
    """It ends as if nobody had taken care of signals, and the boot goes on."""
    with spawned(inside="tell(fork(lambda: time.sleep(60)))") as process:
        process.answer()
        children = psutil.Process(process.popen.pid).children()
        (forked,) = (child for child in children if not child.net_connections())
        forked.send_signal(number)
        wait_for(lambda: gone(forked))
        process.go_on()
        assert process.hear() == str(int(number))
        assert process.answer().status_code == 503
        process.go_on()
        assert process.hear() == "free"


def test_5_what_was_forked_leaves_as_its_parent_would() -> None:
    """By an error, say: whoever answers stays."""
    after = "os.getpid() == parent and tell('over')"
    with spawned(inside="tell(fork(lambda: sys.exit(3)))", after=after) as process:
        process.go_on()
        assert process.hear() == str(3 << 8)
        assert process.answer().status_code == 503


def test_6_a_port_that_is_taken() -> None:
    """Nobody says so here, the deadline is watched all the same, and the boot goes on."""
    (port,) = free_ports(1)
    with socket.create_server((LOOPBACK, port)), spawned(port, after="tell('over')") as process:
        assert process.child().net_connections() == []
        process.go_on()
        assert process.hear() == "over"
        process.go_on()
        assert process.end() == (0, "", "")


def test_6_no_port() -> None:
    """Nobody answers; signals are taken care of all the same."""
    with spawned(0) as process:
        assert process.child().net_connections() == []
        process.popen.terminate()
        assert process.end()[0] == 0


def test_7_a_boot_that_takes_too_long() -> None:
    """The machine is told to stop, and the process, which can still hear, to end."""
    with spawned(deadline=(0.3, True), inside="tell('inside'); time.sleep(60)") as process:
        code, output, errors = process.end()
        said = output.splitlines()
        assert (code, errors, len(said)) == (0, "", 3)
        assert "not ready in time" in said[0]
        assert said[1] == "gave up"
        assert "stopped while booting" in said[2]


def test_7_a_boot_that_takes_too_long_on_a_machine_that_cannot_be_stopped() -> None:
    """It dies, so that its supervisor tries again."""
    with spawned(0, deadline=(0.3, False), inside="tell('inside'); time.sleep(60)") as process:
        code, output, errors = process.end()
        assert (code, errors) == (-signal.SIGKILL, "")
        assert output.splitlines()[-1] == "gave up"


def test_7_a_boot_that_hangs_and_hears_nothing() -> None:
    """Whatever holds the interpreter does not hold the process that watches it."""
    deaf = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]); tell('inside'); time.sleep(60)"
    with spawned(deadline=(0.3, True), inside=deaf) as process:
        assert process.end()[0] == -signal.SIGKILL


def test_7_a_boot_in_time() -> None:
    """Nothing happens when the deadline passes afterwards."""
    with spawned(deadline=(0.5, True)) as process:
        process.go_on()
        assert process.hear() == "free"
        time.sleep(0.6)
        process.go_on()
        assert process.end() == (0, "", "")
