"""Connections to HTTP servers, by the standard library alone."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import SplitResult

if TYPE_CHECKING:
    from http.client import HTTPConnection


def connection(parts: SplitResult, seconds: float) -> HTTPConnection:
    """Return a connection to an `http` or `https` address, not opened yet; no step of it takes longer than `seconds`.

    Raises:
        ValueError, http.client.HTTPException: that is no address.
    """
    from http.client import HTTPConnection, HTTPSConnection  # noqa: PLC0415 - few invocations need it; it loads `email`

    if not parts.hostname:  # http.client would take the loopback address
        raise ValueError("no host")
    if parts.scheme == "https":
        from ssl import create_default_context  # noqa: PLC0415 - as http.client

        return HTTPSConnection(parts.hostname, parts.port, timeout=seconds, context=create_default_context())
    return HTTPConnection(parts.hostname, parts.port, timeout=seconds)


def target(parts: SplitResult) -> str:
    """Return what is asked for at an address: its path and query."""
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
