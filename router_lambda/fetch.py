"""A GET of what somebody publishes, by the standard library alone."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from urllib.parse import urlsplit

from router_lambda import web


class GetFailed(Exception):
    """There was no answer, or not in time; the message says what happened, in a few words."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said: its status and the beginning of its body."""

    status: int
    body: bytes


def get(url: str, seconds: float, most_bytes: int) -> Answer:
    """Ask for what lies at an `http` or `https` address, and follow no redirect.

    No step takes longer than `seconds`: the connection, the TLS handshake, each piece of the answer. The whole may.

    Raises:
        GetFailed: no address, no connection, a wrong certificate, no HTTP, or too slow.
    """
    from http.client import HTTPException  # noqa: PLC0415 - see `router_lambda.web`

    try:
        parts = urlsplit(url)
        with closing(web.connection(parts, seconds)) as opened:
            opened.request("GET", web.target(parts), headers={"user-agent": "tl-fif"})
            with opened.getresponse() as response:
                return Answer(response.status, response.read(most_bytes))
    except (OSError, ValueError, HTTPException) as error:
        raise GetFailed(f"{type(error).__name__}: {error}") from error
