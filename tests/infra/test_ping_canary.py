"""The script that CloudWatch Synthetics runs, as it stands in Terraform."""

from __future__ import annotations

import runpy
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from tests.infra.terraform_world import FOLDER

SCRIPT = FOLDER / "modules" / "observability" / "ping_canary.py"


class Api(HTTPServer):
    """Answers every request with `status` and `body`."""

    status = 200
    body = b'{"status": "ok"}'


class Answer(BaseHTTPRequestHandler):
    """One answer."""

    server: Api

    def do_GET(self) -> None:
        """Give it."""
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as the library names it
        """Keep quiet."""


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Iterator[Api]:
    """Run an API on loopback, to which PING_URL leads."""
    with Api(("127.0.0.1", 0), Answer) as server:
        monkeypatch.setenv("PING_URL", f"http://127.0.0.1:{server.server_port}/ping")
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def run() -> str:
    """Run the script as Synthetics does: a function of a file, with an event and a context."""
    said: str = runpy.run_path(str(SCRIPT))["handler"]({}, None)
    return said


def test_passes_what_is_well(api: Api) -> None:
    """The answer that the router gives."""
    assert run() == "ok"


@pytest.mark.parametrize(
    ("status", "body"),
    [(503, b'{"status": "ok"}'), (200, b'{"status": "degraded"}'), (200, b"<html>"), (200, b"")],
    ids=["status", "says otherwise", "no JSON", "nothing"],
)
def test_fails_what_is_not(api: Api, status: int, body: bytes) -> None:
    """Synthetics takes an exception for a failed run."""
    api.status, api.body = status, body
    with pytest.raises((OSError, ValueError)):
        run()


def test_fails_if_nobody_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port on which nobody listens."""
    monkeypatch.setenv("PING_URL", "http://127.0.0.1:1/ping")
    with pytest.raises(OSError, match="refused"):
        run()
