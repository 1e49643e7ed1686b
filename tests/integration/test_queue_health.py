"""`GET /queue-health` by its own Lambda entry point, over a real Redis that is there, away, hanging or slow."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_network
from socketserver import BaseRequestHandler, ThreadingTCPServer
from typing import Any

import pytest
import redis

from local.ports import free_ports
from local.redis_server import RedisServer
from router_lambda import queue_health
from router_lambda.http import Problem, Request
from router_lambda.queue_health import SLOWEST_SECONDS, QueueHealth
from router_lambda.settings import RouterConfigError
from tests.router_samples import event
from tests.router_world import content, problem

LONGEST_ANSWER_SECONDS = 1.0
"""Longest wait for a 503, whatever became of Redis; Lambda and those who ask for health give up later."""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Yield the function's environment, of which the entry point remembers nothing from another test."""
    for name in ("TLFIF_REDIS_URL", "TLFIF_BUCKET", "TLFIF_PING_CIDRS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TLFIF_PING_CIDRS", "127.0.0.0/8, 2001:db8::/32")
    queue_health._app.cache_clear()
    yield monkeypatch
    queue_health._app.cache_clear()


@dataclass
class Redis:
    """A way to a Redis that takes its time: every answer comes `delay_seconds` late."""

    url: str
    delay_seconds: float = 0.0


@contextmanager
def slow(target: RedisServer) -> Iterator[Redis]:
    """Stand between the function and `target`, a connection a thread."""
    (port,) = free_ports(1)
    way = Redis(f"redis://127.0.0.1:{port}/0")
    target_port = int(target.url.rpartition(":")[2].partition("/")[0])

    class Between(BaseRequestHandler):
        def handle(self) -> None:
            with socket.create_connection(("127.0.0.1", target_port)) as there, suppress(OSError):
                while True:
                    for source in select.select([self.request, there], [], [])[0]:
                        if not (data := source.recv(65_536)):
                            return
                        if source is there:
                            time.sleep(way.delay_seconds)
                        (self.request if source is there else there).sendall(data)

    with ThreadingTCPServer(("127.0.0.1", port), Between) as between:
        between.daemon_threads = True
        between.block_on_close = False
        thread = threading.Thread(target=between.serve_forever, args=(0.01,), name="between")
        thread.start()
        try:
            yield way
        finally:
            between.shutdown()
            thread.join()


def health(address: object = "127.0.0.1", **changes: Any) -> dict[str, Any]:
    """Ask as API Gateway would."""
    sent = event("GET", "/queue-health", authorizer=None, **changes)
    sent["requestContext"]["http"]["sourceIp"] = address
    return queue_health.handler(sent, None)


def timed(ask: Callable[[], dict[str, Any]] = health) -> tuple[dict[str, Any], float]:
    """Return the answer and the seconds it took."""
    began = time.perf_counter()
    return ask(), time.perf_counter() - began


def assert_is_fine(answer: dict[str, Any]) -> float:
    """Check a 200 and return its milliseconds."""
    found = content(answer)
    assert answer["statusCode"] == 200
    assert answer["headers"] == {"content-type": "application/json"}
    assert found.keys() == {"redis", "latencyMs"}
    assert found["redis"] == "ok"
    assert isinstance(found["latencyMs"], float)
    assert 0 < found["latencyMs"] <= SLOWEST_SECONDS * 1e3
    return found["latencyMs"]


def assert_is_ill(answer: dict[str, Any]) -> str:
    """Check a 503 and return what it says is to be done."""
    assert answer["statusCode"] == 503
    assert int(answer["headers"]["retry-after"]) > 0
    detail: str = problem(answer)["detail"]
    assert "look at its" in detail
    return detail


# Redis


def test_a_redis_that_answers_is_fine(own_redis: RedisServer, environment: pytest.MonkeyPatch) -> None:
    """200 with the milliseconds of the ping, over a connection that is kept between invocations."""
    environment.setenv("TLFIF_REDIS_URL", own_redis.url)
    assert_is_fine(health())
    with redis.Redis.from_url(own_redis.url) as client:
        before = client.info("stats")["total_connections_received"]
        for _ in range(20):
            assert_is_fine(health())
        assert client.info("stats")["total_connections_received"] == before


