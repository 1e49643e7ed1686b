"""The real nginx with the node's configuration: what passes, how it streams, and what it says without a worker."""

from __future__ import annotations

import httpx
import pytest

from ami.pair import Pair
from local.ports import free_ports
from tests.process.nginx_world import FOREVER, NginxProcess, assert_refused, running_nginx, spoken
from tests.process.stand_in_api import EVENTS, StandInApi


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/metrics", "/healthz", "/v1", "/V1/models", "/refused"),
        *("/v1/../metrics", "/v1/%2e%2e/metrics", "/v1/..%2fhealthz"),
        *("//v1/models", "/./v1/models", "/metrics/../v1/models", "/healthz%3f/../v1/models"),
    ],
)
def test_only_v1_passes(nginx: NginxProcess, api: StandInApi, path: str) -> None:
    """By whatever way round; the worker's own pages are for loopback."""
    head, body = spoken(nginx, f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
    assert head.startswith(b"HTTP/1.1 404 ")
    assert FOREVER.encode() in head
    assert body["error"]["code"] == "not_found"
    assert api.seen == []


def test_the_worker_hears_what_nginx_says_of_a_client(nginx: NginxProcess) -> None:
    """The key comes through; where the client is from is not his to say, nor the request's id."""
    spoofed = {
        "X-Forwarded-For": "10.0.0.1",
        "X-Forwarded-Host": "evil",
        "X-Forwarded-Port": "1",
        "X-Forwarded-Proto": "http",
        "X-Real-IP": "10.0.0.1",
        "Forwarded": "for=10.0.0.1",
        "X-Request-Id": "mine",
        "Host": "evil",
        "Connection": "upgrade",
        "Upgrade": "websocket",
    }
    with nginx.client() as client:
        answer = client.get("/v1/models", headers={**spoofed, "Authorization": "Bearer key"})
    heard = {name.lower(): value for name, value in answer.json()["headers"]}
    ours = {name: heard.pop(name) for name in ("x-forwarded-for", "x-forwarded-proto", "x-request-id", "host")}
    assert ours["x-forwarded-for"] == "127.0.0.1"
    assert ours["x-forwarded-proto"] == "https"
    assert ours["host"] == "worker"
    assert answer.headers.get_list("x-request-id") == [ours["x-request-id"]]
    assert ours["x-request-id"] != "mine"
    assert heard["authorization"] == "Bearer key"
    assert heard.keys().isdisjoint(name.lower() for name in spoofed)


def test_the_worker_s_own_refusals_come_through(nginx: NginxProcess) -> None:
    """With their words, and one Retry-After."""
    with nginx.client() as client:
        answer = client.post("/v1/busy", json={})
    assert (answer.status_code, answer.json()) == (503, {"busy": True})
    assert answer.headers.get_list("retry-after") == ["42"]
    assert answer.headers["strict-transport-security"] == FOREVER


def test_connections_to_the_worker_are_kept(nginx: NginxProcess, api: StandInApi) -> None:
    """Ten requests, hardly more connections than nginx has processes."""
    accepted: list[object] = []
    accept = api.get_request
    api.get_request = lambda: accepted.append(1) or accept()  # type: ignore[func-returns-value, method-assign]
    with nginx.client() as client:
        for _ in range(10):
            assert client.get("/v1/models").status_code == 200
    assert 1 <= len(accepted) <= 2


# Streams


def stream(nginx: NginxProcess, api: StandInApi) -> list[str]:
    """Read a stream whose next event is sent only once the one before it was read."""
    seen = []
    with nginx.client(timeout=2) as client, client.stream("POST", "/v1/chat/completions", json={}) as answer:
        api.next_event.release()
        for line in answer.iter_lines():
            if line:
                seen.append(line)
                api.next_event.release()
    return seen


def test_every_token_comes_at_once(nginx: NginxProcess, api: StandInApi) -> None:
    """Each event before the next one is made."""
    assert stream(nginx, api) == [f"data: {number}" for number in range(EVENTS)]


def test_a_buffer_would_be_noticed(pair: Pair, api: StandInApi) -> None:
    """With nginx's default the first event never comes."""
    planted = {"proxy_buffering off;": "proxy_buffering on;"}
    with running_nginx(pair, api.server_port, planted) as nginx, pytest.raises(httpx.ReadTimeout):
        stream(nginx, api)


def test_a_client_that_leaves_is_told_to_the_worker(nginx: NginxProcess, api: StandInApi) -> None:
    """Its connection is closed, so that the engine stops."""
    with nginx.client() as client, client.stream("POST", "/v1/chat/completions", json={}):
        assert api.started.wait(5)
        assert not api.left.is_set()
    assert api.left.wait(2)


def test_a_stream_that_breaks_does_not_look_finished(nginx: NginxProcess) -> None:
    """Nor is it asked for again."""
    with nginx.client() as client, client.stream("POST", "/v1/broken", json={}) as answer:
        lines = answer.iter_lines()
        assert next(lines) == "data: 0"
        with pytest.raises(httpx.RemoteProtocolError, match="incomplete"):
            list(lines)


# The worker away


def test_without_a_worker_it_says_when_to_come_again(pair: Pair) -> None:
    """503, as while the worker starts."""
    with running_nginx(pair, free_ports(1)[0]) as nginx, nginx.client() as client:
        answer = client.post("/v1/chat/completions", json={})
    assert_refused(answer, 503, "no_answer")
    assert answer.headers["retry-after"] == "10"


def test_a_worker_that_says_nothing_is_given_up(pair: Pair, api: StandInApi) -> None:
    """The same 503; the worker is asked once."""
    planted = {"proxy_read_timeout 16m;": "proxy_read_timeout 1s;"}
    with running_nginx(pair, api.server_port, planted) as nginx, nginx.client() as client:
        answer = client.post("/v1/silent", json={})
    assert_refused(answer, 503, "no_answer")
    assert answer.headers["retry-after"] == "10"
    assert len(api.seen) == 1
