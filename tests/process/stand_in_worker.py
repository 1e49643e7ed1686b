"""Stands in for `python -m worker` where a test is about what surrounds it; does as `STAND_IN` says.

`ready` serves `/healthz` until SIGTERM · `stubborn` does not even mind SIGTERM ·
`booting` never becomes ready · `exit-N` says so and ends with code N.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


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


if __name__ == "__main__":
    wish = os.environ.get("STAND_IN", "ready")
    if wish.startswith("exit-"):
        sys.stdout.write(f"about to {wish}\n")
        sys.exit(int(wish.removeprefix("exit-")))
    if wish == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    HTTPServer(("127.0.0.1", int(os.environ["TLFIF_HTTP_PORT"])), Health).serve_forever()
