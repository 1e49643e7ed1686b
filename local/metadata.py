"""EC2's instance metadata on loopback: IMDSv2 with the instance's id, and a Spot notice when somebody gives one."""

from __future__ import annotations

import json
import secrets
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self

from local.ports import LOOPBACK


class MetadataServer:
    """Serves in a thread of its own while entered. `url` is its address."""

    def __init__(self, instance_id: Callable[[], str] = lambda: "i-0") -> None:
        self._notice: dict[str, str] | None = None
        token, metadata = secrets.token_urlsafe(), self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                self._answer(200, token if self.path == "/latest/api/token" else "")

            def do_GET(self) -> None:
                notice = metadata._notice
                if self.headers["X-aws-ec2-metadata-token"] != token:
                    self._answer(401, "")
                elif self.path == "/latest/meta-data/instance-id":
                    self._answer(200, instance_id())
                elif self.path == "/latest/meta-data/spot/instance-action" and notice is not None:
                    self._answer(200, json.dumps(notice))
                else:
                    self._answer(404, "")

            def _answer(self, status: int, body: str) -> None:
                self.send_response(status)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        self._server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True)
        self.url = f"http://{LOOPBACK}:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def give_notice(self, action: str, time: str) -> None:
        """Say from now on that the instance will be stopped, terminated or hibernated, and when."""
        self._notice = {"action": action, "time": time}