def test_a_killed_redis_is_seen_at_once_and_so_is_its_return(
    own_redis: RedisServer, environment: pytest.MonkeyPatch
) -> None:
    """503 while it is away, however long; 200 by the same process at the first request after."""
    environment.setenv("TLFIF_REDIS_URL", own_redis.url)
    assert_is_fine(health())
    for _ in range(2):
        own_redis.kill()
        for _ in range(3):
            answer, seconds = timed()
            assert "does not answer" in assert_is_ill(answer)
            assert seconds < LONGEST_ANSWER_SECONDS
        own_redis.restart()
        assert_is_fine(health())


def test_a_restart_between_two_requests_is_not_seen(own_redis: RedisServer, environment: pytest.MonkeyPatch) -> None:
    """The connection that it closed is made again."""
    environment.setenv("TLFIF_REDIS_URL", own_redis.url)
    for _ in range(3):
        assert_is_fine(health())
        own_redis.restart()
    assert_is_fine(health())


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not-yet-connected"])
def test_a_hanging_redis_is_seen_in_time(
    own_redis: RedisServer, environment: pytest.MonkeyPatch, *, connected: bool
) -> None:
    """Stopped, its kernel still takes connections and bytes; the answer is 503 within a second, then 200 again."""
    environment.setenv("TLFIF_REDIS_URL", own_redis.url)
    if connected:
        assert_is_fine(health())
    os.kill(own_redis.pid, signal.SIGSTOP)
    try:
        for _ in range(2):
            answer, seconds = timed()
            assert_is_ill(answer)
            assert SLOWEST_SECONDS <= seconds < LONGEST_ANSWER_SECONDS
    finally:
        os.kill(own_redis.pid, signal.SIGCONT)
    assert_is_fine(health())


def test_an_address_without_a_redis_is_ill(environment: pytest.MonkeyPatch) -> None:
    """Nobody listens there; a password in the address is not shown."""
    (port,) = free_ports(1)
    environment.setenv("TLFIF_REDIS_URL", f"redis://:hunter2@127.0.0.1:{port}/0")
    answer, seconds = timed()

    assert_is_ill(answer)
    assert seconds < LONGEST_ANSWER_SECONDS
    assert "hunter2" not in json.dumps(answer)
    assert str(port) not in json.dumps(answer)


