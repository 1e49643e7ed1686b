"""A gateway and a store on real loopback sockets, and the `tlfif` process that talks to them."""

from __future__ import annotations

import hashlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from tests.client_service import JOB_ID, TOKEN

REPOSITORY = Path(__file__).parents[2]
PATIENCE_SECONDS = 10.0


class _Cut(Response):
    """Ends the connection in the midst of an answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Promise more bytes than ever come."""
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"9")]})
        await send({"type": "http.response.body", "body": b"{", "more_body": False})


def _problem(status: HTTPStatus, detail: str) -> Response:
    problem = {"title": status.phrase, "status": status, "detail": detail}
    return JSONResponse(problem, status, media_type="application/problem+json")


UNAUTHORIZED = _problem(HTTPStatus.UNAUTHORIZED, "send a valid token")


class World:
    """Serves `POST /infer`, `POST /stop` and one reply object with the ETag semantics of S3.

    Attributes:
        looks: how often each status was answered to a GET of the reply.
        bodies: what was posted to `/infer`, `stops` what to `/stop`, as bytes.
        keys: the Idempotency-Key of each job.
        cut: how many POSTs to `/infer` are still to be accepted without an answer.
        is_valid: tells which tokens the gateway takes.
        accepted: members of the 202, besides the id.
        link_status: a status that the store answers instead of the reply, 200 for none.
    """

    def __init__(self) -> None:
        self.looks: Counter[int] = Counter()
        self._looked = threading.Condition()
        self.bodies: list[dict[str, Any]] = []
        self.stops: list[bytes] = []
        self.keys: list[str] = []
        self.cut = 0
        self.is_valid: Callable[[str], bool] = TOKEN.__eq__
        self.accepted: dict[str, Any] = {"status": "queued"}
        self.link_status = 200
        self._object: bytes | None = None
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Base URL of the gateway, which has a stage path."""
        return f"http://127.0.0.1:{self.port}/prod"

    def start(self) -> None:
        """Listen on the same port as before; a client that connects from now on is answered."""
        app = Starlette(
            routes=[
                Route("/prod/infer", self._infer, methods=["POST"]),
                Route("/prod/stop", self._stop, methods=["POST"]),
                Route(f"/bucket/replies/{JOB_ID}.json", self._get),
            ]
        )
        self._server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
        listening = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [listening]})
        self._thread.start()

    def stop(self) -> None:
        """Close every connection and the port."""
        self._server.should_exit = True
        self._thread.join(PATIENCE_SECONDS)

    def put(self, document: dict[str, Any]) -> None:
        """Write the reply object."""
        self._object = json.dumps(document, ensure_ascii=False).encode()

    def await_looks(self, status: int, at_least: int) -> None:
        """Wait until so many looks were answered with this status."""
        with self._looked:
            assert self._looked.wait_for(lambda: self.looks[status] >= at_least, PATIENCE_SECONDS)

    async def _infer(self, request: Request) -> Response:
        if not self._may_enter(request):
            return UNAUTHORIZED
        self.bodies.append(await request.json())
        self.keys.append(request.headers["idempotency-key"])
        if self.cut:
            self.cut -= 1
            return _Cut()
        location = f"http://127.0.0.1:{self.port}/bucket/replies/{JOB_ID}.json?X-Amz-Signature=s"
        return JSONResponse(self.accepted | {"id": JOB_ID}, HTTPStatus.ACCEPTED, {"Location": location})

    async def _stop(self, request: Request) -> Response:
        if not self._may_enter(request):
            return UNAUTHORIZED
        body = await request.body()
        self.stops.append(body)
        if not body:
            return JSONResponse({"status": "stopping"}, HTTPStatus.ACCEPTED)
        if json.loads(body) != {"id": JOB_ID}:
            return _problem(HTTPStatus.NOT_FOUND, "no such job")
        return JSONResponse({"status": "cancelling", "id": JOB_ID}, HTTPStatus.ACCEPTED)

    def _may_enter(self, request: Request) -> bool:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        return scheme == "Bearer" and self.is_valid(token)

    async def _get(self, request: Request) -> Response:
        response = self._look(request)
        with self._looked:
            self.looks[response.status_code] += 1
            self._looked.notify_all()
        return response

    def _look(self, request: Request) -> Response:
        if "authorization" in request.headers:  # as S3 has it: one way to sign, not two
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        if self.link_status != HTTPStatus.OK:
            return Response(status_code=self.link_status)
        content = self._object
        if content is None:
            return Response(status_code=HTTPStatus.NOT_FOUND)
        etag = f'"{hashlib.md5(content, usedforsecurity=False).hexdigest()}"'
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=HTTPStatus.NOT_MODIFIED, headers={"ETag": etag})
        return Response(content, headers={"ETag": etag})


class Tlfif:
    """A running `tlfif`, whose stdout is read as it comes."""

    def __init__(
        self,
        world: World,
        *arguments: str,
        token: str = TOKEN,
        stdin: bytes | int = b"",
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it with these variables besides the usual ones; `stdin` is what it reads, or what it reads from."""
        defaults = {
            "TLFIF_URL": world.url,
            "TLFIF_TOKEN": token,
            "PATH": os.environ["PATH"],
            "LANG": "C.UTF-8",
        }
        self.process = subprocess.Popen(
            # What the console script of pyproject.toml runs.
            [sys.executable, "-c", "import sys; from client.cli import main; sys.exit(main())", *arguments],
            stdin=subprocess.PIPE if isinstance(stdin, bytes) else stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=REPOSITORY,
            env=defaults | dict(environment or {}),
            start_new_session=True,  # no prompt may reach the terminal that the tests run on
        )
        assert self.process.stdout is not None
        self.stdout = self.process.stdout
        if isinstance(stdin, bytes):
            assert self.process.stdin is not None
            self.process.stdin.write(stdin)
            self.process.stdin.close()
            self.process.stdin = None  # or communicate() flushes what is closed

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()

    def read(self, wanted: bytes) -> None:
        """Wait for exactly these bytes on stdout."""
        seen = b""
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while len(seen) < len(wanted) and time.monotonic() < ends_at:
            if select.select([self.stdout], [], [], 0.1)[0]:
                chunk = os.read(self.stdout.fileno(), len(wanted) - len(seen))
                if not chunk:
                    break
                seen += chunk
        assert seen == wanted

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)

    def finish(self) -> tuple[int, str, str]:
        """Wait for the end; return the exit code, the rest of stdout, and stderr."""
        out, err = self.process.communicate(timeout=PATIENCE_SECONDS)
        return self.process.returncode, out.decode(), err.decode()
