"""The router Lambda: builds every part from the settings, once, and answers events."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import redis

from router_lambda.admission import Admission
from router_lambda.app import App
from router_lambda.budget import Check, make_check, unlimited
from router_lambda.ec2 import Ec2
from router_lambda.gpu import Gpu
from router_lambda.http import Request, answer
from router_lambda.identity import Identity, require_address
from router_lambda.infer import Infer
from router_lambda.queue import Queue, connect
from router_lambda.queue_health import SLOWEST_SECONDS, QueueHealth
from router_lambda.replies import Replies
from router_lambda.settings import RouterSettings
from router_lambda.status import Status
from router_lambda.stop import Stop
from router_lambda.throttle import Throttle


def build(
    settings: RouterSettings,
    client: redis.Redis,
    health_client: redis.Redis,
    ec2: Ec2,
    clock: Callable[[], float] = time.time,
    *,
    check: Check = unlimited,
) -> App:
    """Put the router together.

    `health_client` is the one that gives up after `queue_health.SLOWEST_SECONDS`, `check` that of the budget.
    """
    networks = settings.health.ping_cidrs
    admission = Admission(Identity(settings.jwt, clock), Throttle(client))
    queue, gpu = Queue(client, clock), Gpu(ec2, client, clock, check=check)
    infer = Infer(admission, queue, gpu, Replies(settings.bucket), clock, max_gpus=settings.max_gpus)

    def ping(request: Request) -> dict[str, Any]:
        require_address(request, networks)
        return answer(200, {"status": "ok"})

    return App(
        {
            "/infer": {"POST": infer},
            "/stop": {"POST": Stop(admission, queue, gpu)},
            "/status": {"GET": Status(admission, client, ec2, gpu, clock)},
            "/ping": {"GET": ping},
            "/queue-health": {"GET": QueueHealth(health_client, networks)},
        }
    )


@cache
def _app() -> App:
    settings = RouterSettings.from_environment(os.environ)
    url = settings.health.redis_url
    check = make_check(settings.bucket, settings.budget_eur)
    return build(settings, connect(url), connect(url, SLOWEST_SECONDS), Ec2(settings.gpu_tag), check=check)


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry point. What it builds on the first call is kept for the later ones."""
    return _app()(event)
