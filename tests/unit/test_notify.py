"""What the worker tells systemd, and that nothing goes wrong where there is none."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import anyio
import pytest

from worker.notify import Notifier

ANSWER_SECONDS = 5.0


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[socket.socket]:
    """Yield the socket that systemd would listen on, as a file and in the abstract namespace."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify") if request.param == "path" else f"\0tl-fif-test-{uuid4()}")
        listening.settimeout(ANSWER_SECONDS)
        yield listening


def environment(listening: socket.socket, **more: str) -> dict[str, str]:
    """Return what systemd would set."""
    name = os.fsdecode(listening.getsockname())
    return {"NOTIFY_SOCKET": name.replace("\0", "@"), **more}


def received(listening: socket.socket) -> list[bytes]:
    """Return the messages that have not been read, and wait for none."""
    messages = []
    listening.settimeout(0)
    with suppress(BlockingIOError):
        while True:
            messages.append(listening.recv(4_096))
    return messages


def open_files() -> list[str]:
    """List the file descriptors of this process."""
    return os.listdir("/proc/self/fd")  # noqa: PTH208 - names, not paths


def test_messages_are_sd_notify_s(manager: socket.socket) -> None:
    """Each is one datagram, readiness and its status in the same one."""
    notifier = Notifier.from_environment(environment(manager))
    notifier.status("loads the model")
    notifier.ready("waits for jobs")
    notifier.stopping()

    assert received(manager) == [b"STATUS=loads the model", b"READY=1\nSTATUS=waits for jobs", b"STOPPING=1"]


def test_a_status_stays_one_line(manager: socket.socket) -> None:
    """Or what it quotes could say `STOPPING=1`; and what is no Unicode does no harm."""
    Notifier.from_environment(environment(manager)).status("ä\nSTOPPING=1\r\nb\udcff")

    assert received(manager) == ["STATUS=ä STOPPING=1 b\\udcff".encode()]


def test_no_socket_stays_open(manager: socket.socket) -> None:
    """The engine's processes are forked and would inherit it."""
    notifier = Notifier.from_environment(environment(manager))
    before = open_files()
    notifier.ready("waits for jobs")

    assert open_files() == before


@pytest.mark.parametrize("name", [None, "", "relative", "vsock:2:1234", "/nowhere/notify", "@nobody", "/" + "x" * 200])
async def test_without_a_manager_nothing_happens(name: str | None) -> None:
    """Whether nothing is set, something unknown, or a socket that is not there."""
    notifier = Notifier.from_environment({} if name is None else {"NOTIFY_SOCKET": name})
    notifier.status("loads the model")
    notifier.ready("waits for jobs")
    notifier.stopping()
    with anyio.fail_after(ANSWER_SECONDS):
        await notifier.feed_watchdog()


def test_a_manager_that_reads_nothing_holds_nobody_up(manager: socket.socket) -> None:
    """Once its socket is full, messages are dropped."""
    notifier = Notifier.from_environment(environment(manager))
    began = time.monotonic()
    for _ in range(2_000):
        notifier.status("x" * 1_000)

    assert time.monotonic() - began < ANSWER_SECONDS
    assert 0 < len(received(manager)) < 2_000


@pytest.mark.parametrize("pid", [None, str(os.getpid())])
async def test_the_watchdog_is_fed_twice_in_its_time(manager: socket.socket, pid: str | None) -> None:
    """At once, and from then on, until cancelled."""
    wanted = {"WATCHDOG_USEC": "20000"} | ({} if pid is None else {"WATCHDOG_PID": pid})
    notifier = Notifier.from_environment(environment(manager, **wanted))
    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(notifier.feed_watchdog)
        for _ in range(4):
            assert await anyio.to_thread.run_sync(manager.recv, 4_096) == b"WATCHDOG=1"
        tasks.cancel_scope.cancel()

    assert time.monotonic() - began >= 3 * 0.01


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": ""},
        {"WATCHDOG_USEC": "-5"},
        {"WATCHDOG_USEC": "soon"},
        {"WATCHDOG_USEC": "²"},
        {"WATCHDOG_USEC": "9" * 5_000},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "1"},
        {"WATCHDOG_USEC": "20000", "WATCHDOG_PID": "me"},
    ],
)
async def test_no_watchdog_is_fed(manager: socket.socket, wanted: dict[str, str]) -> None:
    """Where there is none, it is malformed, or it watches another process."""
    with anyio.fail_after(ANSWER_SECONDS):
        await Notifier.from_environment(environment(manager, **wanted)).feed_watchdog()

    assert received(manager) == []
