"""The whole system on one machine, put together: Redis, S3, the worker, the gateway with the router in it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import anyio

from local.gateway import Gateway, Handler, serving
from local.ports import LOOPBACK, free_ports
from local.redis_server import RedisServer
from local.s3_server import S3Server
from local.supervisor import Supervisor
from router_lambda.handler import handler as router

log = logging.getLogger(__name__)

WORKER: Final = (sys.executable, "-m", "worker")


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where.

    Attributes:
        folder: for the servers' data; the caller removes it afterwards.
        logs: folder for the logs of all processes.
        model: what the worker loads: a folder of safetensors, a GGUF file or a hub id.
        worker: command line of the worker.
        handler: the Lambda behind the gateway.
    """

    folder: Path
    logs: Path
    model: str
    worker: Sequence[str] = WORKER
    handler: Handler = router


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is once it is ready. `pids` are those of the start, `/healthz` has the later ones."""

    gateway: str
    redis: str
    s3: str
    bucket: str
    token: str
    worker_http: str
    pids: dict[str, int | None]

    def to_json(self) -> str:
        """Return the ready line."""
        return json.dumps(asdict(self))


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Addresses]:
    """Start everything, yield its addresses, and stop it in the opposite order: gateway, worker, servers.

    Once per process, in the main thread: the router reads its settings from this process's environment, which
    is changed meanwhile, and keeps what it builds on its first call.

    Raises:
        StartFailed: a part did not come up, or the worker refused its settings; the message shows its log.
    """
    redis, s3 = RedisServer(plan.folder, plan.logs), S3Server(plan.folder, plan.logs)
    with ExitStack() as servers:
        for server in (redis, s3):
            server.start()
            servers.callback(server.stop)
            log.info("%s is up (pid %d)", server.name, server.pid)
        shared = _environment(redis, s3)
        servers.enter_context(_applied(shared))
        port = free_ports(1)[0]
        worker = Supervisor(
            plan.worker,
            shared
            | {
                "TLFIF_MODEL": plan.model,
                "TLFIF_WORKER_ID": "local",
                "TLFIF_HTTP_PORT": str(port),
                "TMPDIR": str(plan.folder),  # vLLM's sockets stay behind when it is killed
            },
            url=f"http://{LOOPBACK}:{port}",
            logfile=plan.logs / "worker.log",
        )
        gateway = Gateway(plan.handler, lambda: _health(worker, redis, s3))
        with _unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(worker.run, name="worker")
                log.info("starting the worker with %s", plan.model)
                await worker.wait_ready()
                log.info("the worker is ready (pid %s)", worker.pid)
                async with serving(gateway) as url:
                    yield Addresses(
                        gateway=url,
                        redis=redis.url,
                        s3=s3.endpoint,
                        bucket=s3.bucket,
                        token=gateway.token,
                        worker_http=f"http://{LOOPBACK}:{port}",
                        pids=_pids(worker, redis, s3),
                    )
                tasks.cancel_scope.cancel()


def _environment(redis: RedisServer, s3: S3Server) -> dict[str, str]:
    """Return the caller's environment with our addresses in it.

    Without its AWS variables: a profile or a session token of a real account would spoil our signatures.
    """
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    direct = {name: ",".join(filter(None, [os.environ.get(name), LOOPBACK])) for name in ("NO_PROXY", "no_proxy")}
    return inherited | direct | s3.environment() | {"TLFIF_REDIS_URL": redis.url, "TLFIF_BUCKET": s3.bucket}


@contextmanager
def _applied(environment: Mapping[str, str]) -> Iterator[None]:
    """Make `environment` this process's own for a while."""
    before = dict(os.environ)
    _replace_environment(environment)
    try:
        yield
    finally:
        _replace_environment(before)


def _replace_environment(environment: Mapping[str, str]) -> None:
    os.environ.clear()
    os.environ.update(environment)


@contextmanager
def _unwrapped() -> Iterator[None]:
    """Raise what ended the task group, without the group around it when it is the only thing."""
    try:
        yield
    except BaseExceptionGroup as group:
        cause: BaseException = group
        while isinstance(cause, BaseExceptionGroup) and len(cause.exceptions) == 1:
            cause = cause.exceptions[0]
        raise cause from None


def _pids(worker: Supervisor, redis: RedisServer, s3: S3Server) -> dict[str, int | None]:
    return {"worker": worker.pid, "redis": redis.pid, "s3": s3.pid, "gateway": os.getpid()}


async def _health(worker: Supervisor, redis: RedisServer, s3: S3Server) -> dict[str, Any]:
    return {"pids": _pids(worker, redis, s3), "worker": await worker.state()}
