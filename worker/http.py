"""The loopback HTTP server: `/healthz` for people and supervisors, `/metrics` for Prometheus, and OpenAI's `/v1`."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from worker.errors import SettingsError

HOST = "127.0.0.1"


class SignalFreeServer(uvicorn.Server):
    """A uvicorn that is one part of a process and leaves the signals to whoever stops all of them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


def bind(port: int) -> socket.socket:
    """Take the port on 127.0.0.1, or any free one for 0.

    Raises:
        SettingsError: the port is taken.
    """
    try:
        listener = socket.create_server((HOST, port))
    except OSError as error:
        problem = f"TLFIF_HTTP_PORT is wrong: port {port} cannot be used ({error.strerror}); choose another"
        raise SettingsError([problem]) from None
    # asyncio does it for sockets of its own making only; without it the body waits 40 ms behind the headers.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


async def serve(listener: socket.socket, state: Callable[[], dict[str, Any]], api: ASGIApp) -> None:
    """Serve until cancelled. `state` gives what `/healthz` shows; its `state` is `ready` or the answer is a 503.

    Everything else goes to `api`.
    """

    async def healthz(_request: Request) -> Response:
        shown = state()
        return JSONResponse(shown, status_code=200 if shown["state"] == "ready" else 503)

    async def metrics(_request: Request) -> Response:
        return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)

    app = Starlette(routes=[Route("/healthz", healthz), Route("/metrics", metrics), Mount("/", api)])
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
    await SignalFreeServer(config).serve(sockets=[listener])
