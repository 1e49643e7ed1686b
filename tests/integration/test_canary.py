"""The canary over HTTP: before the real router, and before servers that answer in every other way."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from local.gateway import Handler
from local.ports import free_ports
from router_lambda import canary as module
from router_lambda import fetch
from router_lambda.canary import Canary
from tests.integration.api_world import ENVIRONMENT, api, letting_in

Answer = Callable[[BaseHTTPRequestHandler], None]


def plain(status: int, body: bytes, **headers: str) -> Answer:
    """Return an answer of that status and body; `_` in a header's name stands for `-`."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in headers.items():
            request.send_header(name.replace("_", "-"), value)
        request.send_header("content-length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)

    return send


@contextmanager
def serving(answer: Answer) -> Iterator[tuple[str, list[str]]]:
    """Answer every GET in one way; yield the address and the paths that were asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            answer(self)

        def log_message(self, *_: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", asked
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Set what signing wants, and forget what the entry point built, before and after."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    module._canary.cache_clear()
    yield
    module._canary.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_the_router_is_in_good_health(
    redis_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its entry point, in words that are the router's own; until one of its routes fails."""
    broken = set[str]()

    def breaking(router: Handler) -> Handler:
        def answer(event: dict[str, Any], context: object) -> dict[str, Any]:
            return router(event | {"rawPath": "/away"} if event["rawPath"] in broken else event, context)

        return answer

    with api(redis_url, letting_in(lambda: "ann"), breaking) as url:
        monkeypatch.setenv("TLFIF_URL", f"{url}/")
        assert module.handler({}, None) == {"PingFailures": 0, "QueueHealthFailures": 0}
        samples = [json.loads(line) for line in capsys.readouterr().out.splitlines() if '"canary"' in line]
        assert [(each["path"], each["status"]) for each in samples] == [("/ping", 200), ("/queue-health", 200)]
        assert json.loads(samples[0]["body"]) == {"status": "ok"}
        assert json.loads(samples[1]["body"]).keys() == {"redis", "latencyMs"}

        broken.add("/queue-health")
        assert module.handler({}, None) == {"PingFailures": 0, "QueueHealthFailures": 1}
        broken.add("/ping")
        assert module.handler({}, None) == {"PingFailures": 1, "QueueHealthFailures": 1}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (plain(503, b'{"status": 503}'), None),
        (plain(200, b'{"status": "ill"}'), None),
        (lambda request: request.wfile.write(b"no HTTP\r\n\r\n"), "BadStatusLine"),
        (lambda request: request.close_connection, "RemoteDisconnected"),
        (plain(200, b'{"status": "ok"', content_length="200"), None),
    ],
)
def test_other_answers_are_failures(answer: Answer, reason: str | None, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever is wrong with them."""
    with serving(answer) as (url, asked):
        assert Canary(url).look() == {"PingFailures": 1, "QueueHealthFailures": 1}
    assert asked == ["/ping", "/queue-health"]
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (first["reason"] is None) if reason is None else first["reason"].startswith(reason)


def test_no_redirect_is_followed() -> None:
    """Not even to an answer that would do."""
    with (
        serving(plain(200, b'{"status": "ok"}')) as (elsewhere, asked),
        serving(plain(302, b'{"status": "ok"}', location=f"{elsewhere}/ping")) as (url, _),
    ):
        assert Canary(url).look()["PingFailures"] == 1
    assert asked == []


def test_nobody_there_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    """At once."""
    (port,) = free_ports(1)
    assert Canary(f"http://127.0.0.1:{port}").look() == {"PingFailures": 1, "QueueHealthFailures": 1}
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["reason"].startswith("ConnectionRefusedError")


def test_a_server_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the time that is set."""
    monkeypatch.setattr(module, "SLOWEST_SECONDS", 0.2)
    over = threading.Event()

    def hang(_: object) -> None:
        over.wait()

    with serving(hang) as (url, asked):
        assert Canary(url).look() == {"PingFailures": 1, "QueueHealthFailures": 1}
        over.set()
    assert len(asked) == 2


@pytest.mark.parametrize("url", ["https://", "http:///ping", "http://host:port/", "http://[", "ping"])
def test_an_address_that_is_none_is_a_failure_too(url: str) -> None:
    """Of the GET, whoever asks."""
    with pytest.raises(fetch.GetFailed):
        fetch.get(url, 1.0, 100)


def test_a_certificate_of_nobody_we_know_is_a_failure() -> None:
    """What speaks no TLS neither."""
    with serving(plain(200, b'{"status": "ok"}')) as (url, _), pytest.raises(fetch.GetFailed, match="SSLError"):
        fetch.get(url.replace("http://", "https://"), 1.0, 100)


def test_no_more_is_read_than_is_wanted() -> None:
    """However much there is."""
    with serving(plain(200, b"x" * 1_000_000)) as (url, _):
        assert fetch.get(url, 1.0, 100) == fetch.Answer(200, b"x" * 100)
