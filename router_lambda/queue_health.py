"""`GET /queue-health`: whether Redis answers, and how fast. A Lambda of its own, and a route of the router."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

import redis

from router_lambda.app import App
from router_lambda.http import Problem, Request, answer
from router_lambda.identity import require_address
from router_lambda.queue import connect
from router_lambda.settings import HealthSettings, Networks

SLOWEST_SECONDS: Final = 0.2
"""A ping that takes longer has failed."""


class QueueHealth:
    """The route."""

    def __init__(self, client: redis.Redis, networks: Networks, clock: Callable[[], float] = time.perf_counter) -> None:
        self._client = client
        self._networks = networks
        self._clock = clock

    def __call__(self, request: Request) -> dict[str, Any]:
        """Answer 200 with the round trip of one ping, in milliseconds.

        Raises:
            Problem: 403, from elsewhere than the allowed networks; 503, Redis is away or slow.
        """
        require_address(request, self._networks)
        began = self._clock()
        try:
            self._client.ping()
        except redis.RedisError:
            raise Problem.try_later("Redis does not answer; look at its log and its security group") from None
        took = self._clock() - began
        if took > SLOWEST_SECONDS:
            raise Problem.try_later(f"Redis took {took * 1e3:.0f} ms to answer; look at its load")
        return answer(200, {"redis": "ok", "latencyMs": round(took * 1e3, 3)})


@cache
def _app() -> App:
    settings = HealthSettings.from_environment(os.environ)
    client = connect(settings.redis_url, SLOWEST_SECONDS)
    return App({"/queue-health": {"GET": QueueHealth(client, settings.ping_cidrs)}})


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry point."""
    return _app()(event)
