"""The throttle under calls that arrive together, over a real Redis."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier

import pytest
import redis

from router_lambda.throttle import Throttle, rate_key

CALLERS = 50


@pytest.fixture
def throttles(redis_url: str) -> Iterator[list[Throttle]]:
    """Yield 50 throttles with a connection each, as 50 Lambdas have them."""
    with ExitStack() as stack:
        clients = [stack.enter_context(redis.Redis.from_url(redis_url, socket_timeout=5)) for _ in range(CALLERS)]
        for client in clients:
            client.ping()
        yield [Throttle(client) for client in clients]


def test_of_fifty_calls_at_once_five_get_through(throttles: list[Throttle]) -> None:
    """All of them load the script, none of them sees another's half-written state; and so for every user."""
    barrier = Barrier(CALLERS)

    def take(throttle: Throttle) -> list[float]:
        waits = []
        for user in range(5):
            barrier.wait()
            waits.append(throttle.take(rate_key(f"user-{user}")))
        return waits

    with ThreadPoolExecutor(CALLERS) as pool:
        calls = list(pool.map(take, throttles))

    for waits in zip(*calls, strict=True):
        assert waits.count(0.0) == 5
        assert all(0 < wait <= 3 for wait in waits if wait)
