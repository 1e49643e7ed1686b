"""The real nginx with the node's configuration: how large, how slow, how often and how many requests may be."""

from __future__ import annotations

import socket
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import httpx
import pytest

from ami.pair import Pair
from tests.process.nginx_world import FOREVER, NginxProcess, assert_refused, running_nginx, spoken
from tests.process.stand_in_api import StandInApi
from worker.exchange import BODY_BYTES

CONNECTIONS = 64
"""Requests at once from one address."""

BURST = 64
"""Requests in a row from one address."""

IMPATIENT = {
    "client_header_timeout 10s": "client_header_timeout 1s",
    "client_body_timeout 10s": "client_body_timeout 1s",
}

HELLO = b"POST /v1/x HTTP/1.1\r\nHost: localhost\r\n"


@pytest.mark.parametrize("chunked", [False, True])
def test_a_request_may_have_a_mebibyte(nginx: NginxProcess, api: StandInApi, chunked: bool) -> None:  # noqa: FBT001
    """As much as the worker takes, in one piece or in many small ones; one byte more never reaches it."""

    def send(count: int) -> httpx.Response:
        pieces = iter([b"x" * 1024] * (count // 1024) + [b"x" * (count % 1024)])
        with nginx.client() as client:
            return client.post("/v1/large", content=pieces if chunked else b"x" * count)

    assert send(BODY_BYTES).json() == {"received": BODY_BYTES}
    assert_refused(send(BODY_BYTES + 1), 413, "too_long")
    assert len(api.seen) == 1


@pytest.mark.parametrize(
    "beginning", [b"", HELLO, HELLO + b"Content-Length: 9\r\n\r\n{"], ids=["nothing", "headers", "body"]
)
def test_a_slow_client_is_cut(pair: Pair, api: StandInApi, beginning: bytes) -> None:
    """After its time, here one second; the worker never hears of it."""
    with running_nginx(pair, api.server_port, IMPATIENT) as nginx, nginx.connection() as connection:
        began = time.monotonic()
        connection.sendall(beginning)
        is_cut(connection)
        assert 0.9 < time.monotonic() - began < 8
    assert api.seen == []


def test_headers_one_by_one_win_no_time(pair: Pair, api: StandInApi) -> None:
    """All of them have to come within the time."""
    with running_nginx(pair, api.server_port, IMPATIENT) as nginx, nginx.connection() as connection:
        began = time.monotonic()
        connection.sendall(HELLO)
        connection.settimeout(0.2)
        while not is_cut(connection):
            connection.sendall(b"X: y\r\n")
        assert 0.9 < time.monotonic() - began < 8
    assert api.seen == []


def is_cut(connection: ssl.SSLSocket) -> bool:
    """Read until the other side closes, or the connection's time for reading is over."""
    try:
        while connection.recv(65_536):
            pass
    except TimeoutError:
        return False
    except (ConnectionError, ssl.SSLError):
        pass
    return True


def test_a_client_that_does_not_begin_with_tls_is_cut(pair: Pair, api: StandInApi) -> None:
    """A connection alone costs nothing for long."""
    with (
        running_nginx(pair, api.server_port, IMPATIENT) as nginx,
        socket.create_connection(("127.0.0.1", nginx.port), timeout=5) as plain,
    ):
        assert plain.recv(1) == b""


def test_requests_come_at_a_bounded_rate(pair: Pair, api: StandInApi) -> None:
    """A burst is served; who goes on like that is told to wait. Here one a second counts as that, not twenty."""
    with running_nginx(pair, api.server_port, {"rate=20r/s": "rate=1r/s"}) as nginx, nginx.client() as client:
        answers = [client.get("/v1/models") for _ in range(BURST + 30)]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert 0 < len(refused) <= 30
    for answer in refused:
        assert_refused(answer, 429, "too_many_requests")
        assert answer.headers["retry-after"] == "1"


def test_requests_at_once_are_bounded(nginx: NginxProcess, api: StandInApi) -> None:
    """As many as the worker runs; one more is refused and holds up nobody."""
    with ExitStack() as stack:
        clients = [stack.enter_context(nginx.client()) for _ in range(CONNECTIONS + 1)]
        with ThreadPoolExecutor(CONNECTIONS) as pool:
            ask = [client.build_request("POST", "/v1/chat/completions", json={}) for client in clients]
            running = list(pool.map(lambda each: each[0].send(each[1], stream=True), zip(clients, ask, strict=True)))
        refused = [answer for answer in running if answer.status_code != 200]
        for answer in refused:
            answer.read()
            assert_refused(answer, 429, "too_many_requests")
        assert len(refused) == 1


def test_what_is_no_https_is_told_so(nginx: NginxProcess) -> None:
    """In words; without the promise of HSTS, which counts over TLS alone."""
    answer = httpx.get(nginx.url.replace("https", "http"))
    assert answer.status_code == 400
    assert "https://" in answer.json()["error"]["message"]
    assert "strict-transport-security" not in answer.headers


@pytest.mark.parametrize(
    ("said", "status"),
    [
        (b"GARBAGE\r\n\r\n", 400),
        (b"TRACE /v1/x HTTP/1.1\r\nHost: x\r\n\r\n", 405),
        (b"GET /v1/" + b"a" * 9_000, 414),
        (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 9_000, 400),
        (b"GET / HTTP/3.0\r\n\r\n", 505),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n0\r\n\r\n", 400),
    ],
    ids=["garbage", "method", "long address", "long header", "version", "encoding", "two lengths"],
)
def test_what_nginx_cannot_read_is_refused_in_json_too(nginx: NginxProcess, said: bytes, status: int) -> None:
    """With HSTS, as every answer."""
    head, body = spoken(nginx, said)
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert FOREVER.encode() in head
    assert body["error"]["type"] == ("server_error" if status >= 500 else "invalid_request_error")
