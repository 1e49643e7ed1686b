"""Tells systemd how this worker is, by the protocol of sd_notify(3); where no systemd asks for it, nothing happens.

A message is one datagram of `NAME=value` lines to the Unix socket that `NOTIFY_SOCKET` names; `WATCHDOG_USEC` asks for
a sign of life at least as often (sd_watchdog_enabled(3)).
"""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from typing import Self

import anyio


class Notifier:
    """Sends messages to the service manager; never waits, never raises, and keeps no socket that a fork could inherit.

    `address` is where to, empty for nowhere; `watchdog_seconds` is the longest silence that the manager bears after
    `ready`, 0 for any.
    """

    def __init__(self, address: bytes = b"", watchdog_seconds: float = 0.0) -> None:
        self._address = address
        self._watchdog_seconds = watchdog_seconds

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read what systemd set for this process; what is malformed or meant for another process counts as not set."""
        name = environment.get("NOTIFY_SOCKET", "")
        if not name.startswith(("/", "@")):  # sd_notify(3) also knows vsock, which reaches out of a virtual machine
            return cls()
        address = os.fsencode(name)
        if name.startswith("@"):  # stands for the NUL byte of the abstract namespace, unix(7)
            address = b"\0" + address[1:]
        return cls(address, _watchdog_seconds(environment))

    def ready(self, status: str) -> None:
        """Say that the start is complete, and in one line what this worker does now; the watchdog begins to count."""
        self._send("READY=1", f"STATUS={_one_line(status)}")

    def status(self, text: str) -> None:
        """Say in one line what this worker does now; `systemctl status` shows it."""
        self._send(f"STATUS={_one_line(text)}")

    def stopping(self) -> None:
        """Say that this worker ends; systemd kills it if it is still there after its stop timeout."""
        self._send("STOPPING=1")

    async def feed_watchdog(self) -> None:
        """Give a sign of life twice in the time that the watchdog waits, until cancelled; return at once without one.

        It comes from the event loop, so a worker whose loop stands still is started anew.
        """
        if not self._watchdog_seconds:
            return
        while True:
            self._send("WATCHDOG=1")
            await anyio.sleep(self._watchdog_seconds / 2)

    def _send(self, *lines: str) -> None:
        """Send one message; a manager that is gone or too busy goes without it."""
        if not self._address:
            return
        message = "\n".join(lines).encode(errors="backslashreplace")
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.sendto(message, socket.MSG_DONTWAIT, self._address)


def _watchdog_seconds(environment: Mapping[str, str]) -> float:
    """Return the time that the watchdog waits, 0 where there is none for this process."""
    if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return 0.0
    microseconds = re.fullmatch(r"[0-9]{1,18}", environment.get("WATCHDOG_USEC", ""))
    return int(microseconds[0]) / 1e6 if microseconds else 0.0


def _one_line(text: str) -> str:
    """Return the text as one line, for a line break would begin another assignment."""
    return " ".join(text.splitlines())
