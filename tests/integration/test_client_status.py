"""`tlfif status`, and `tlfif infer` while a GPU wakes, as processes over real sockets and on real terminals."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from client.exits import ExitCode
from tests.client_service import JOB_ID, TOKEN, gpu, reply, screen
from tests.integration.client_world import PATIENCE_SECONDS, REPOSITORY, UNAUTHORIZED, Tlfif, World

FIRST_LINES = [f"tlfif: job {JOB_ID}", "tlfif: the GPU is starting, which takes about 90 s"]


class WakingWorld(World):
    """Serves `GET /status` as well: each of `statuses` once, the last one again; `None` never gets an answer."""

    def __init__(self, *statuses: dict[str, Any] | None) -> None:
        self.statuses = list(statuses)
        self.asked = 0
        super().__init__()
        self.accepted = {"status": "starting", "eta": 90}

    def start(self) -> None:
        """Listen, with one route more."""
        super().start()
        app = self._server.config.app
        assert isinstance(app, Starlette)
        app.router.routes.append(Route("/prod/status", self._status))

    async def _status(self, request: Request) -> Response:
        if not self._may_enter(request):
            return UNAUTHORIZED
        status = self.statuses[min(self.asked, len(self.statuses) - 1)]
        self.asked += 1
        if status is None:
            await request.body()
            await request.receive()  # until the client is gone
        return JSONResponse(status)


class Screen:
    """A terminal for one process, which has it for some of its streams."""

    def __init__(self, columns: int) -> None:
        self.written = ""
        self._master, self.slave = pty.openpty()
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))

    def close(self) -> None:
        """Give up both ends."""
        os.close(self._master)
        os.close(self.slave)

    @property
    def lines(self) -> list[str]:
        """What can be read now."""
        while select.select([self._master], [], [], 0)[0]:
            self.written += os.read(self._master, 4096).decode()
        return screen(self.written)

    def wait_for(self, pattern: str) -> None:
        """Wait until something like this has been shown."""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while not re.search(pattern, self.written) and time.monotonic() < ends_at:
            select.select([self._master], [], [], 0.1)
            _ = self.lines
        assert re.search(pattern, self.written)


@pytest.fixture
def terminal() -> Iterator[Screen]:
    """Yield a terminal of 60 columns."""
    terminal = Screen(60)
    yield terminal
    terminal.close()


@contextmanager
def on_terminal(world: World, terminal: Screen, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Yield a running `tlfif` with both output streams on this terminal."""
    with subprocess.Popen(
        [sys.executable, "-m", "client.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=terminal.slave,
        stderr=terminal.slave,
        cwd=REPOSITORY,
        env={"TLFIF_URL": world.url, "TLFIF_TOKEN": TOKEN, "PATH": os.environ["PATH"], "LANG": "C.UTF-8"},
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_infer_shows_the_phases_and_then_the_reply() -> None:
    """From the POST over two phases, 3 s apart, to the text; the exit code is the reply's."""
    phases = [gpu("starting", "instance", 61), gpu("booting", "engine", 20, problem="AWS was slow")]
    with WakingWorld(*phases) as world, Tlfif(world, "infer", "why?") as tlfif:
        assert tlfif.process.stderr is not None
        err = [tlfif.process.stderr.readline().decode() for _ in range(5)]
        world.put(reply("Blue", status="done"))
        code, out, receipt = tlfif.finish()

    assert (code, out) == (ExitCode.DONE, "Blue\n")
    assert [re.sub(r"\d+ s so far", "… so far", line).rstrip("\n") for line in err] == [
        *FIRST_LINES,
        "tlfif: the instance boots, … so far, about 61 s to go",
        "tlfif: vLLM loads the model, … so far, about 20 s to go",
        "tlfif: AWS was slow",
    ]
    assert receipt.startswith("tlfif: 4 tokens, first token after ")
    assert receipt.count("\n") == 1


def test_a_terminal_has_one_line_until_the_text_comes(terminal: Screen) -> None:
    """Cut to the width of the terminal, renewed each second, and gone when the reply begins."""
    with (
        WakingWorld(gpu("booting", "the worker copies many kernels", 61)) as world,
        on_terminal(world, terminal, "infer", "why?") as tlfif,
    ):
        terminal.wait_for(r"kernels, [2-9] s so far")
        *above, line = terminal.lines
        assert (above, len(line), line[-1]) == (FIRST_LINES, 59, "…")
        world.put(reply("Blue", status="done"))
        assert tlfif.wait(PATIENCE_SECONDS) == ExitCode.DONE

        *shown, receipt, rest = terminal.lines

    assert (shown, rest) == ([*FIRST_LINES, "Blue"], "")
    assert receipt.startswith("tlfif: 4 tokens, ")


def test_a_status_that_never_comes_holds_no_reply_up() -> None:
    """The text is there at once, and so is the end."""
    with WakingWorld(None) as world, Tlfif(world, "infer", "why?") as tlfif:
        world.await_looks(404, at_least=5)
        assert world.asked == 1
        world.put(reply("Bl"))
        tlfif.read(b"Bl")
        world.put(reply("Blue", status="done"))
        code, out, _ = tlfif.finish()

    assert (code, out) == (ExitCode.DONE, "ue\n")


def test_a_service_without_the_route_is_asked_once() -> None:
    """An older one answers 404, which nobody sees."""
    with World() as world, Tlfif(world, "infer", "why?") as tlfif:
        world.accepted = {"status": "starting", "eta": 90}
        world.await_looks(404, at_least=5)
        world.put(reply("Blue", status="done"))
        code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.DONE, "Blue\n")
    assert err.splitlines()[:-1] == FIRST_LINES


def test_status_prints_a_line() -> None:
    """Once, with the token, and with nothing on stderr."""
    with WakingWorld(gpu("ready", running=1, waiting=2)) as world:
        with Tlfif(world, "status") as tlfif:
            assert tlfif.finish() == (ExitCode.DONE, "ready: tiny, 1 job runs, 2 wait\n", "")
        with Tlfif(world, "status", token="wrong-token") as tlfif:
            code, out, err = tlfif.finish()

    assert (code, out) == (ExitCode.SERVICE, "")
    assert "401: send a valid token" in err


def test_watching_ends_with_the_gpu() -> None:
    """A line arrives when the state changes; `stopped` is the last."""
    with WakingWorld(gpu("stopping"), gpu("stopped")) as world, Tlfif(world, "status", "--watch") as tlfif:
        tlfif.read(b"stopping\n")
        assert tlfif.process.poll() is None
        assert tlfif.finish() == (ExitCode.DONE, "stopped\n", "")


def test_ctrl_c_ends_watching(terminal: Screen) -> None:
    """Code 130; the line stays as it was last."""
    status = gpu("ready", idle_seconds=252)
    with WakingWorld(status) as world, on_terminal(world, terminal, "status", "--watch") as tlfif:
        terminal.wait_for("stops in 4 min 12 s")
        tlfif.send_signal(signal.SIGINT)
        assert tlfif.wait(PATIENCE_SECONDS) == ExitCode.INTERRUPTED

    assert terminal.lines == ["ready: tiny, idle, stops in 4 min 12 s", "tlfif: interrupted", ""]
