"""The Postman collection, run by newman against the local gateway with the true authorizer and a JWKS endpoint."""

from __future__ import annotations

import http.server
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from router_lambda import authorizer
from tests.integration.api_world import ENVIRONMENT, api
from tests.tokens import AUDIENCE, ISSUER, jwk_set, signer

ROOT: Final = Path(__file__).parents[2]
COLLECTION: Final = ROOT / "docs" / "postman" / "tl-fif.postman_collection.json"
NPM: Final = ROOT / ".ci" / "npm"
REQUESTS: Final = 7
TESTS: Final = 15


@contextmanager
def jwks_endpoint() -> Iterator[str]:
    """Publish the tests' key on loopback."""

    class Published(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(jwk_set(signer()))

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with http.server.HTTPServer(("127.0.0.1", 0), Published) as server:
        thread = threading.Thread(target=server.serve_forever, name="jwks")
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/jwks.json"
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch, redis_url: str) -> Iterator[str]:
    """Serve the API behind an authorizer that has forgotten the tests before."""
    with jwks_endpoint() as jwks_url:
        trusted = {"TLFIF_JWKS_URL": jwks_url, "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
        for name, value in (ENVIRONMENT | trusted).items():
            monkeypatch.setenv(name, value)
        monkeypatch.delenv("TL_DISABLE_JWT", raising=False)
        authorizer._verifier.cache_clear()
        with api(redis_url, authorizer.handler) as served:
            yield served
        authorizer._verifier.cache_clear()


def newman(url: str, folder: Path, token: str, expired: str) -> dict[str, Any]:
    """Run the collection and return newman's summary; skip where there is no npm to get it by."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; the Postman collection goes unchecked")
    subprocess.run([NPM / "install"], check=True)
    report = folder / "report.json"
    variables = {"url": url, "token": token, "expired_token": expired}
    options = [word for name, value in variables.items() for word in ("--env-var", f"{name}={value}")]
    reporter: list[str | Path] = ["--reporters", "json", "--reporter-json-export", report]
    subprocess.run([NPM / "node_modules/.bin/newman", "run", COLLECTION, *options, *reporter], check=False)
    summary: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))["run"]
    return summary


def failures(summary: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the names of the requests and tests that failed."""
    return [(each["source"]["name"], each["error"]["test"]) for each in summary["failures"]]


def test_collection_passes(url: str, tmp_path: Path) -> None:
    """The happy path, the negative cases, status and ping."""
    now = int(time.time())
    token = signer().access(iat=now, exp=now + 3_600)
    summary = newman(url, tmp_path, token, signer().access(iat=now - 7_200, exp=now - 3_600))

    assert failures(summary) == []
    assert summary["stats"]["requests"]["total"] == REQUESTS
    assert summary["stats"]["assertions"]["total"] == TESTS


def test_collection_can_fail(url: str, tmp_path: Path) -> None:
    """With the two tokens the wrong way round, what needs them does not pass."""
    now = int(time.time())
    good, expired = signer().access(iat=now, exp=now + 3_600), signer().access(iat=now - 7_200, exp=now - 3_600)
    failed = failures(newman(url, tmp_path, expired, good))

    with_token = {"a prompt is queued", "a bad body", "the GPU's status"}
    assert {request for request, _ in failed} == with_token | {"with an expired token"}
