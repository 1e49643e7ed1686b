"""Answers `/healthz` while the engine loads, which blocks the event loop for minutes and forks.

The engine's processes must not inherit a socket of the worker, so that a process of its own answers meanwhile. It is
forked, because it is needed at once and a new interpreter is not there at once.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Final, NoReturn

import structlog

from worker.parent_death import die_with

CLIENT_SECONDS: Final = 5.0
"""Longest time that a client may take over its request."""

# As in worker.http, which is not imported for it: its libraries would come along before the first answer.
_HOST: Final = "127.0.0.1"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

log = structlog.get_logger(__name__)


@contextmanager
def booting(port: int, state: Mapping[str, Any]) -> Iterator[None]:
    """Answer `GET /healthz` on 127.0.0.1 with a 503 while entered; SIGTERM and SIGINT end this process with code 0.

    The answer is `state` as JSON, with `state`, `reasons` and the `seconds` since the entry. Port 0 answers nobody.
    A port that is taken is not reported: who has to know tries it with `http.bind` first. Enter it in the main thread,
    since signal handlers can be set there alone, and while no other thread runs. Once it is left, the port is free.
    """
    with _stopping_at_once(), _answering(port, state):
        yield


@contextmanager
def _stopping_at_once() -> Iterator[None]:
    parent = os.getpid()

    def stop(number: int, _frame: FrameType | None) -> None:
        if os.getpid() != parent:  # the engine's processes inherit the handler
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        try:
            log.info("stopped while booting", signal=signal.Signals(number).name)
        finally:
            os._exit(0)

    previous = [(number, signal.signal(number, stop)) for number in _SIGNALS]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)


@contextmanager
def _answering(port: int, state: Mapping[str, Any]) -> Iterator[None]:
    if port == 0:
        yield
        return
    parent = os.getpid()
    began = time.monotonic()
    tie = die_with(parent)
    child = os.fork()
    if child == 0:
        _live_as_child(tie, port, lambda: _shown(state, time.monotonic() - began))
    try:
        yield
    finally:
        if os.getpid() == parent:  # a process that was forked meanwhile may leave by this way too
            # Whoever waits for any child of this process may have reaped it.
            with suppress(ProcessLookupError, ChildProcessError):
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)


def _shown(state: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    return {"state": "booting", "reasons": ["the engine loads"], **state, "seconds": round(seconds, 1)}


def _live_as_child(tie: Callable[[], None], port: int, shown: Callable[[], dict[str, Any]]) -> NoReturn:
    """Serve until killed; end at once if the port is taken."""
    try:
        tie()
        # Ctrl-C reaches the whole group; the parent decides what comes of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Not merely closed: the next thing to be opened would become standard input.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        _serve(port, shown)
    finally:
        os._exit(0)  # whatever happened, nothing of what the parent is about to do may happen here


def _serve(port: int, shown: Callable[[], dict[str, Any]]) -> None:
    from http.server import BaseHTTPRequestHandler  # noqa: PLC0415 - only the child needs it
    from socketserver import ThreadingTCPServer  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            found = self.path.partition("?")[0] == "/healthz"
            body = json.dumps(shown() if found else {"error": "not found"}).encode()
            self.send_response(503 if found else 404)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    class Server(ThreadingTCPServer):  # not HTTPServer, which asks the resolver for its own name
        allow_reuse_address = True
        daemon_threads = True  # a client that says nothing shall not keep others waiting

        def handle_error(self, *_: Any) -> None:
            """Log nothing of clients that leave early."""

    Server((_HOST, port), Handler).serve_forever()
