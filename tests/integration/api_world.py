"""The API over HTTP: the local gateway before the router, on loopback, with real Redis and a worker's pulse."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import redis
from anyio.from_thread import start_blocking_portal

from local.gateway import Gateway, Handler, serving
from router_lambda.job import GPU_CLOSING, GPU_STOP, QUEUE_OPEN, QUEUE_READY
from router_lambda.queue import connect
from tests.router_world import Clock, FakeEc2, beat, make_router

TOKEN: Final = "the-only-token-that-is-let-in"

ENVIRONMENT: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "eu-central-1",
}
"""What signing a reply's address takes; nothing here asks S3."""

_PULSE_SECONDS: Final = 0.2


def letting_in(subject: Callable[[], str]) -> Handler:
    """Return an authorizer that knows one token, `TOKEN`, and calls its bearer by `subject`."""

    def authorize(event: dict[str, Any], _context: object) -> dict[str, Any]:
        is_ours = event["headers"].get("authorization") == f"Bearer {TOKEN}"
        return {"isAuthorized": is_ours, "context": {"sub": subject()} if is_ours else {}}

    return authorize


@contextmanager
def api(
    redis_url: str, authorizer: Handler, wrap: Callable[[Handler], Handler] = lambda router: router
) -> Iterator[str]:
    """Serve the API and yield its base URL; `wrap` may plant a fault into the router.

    The environment has to hold `ENVIRONMENT`.
    """
    client, ec2 = connect(redis_url), FakeEc2(Clock(), state="running")
    app = make_router(client, ec2, Clock())

    def router(event: dict[str, Any], _context: object) -> dict[str, Any]:
        return app(event)

    async def health() -> dict[str, Any]:
        return {}

    with (
        _worker(client, ec2),
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serving(Gateway(wrap(router), authorizer, health))) as url,
    ):
        yield url
    client.close()


@contextmanager
def _worker(client: redis.Redis, ec2: FakeEc2) -> Iterator[None]:
    """Be alive, take every job, and come back after a stop, so that each of thousands of calls finds a GPU."""
    is_over = threading.Event()

    def live() -> None:
        while not is_over.wait(_PULSE_SECONDS):
            client.delete(QUEUE_READY, QUEUE_OPEN, GPU_CLOSING, GPU_STOP)
            ec2.state = "running"
            beat(client)

    beat(client)
    thread = threading.Thread(target=live, name="worker")
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()