def test_an_address_that_takes_no_connection_is_ill(environment: pytest.MonkeyPatch) -> None:
    """As behind a security group that drops packets: no refusal comes, only silence."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, ExitStack() as waiting:
        for _ in range(4):  # nobody accepts them, so that the kernel leaves the next ones without an answer
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)  # noqa: FBT003 - the standard library's own
            one.connect_ex(listener.getsockname())
        environment.setenv("TLFIF_REDIS_URL", f"redis://127.0.0.1:{listener.getsockname()[1]}/0")
        answer, seconds = timed()

    assert_is_ill(answer)
    assert SLOWEST_SECONDS <= seconds < LONGEST_ANSWER_SECONDS


# Slow answers


def test_an_answer_that_takes_over_200_ms_is_ill(own_redis: RedisServer, environment: pytest.MonkeyPatch) -> None:
    """Each one, in bounded time; and 200 again as soon as it is fast."""
    with slow(own_redis) as way:
        environment.setenv("TLFIF_REDIS_URL", way.url)
        assert_is_fine(health())
        way.delay_seconds = 0.25
        for _ in range(3):
            answer, seconds = timed()
            assert_is_ill(answer)
            assert SLOWEST_SECONDS <= seconds < LONGEST_ANSWER_SECONDS
        way.delay_seconds = 0
        assert_is_fine(health())


def test_an_answer_below_200_ms_is_fine_and_says_how_slow(
    own_redis: RedisServer, environment: pytest.MonkeyPatch
) -> None:
    """What is measured is what Redis took."""
    with slow(own_redis) as way:
        environment.setenv("TLFIF_REDIS_URL", way.url)
        assert_is_fine(health())
        way.delay_seconds = 0.06
        assert assert_is_fine(health()) >= 60


def test_a_second_try_does_not_hide_the_first(own_redis: RedisServer, environment: pytest.MonkeyPatch) -> None:
    """The client tries once more after 200 ms; an answer to that came too late all the same."""
    with slow(own_redis) as way:
        environment.setenv("TLFIF_REDIS_URL", way.url)
        assert_is_fine(health())
        way.delay_seconds = 0.3
        recovery = threading.Timer(0.1, setattr, (way, "delay_seconds", 0.0))
        recovery.start()
        detail = assert_is_ill(health())
        recovery.join()

    assert detail.startswith("Redis took ")
    assert 200 <= int(detail.split()[2]) < 1_000


@pytest.mark.parametrize(("took", "is_fine"), [(0.0001, True), (0.2, True), (0.2001, False), (5.0, False)])
def test_the_limit_is_200_ms(redis_url: str, took: float, *, is_fine: bool) -> None:
    """Exactly that is still fine."""
    times = iter([0.0, took])
    with redis.Redis.from_url(redis_url, socket_timeout=5) as client:
        route = QueueHealth(client, (ip_network("127.0.0.0/8"),), lambda: next(times))
        request = Request.from_event(event("GET", "/queue-health"))
        if is_fine:
            assert content(route(request))["latencyMs"] == round(took * 1e3, 3)
        else:
            with pytest.raises(Problem, match=rf"took {took * 1e3:.0f} ms"):
                route(request)


# Who may ask


@pytest.mark.parametrize("address", ["127.0.0.1", "127.255.255.255", "2001:db8::7", "::ffff:127.0.0.1"])
def test_an_address_inside_is_answered(redis_url: str, environment: pytest.MonkeyPatch, address: str) -> None:
    """IPv4, IPv6, and the one mapped into the other."""
    environment.setenv("TLFIF_REDIS_URL", redis_url)
    assert_is_fine(health(address, headers={"x-forwarded-for": "203.0.113.9"}))


@pytest.mark.parametrize("address", ["128.0.0.1", "10.20.0.1", "2001:db9::7", "::ffff:128.0.0.1", "::1", "", None])
def test_an_address_outside_is_refused_before_redis_is_asked(
    environment: pytest.MonkeyPatch, address: str | None
) -> None:
    """403: strangers put no load on Redis, learn nothing of it, and cannot pass by a header."""
    (port,) = free_ports(1)
    environment.setenv("TLFIF_REDIS_URL", f"redis://127.0.0.1:{port}/0")
    answer = health(address, headers={"x-forwarded-for": "127.0.0.1", "forwarded": "for=127.0.0.1"})

    assert answer["statusCode"] == 403
    assert problem(answer)["title"] == "Forbidden"


def test_by_default_the_vpc_may_ask(redis_url: str, environment: pytest.MonkeyPatch) -> None:
    """And nobody else, the machine itself included."""
    environment.setenv("TLFIF_REDIS_URL", redis_url)
    environment.delenv("TLFIF_PING_CIDRS")

    assert_is_fine(health("10.20.3.255"))
    assert health("127.0.0.1")["statusCode"] == 403


# The Lambda


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/queue-health", 405), ("HEAD", "/queue-health", 405), ("GET", "/ping", 404), ("POST", "/infer", 404)],
)
def test_it_has_one_route(redis_url: str, environment: pytest.MonkeyPatch, method: str, path: str, status: int) -> None:
    """The router's others are not this function's."""
    environment.setenv("TLFIF_REDIS_URL", redis_url)
    assert queue_health.handler(event(method, path), None)["statusCode"] == status


def test_it_writes_an_access_line(
    redis_url: str, environment: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As the router does."""
    environment.setenv("TLFIF_REDIS_URL", redis_url)
    health()
    line = json.loads(capsys.readouterr().out)
    assert line | {"latencyMs": 0} == {
        "requestId": "request-1",
        "ip": "127.0.0.1",
        "route": "GET /queue-health",
        "status": 200,
        "latencyMs": 0,
    }


def test_the_settings_are_read_once_they_are_there(redis_url: str, environment: pytest.MonkeyPatch) -> None:
    """It fails while one is missing or wrong, naming it, and keeps what it built afterwards."""
    environment.setenv("TLFIF_PING_CIDRS", "127.0.0.1/8")
    with pytest.raises(RouterConfigError, match=r"set TLFIF_REDIS_URL; mend TLFIF_PING_CIDRS: .*host bits"):
        health()

    environment.setenv("TLFIF_REDIS_URL", redis_url)
    environment.setenv("TLFIF_PING_CIDRS", "127.0.0.0/8")
    assert_is_fine(health())
    environment.delenv("TLFIF_REDIS_URL")
    environment.setenv("TLFIF_PING_CIDRS", "")
    assert_is_fine(health())
