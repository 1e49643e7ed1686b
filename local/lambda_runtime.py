"""A Lambda on this machine: the real runtime client around an unpacked package, and the API that feeds it.

Source: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html
"""

from __future__ import annotations

import hashlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from local.child import spawn, stop, tail
from local.ports import LOOPBACK

CLIENT: Final = ("awslambdaric==4.2.2", "simplejson==4.3.0", "snapshot-restore-py==1.0.0")
"""What Lambda puts around a handler; the packages of `SDK` it brings besides."""

SDK: Final = {"boto3", "botocore", "jmespath", "python-dateutil", "s3transfer", "six", "urllib3"}

INIT_SECONDS: Final = 10.0
"""How long Lambda lets a function import its handler."""

_PREFIX: Final = "/2018-06-01/runtime/"


class FunctionFailed(Exception):
    """The function ended an invocation, or itself, with an error. `kind` is the name of what it raised."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(f"{kind}: {message}")
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Runtime:
    """What Lambda provides: an interpreter, and the folder with its client and the SDK."""

    python: Path
    folder: Path


def install_runtime(python: Path, lock: Path, cache: Path) -> Runtime:
    """Provide `CLIENT` and the locked `SDK` for an interpreter, in a folder below `cache` that is kept.

    Raises:
        RuntimeError: pip failed; the message is pip's.
    """
    pins = [line.partition(" ")[0] for line in lock.read_text("utf-8").splitlines() if line.partition("==")[0] in SDK]
    wanted = [*CLIENT, *pins]
    folder = cache.absolute() / hashlib.sha256(" ".join([str(python), *wanted]).encode()).hexdigest()[:16]
    if folder.exists():
        return Runtime(python, folder)
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as scratch:
        command = [
            sys.executable,
            "-m",
            "pip",
            "--python",
            str(python),
            "install",
            "--quiet",
            "--no-input",
            "--no-deps",
        ]
        done = subprocess.run(
            [*command, "--only-binary=:all:", "--target", f"{scratch}/new", *wanted],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"pip could not install Lambda's runtime client; it said:\n{done.stderr.strip()}")
        if not folder.exists():  # somebody else was faster
            Path(scratch, "new").rename(folder)
    return Runtime(python, folder)


@dataclass(frozen=True, slots=True)
class _Said:
    """What the function told the API: `what` is `next`, `response`, `error`, `init/error` or `exit`."""

    what: str
    invocation: str = ""
    body: bytes = b""


class _Api(ThreadingHTTPServer):
    """The Runtime API for one function."""

    def __init__(self) -> None:
        super().__init__((LOOPBACK, 0), _Conversation)
        self.waiting: queue.SimpleQueue[tuple[dict[str, str], bytes] | None] = queue.SimpleQueue()
        self.said: queue.SimpleQueue[_Said] = queue.SimpleQueue()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Report what went wrong in a conversation, unless the function was only killed in it."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class _Conversation(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # otherwise every answer waits 40 ms for an acknowledgement
    wbufsize = -1  # headers and body in one packet
    server: _Api

    def do_GET(self) -> None:
        """Hand over the next invocation, as soon as there is one."""
        self.server.said.put(_Said("next"))
        invocation = self.server.waiting.get()
        if invocation is None:
            self.close_connection = True
        else:
            self._answer(200, *invocation)

    def do_POST(self) -> None:
        """Take a response or an error."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        what = self.path.removeprefix(_PREFIX)
        invocation = ""
        if what != "init/error":
            _, invocation, what = what.split("/")
        self._answer(202, {}, b'{"status":"OK"}')
        self.server.said.put(_Said(what, invocation, body))

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": "application/json", "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing: the function's own log tells enough."""


class LambdaFunction:
    """One function in one execution environment, as Lambda runs it. Use it as a context manager, in the main thread.

    Args:
        runtime: see `install_runtime`.
        package: the unpacked package; becomes the working folder. Nothing is written to it.
        handler: `package.module.function`.
        environment: all that the function gets, besides what Lambda itself sets.
        log: file that its output is appended to.
    """

    def __init__(
        self, runtime: Runtime, package: Path, handler: str, environment: Mapping[str, str], log: Path
    ) -> None:
        self._command = [str(runtime.python), "-m", "awslambdaric", handler]
        self._package = package
        self._log = log
        self._api = _Api()
        self._name = handler.split(".")[-2]
        self._environment = {
            "AWS_LAMBDA_FUNCTION_NAME": self._name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_RUNTIME_API": f"{LOOPBACK}:{self._api.server_port}",
            "AWS_EXECUTION_ENV": "AWS_Lambda_python3.12",
            "LAMBDA_TASK_ROOT": str(package),
            "PYTHONPATH": str(runtime.folder),
            "PYTHONDONTWRITEBYTECODE": "1",  # Lambda's /var/task is read-only
            "_HANDLER": handler,
            **environment,
        }

    def __enter__(self) -> Self:
        """Start, and return once the handler is imported.

        Raises:
            FunctionFailed: it cannot be imported, or not in `INIT_SECONDS`.
        """
        threading.Thread(target=self._api.serve_forever, args=(0.05,), name="runtime-api", daemon=True).start()
        self._child = spawn(self._command, log=self._log, folder=self._package, environment=self._environment)
        threading.Thread(target=self._watch, name="runtime-watch", daemon=True).start()
        try:
            self._hear("next", "", time.monotonic() + INIT_SECONDS)
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """Process id of the function."""
        return self._child.pid

    def invoke(self, event: Mapping[str, Any], seconds: float = 10.0) -> dict[str, Any]:
        """Invoke the handler, which gets `seconds` to answer.

        Raises:
            FunctionFailed: the handler raised, its process died, or the time was up.
        """
        invocation = str(uuid.uuid4())
        headers = {
            "Lambda-Runtime-Aws-Request-Id": invocation,
            "Lambda-Runtime-Deadline-Ms": str(round((time.time() + seconds) * 1000)),
            "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:eu-central-1:000000000000:function:{self._name}",
            "Lambda-Runtime-Trace-Id": f"Root=1-{int(time.time()):08x}-{os.urandom(12).hex()};Sampled=0",
        }
        self._api.waiting.put((headers, json.dumps(event).encode()))
        answer: dict[str, Any] = json.loads(self._hear("response", invocation, time.monotonic() + seconds))
        return answer

    def stop(self) -> None:
        """End the function's process and the API; may be called again."""
        stop(self._child)
        self._api.waiting.put(None)
        self._api.shutdown()
        self._api.server_close()

    def _watch(self) -> None:
        self._api.said.put(_Said("exit", body=str(self._child.wait()).encode()))

    def _hear(self, what: str, invocation: str, deadline: float) -> bytes:
        """Wait for what the function is to say about an invocation and return the body."""
        while True:
            try:
                said = self._api.said.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise FunctionFailed("Timeout", f"no {what} in time; its log ends:\n{tail(self._log)}") from None
            if said.what == "exit":
                self._api.said.put(said)  # every later invocation fails as well
                raise FunctionFailed("Exit", f"with status {said.body.decode()}; its log ends:\n{tail(self._log)}")
            if said.what == "init/error" or (said.what, said.invocation) == ("error", invocation):
                error = json.loads(said.body)
                raise FunctionFailed(error["errorType"], error["errorMessage"])
            if (said.what, said.invocation) == (what, invocation):
                return said.body
