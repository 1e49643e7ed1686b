"""Answers `/healthz` and `/v1` while the engine loads, and watches the time.

Loading blocks the event loop for minutes, and forks. The engine's processes must not inherit a socket of the worker,
and an import that hangs lets no thread run, so that a process of its own does both meanwhile. It is forked, because it
is needed at once and a new interpreter is not there at once.
"""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from types import FrameType
from typing import Any, Final, NoReturn

import structlog

from worker.parent_death import die_with

CLIENT_SECONDS: Final = 5.0
"""Longest time that a client may take over its request."""

# As in worker.http, which is not imported for it: its libraries would come along before the first answer.
_HOST: Final = "127.0.0.1"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_RETRY_SECONDS: Final = 5
_MOST_READ: Final = 1_048_576
_NOT_YET: Final = {
    "error": {
        "message": "the engine loads; come again in a few seconds",
        "type": "server_error",
        "param": None,
        "code": "booting",
    }
}
"""What `/v1` answers, in the words of OpenAI's API."""

log = structlog.get_logger(__name__)


GIVE_UP_SECONDS: Final = 5.0
"""Time that a process which does not come up gets to end after SIGTERM."""


@dataclass(frozen=True, slots=True)
class Deadline:
    """What to do if the engine has not loaded after so many seconds.

    `give_up` runs in the other process and returns whether it stopped the machine. Then this process is told to end;
    if not, it is killed, which a supervisor takes for the failure that it is.
    """

    seconds: float
    give_up: Callable[[], bool]


@contextmanager
def booting(port: int, state: Mapping[str, Any], deadline: Deadline) -> Iterator[None]:
    """Answer `/healthz` and `/v1` on 127.0.0.1 with a 503 while entered; SIGTERM and SIGINT end this process, code 0.

    What `/healthz` answers is `state` as JSON, with `state`, `reasons` and the `seconds` since the entry. Port 0
    answers nobody. A port that is taken is not reported: who has to know tries it with `http.bind` first. Enter it in
    the main thread, since signal handlers can be set there alone, and while no other thread runs. Once it is left, the
    port is free.
    """
    with _stopping_at_once(), _accompanied(port, state, deadline):
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
def _accompanied(port: int, state: Mapping[str, Any], deadline: Deadline) -> Iterator[None]:
    parent = os.getpid()
    began = time.monotonic()
    tie = die_with(parent)
    child = os.fork()
    if child == 0:
        _live_as_child(tie, port, lambda: _shown(state, time.monotonic() - began), lambda: _watch(parent, deadline))
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


def _watch(parent: int, deadline: Deadline) -> None:
    time.sleep(deadline.seconds)
    log.error("not ready in time", seconds=round(deadline.seconds, 1))
    if deadline.give_up():
        os.kill(parent, signal.SIGTERM)
        time.sleep(GIVE_UP_SECONDS)  # what hangs may not get to its signal handler
    os.kill(parent, signal.SIGKILL)


def _live_as_child(
    tie: Callable[[], None], port: int, shown: Callable[[], dict[str, Any]], watch: Callable[[], None]
) -> NoReturn:
    """Watch the time and serve until killed."""
    try:
        tie()
        # Ctrl-C reaches the whole group; the parent decides what comes of it.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        # Not merely closed: the next thing to be opened would become standard input.
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        threading.Thread(target=watch, name="boot deadline", daemon=True).start()
        if port:
            with suppress(OSError):  # taken, by whoever came in between; the worker will say so
                _serve(port, shown)
        threading.Event().wait()
    finally:
        os._exit(0)  # whatever happened, nothing of what the parent is about to do may happen here


def _serve(port: int, shown: Callable[[], dict[str, Any]]) -> None:
    from http.server import BaseHTTPRequestHandler  # noqa: PLC0415 - only the child needs it
    from socketserver import ThreadingTCPServer  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        timeout = CLIENT_SECONDS

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/healthz":
                self._answer(503, shown())
            elif path.startswith("/v1/"):
                self._answer(503, _NOT_YET)
            else:
                self._answer(404, {"error": "not found"})

        def do_POST(self) -> None:
            # Else the connection would be reset under the answer, for what was sent and not read.
            length = self.headers.get("content-length", "0")
            self.rfile.read(min(int(length), _MOST_READ) if length.isdecimal() else 0)
            self.do_GET()

        def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            if status == 503:  # noqa: PLR2004 - not yet
                self.send_header("retry-after", str(_RETRY_SECONDS))
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
