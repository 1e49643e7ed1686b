"""Stands in for `python -m worker` where a test is about what surrounds it; does as `STAND_IN` says.

`ready` serves `/healthz` until SIGTERM, with a heartbeat in Redis if it is told of one, but takes no job ·
`silent` has no heartbeat · `stubborn` does not even mind SIGTERM · `booting` never becomes ready ·
`exit-N` says so and ends with code N.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

import redis

from router_lambda.job import worker_key


class Health(BaseHTTPRequestHandler):
    """Answers every GET with the state."""

    def do_GET(self) -> None:
        """Answer."""
        state = "booting" if wish == "booting" else "ready"
        body = json.dumps({"state": state, "pid": os.getpid(), "model": os.environ["TLFIF_MODEL"]}).encode()
        self.send_response(200 if state == "ready" else 503)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def beat(url: str) -> None:
    """Tell the routers that a worker lives: at once, and from then on as often as a real one."""
    client = redis.Redis.from_url(url)
    heartbeat = json.dumps({"state": "ready", "running": 0, "slots": 4, "job_seconds": None})

    def once() -> None:
        client.set(worker_key(os.environ["TLFIF_WORKER_ID"]), heartbeat, ex=10)

    def forever() -> None:
        while True:
            time.sleep(3)
            once()

    once()
    threading.Thread(target=forever, daemon=True).start()


if __name__ == "__main__":
    wish = os.environ.get("STAND_IN", "ready")
    if wish.startswith("exit-"):
        sys.stdout.write(f"about to {wish}\n")
        sys.exit(int(wish.removeprefix("exit-")))
    if wish == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if wish not in {"booting", "silent"} and "TLFIF_REDIS_URL" in os.environ:
        beat(os.environ["TLFIF_REDIS_URL"])
    HTTPServer(("127.0.0.1", int(os.environ["TLFIF_HTTP_PORT"])), Health).serve_forever()
