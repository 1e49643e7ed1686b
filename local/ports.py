"""Picks free TCP ports on loopback."""

from __future__ import annotations

import random
import socket
from pathlib import Path
from typing import Final

LOOPBACK: Final = "127.0.0.1"
_LOWEST: Final = 10_240
_EPHEMERAL_RANGE: Final = Path("/proc/sys/net/ipv4/ip_local_port_range")


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on.

    They lie below the range from which the kernel serves outgoing connections: a client that keeps dialling a
    server which is being restarted could otherwise be given that very port and connect to itself. Somebody
    else may take one before it is used, so whoever starts a server must be ready to try again with others.

    Raises:
        RuntimeError: no free ports are left.
    """
    highest = int(_EPHEMERAL_RANGE.read_text().split()[0]) if _EPHEMERAL_RANGE.exists() else 32_768
    found: list[int] = []
    for port in random.sample(range(_LOWEST, highest), highest - _LOWEST):
        if len(found) == count:
            return found
        with socket.socket() as probe:
            # As servers do: otherwise connections of a former server that linger in TIME_WAIT count as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
            except OSError:
                continue
        found.append(port)
    raise RuntimeError(f"no {count} free ports between {_LOWEST} and {highest}; stop something that listens there")
