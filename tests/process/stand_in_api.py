"""What stands in for the worker's HTTP behind nginx: it says what it was asked, and streams when it is told to."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from local.ports import LOOPBACK

EVENTS = 5
"""Length of a stream."""


class StandInApi(ThreadingHTTPServer):
    """Runs while entered.

    Attributes:
        seen: the first lines of all requests.
        next_event: a stream sends one event for each release.
        started: a stream has begun, or a request that is never answered has come.
        left: the client of a stream has gone.
    """

    request_queue_size = 128
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Handler)
        self.seen: list[str] = []
        self.next_event = threading.Semaphore(0)
        self.started, self.left = threading.Event(), threading.Event()

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.02,), name="stand-in", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: StandInApi

    def do_GET(self) -> None:
        self.server.seen.append(self.requestline)
        self._say(HTTPStatus.OK, {"headers": self.headers.items()})

    def do_POST(self) -> None:
        self.server.seen.append(self.requestline)
        # nginx has read the body whole and knows its length.
        body = self.rfile.read(int(self.headers["content-length"]))
        path = self.path.partition("?")[0]
        if path == "/v1/chat/completions":
            self._stream()
        elif path == "/v1/busy":
            self._say(HTTPStatus.SERVICE_UNAVAILABLE, {"busy": True}, ("Retry-After", "42"))
        elif path == "/v1/silent":
            self.server.started.set()
            self._until_told()
        elif path == "/v1/broken":
            self._begin()
            self._chunk(b"data: 0\n\n")
            self.close_connection = True
        else:
            self._say(HTTPStatus.OK, {"received": len(body)})

    def _say(self, status: HTTPStatus, content: dict[str, Any], *headers: tuple[str, str]) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        for header in (*headers, ("Content-Length", str(len(body))), ("X-Request-Id", "the worker's")):
            self.send_header(*header)
        self.end_headers()
        self.wfile.write(body)

    def _stream(self) -> None:
        self._begin()
        self.server.started.set()
        for number in range(EVENTS):
            if not self._until_told():
                return
            self._chunk(f"data: {number}\n\n".encode())
        self._chunk(b"")

    def _begin(self) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()

    def _chunk(self, content: bytes) -> None:
        self.wfile.write(b"%x\r\n%s\r\n" % (len(content), content))

    def _until_told(self) -> bool:
        """Wait for leave to go on; `False` if the client goes first."""
        while not self.server.next_event.acquire(timeout=0.02):
            with suppress(BlockingIOError):
                if self.connection.recv(1, socket.MSG_DONTWAIT) == b"":
                    self.server.left.set()
                    self.close_connection = True
                    return False
        return True

    def log_message(self, *_: object) -> None:
        """Say nothing."""
