"""The whole system on one machine, put together: servers, worker, and the gateway with the Lambdas in it."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

import anyio

from local.gateway import Gateway, Handler, serving
from local.hypervisor import Delays, Hypervisor
from local.metadata import MetadataServer
from local.ports import LOOPBACK, free_ports
from local.schedule import Schedule
from local.servers import Servers
from local.supervisor import Supervisor
from router_lambda import authorizer, handler, logs, reaper, waker

log = logging.getLogger(__name__)

WORKER: Final = (sys.executable, "-m", "worker")

IDLE_MINUTES: Final = "30"
"""Idle time of the worker here, unless TLFIF_IDLE_MINUTES says otherwise."""

_THIS_MACHINE: Final = "127.0.0.0/8,::1/128"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run, and where.

    Attributes:
        folder: for the servers' data; the caller removes it afterwards.
        logs: folder for the logs of all processes.
        model: what the worker loads: a folder of safetensors, a GGUF file or a hub id.
        worker: command line of the worker.
        authorize: the authorizer Lambda.
        route: the router Lambda, behind it.
        wake: the waker Lambda, called when the instance has stopped and every minute.
        reap: the reaper Lambda, called every minute.
        delays: how long the instance takes to start and stop.
        asleep: whether to begin with a stopped instance, and so without a worker.
    """

    folder: Path
    logs: Path
    model: str
    worker: Sequence[str] = WORKER
    authorize: Handler = authorizer.handler
    route: Handler = handler.handler
    wake: Handler = waker.handler
    reap: Handler = reaper.handler
    delays: Delays = field(default_factory=Delays)
    asleep: bool = False


@dataclass(frozen=True, slots=True)
class Cognito:
    """Where and as whom to sign in for another token."""

    url: str
    client_id: str
    username: str
    password: str


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where everything is once it is ready. `pids` are those of the start, `/healthz` has the later ones."""

    gateway: str
    redis: str
    s3: str
    aws: str
    bucket: str
    cognito: Cognito
    token: str
    worker_http: str
    pids: dict[str, int | None]

    def to_json(self) -> str:
        """Return the ready line."""
        return json.dumps(asdict(self))


@asynccontextmanager
async def running(plan: Plan) -> AsyncIterator[Addresses]:
    """Start everything, yield its addresses, and stop it in the opposite order: gateway, worker, servers.

    The worker lives on the emulated instance: it comes and goes with it.

    Once per process, in the main thread: the Lambdas read their settings from this process's environment, which is
    changed meanwhile, and keep what they build on their first call. Their log lines go to `router.log`.

    Raises:
        StartFailed: a part did not come up, or the worker refused its settings; the message shows its log.
    """
    with ExitStack() as parts:
        parts.enter_context(_own_environment())
        parts.enter_context(_lambda_log(plan.logs / "router.log"))
        servers = Servers(plan.folder, plan.logs)
        parts.callback(servers.stop)
        servers.start()
        if plan.asleep:
            servers.aws.stop_instance()
        metadata = parts.enter_context(MetadataServer(lambda: servers.aws.instance_id))
        os.environ.update(servers.environment() | {"TLFIF_PING_CIDRS": _THIS_MACHINE})
        worker = _supervisor(plan, metadata)
        schedule = Schedule(plan.wake, plan.reap)
        machine = Hypervisor(servers.aws, worker, plan.delays, schedule.stopped)
        gateway = Gateway(plan.route, plan.authorize, lambda: _health(machine, worker, servers))
        with _unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(machine.run, name="machine")
                tasks.start_soon(schedule.run, name="schedule")
                if not plan.asleep:
                    log.info("starting the worker with %s", plan.model)
                    await worker.wait_ready()
                    log.info("the worker is ready (pid %s)", worker.pid)
                async with serving(gateway) as url:
                    yield _addresses(url, worker, servers)
                tasks.cancel_scope.cancel()


def _supervisor(plan: Plan, metadata: MetadataServer) -> Supervisor:
    """Return what keeps the worker running while its machine is on."""
    port = free_ports(1)[0]
    its_own = {
        "TLFIF_MODEL": plan.model,
        "TLFIF_WORKER_ID": "local",
        "TLFIF_HTTP_PORT": str(port),
        "TMPDIR": str(plan.folder),  # vLLM's sockets stay behind when it is killed
        "AWS_EC2_METADATA_DISABLED": "false",
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
    }
    # Long, so that it does not fall asleep while somebody tries it out.
    inherited = {"TLFIF_IDLE_MINUTES": IDLE_MINUTES} | os.environ
    return Supervisor(
        plan.worker, inherited | its_own, url=f"http://{LOOPBACK}:{port}", logfile=plan.logs / "worker.log"
    )


@contextmanager
def _own_environment() -> Iterator[None]:
    """Let this process's environment be changed for a while.

    From the start it is without AWS variables, as a profile or a session token of a real account would spoil our
    signatures, and with loopback beyond the reach of any proxy.
    """
    before = dict(os.environ)
    for name in before:
        if name.startswith("AWS_"):
            del os.environ[name]
    for name in ("NO_PROXY", "no_proxy"):
        os.environ[name] = ",".join(filter(None, [os.environ.get(name), LOOPBACK]))
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _lambda_log(file: Path) -> Iterator[None]:
    """Write the Lambdas' lines to `file`: standard output belongs to the ready line."""
    with file.open("a") as lines:
        logs.send_to(lines)
        try:
            yield
        finally:
            logs.send_to(None)


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


def _addresses(url: str, worker: Supervisor, servers: Servers) -> Addresses:
    aws, s3 = servers.aws, servers.s3
    return Addresses(
        gateway=url,
        redis=servers.redis.url,
        s3=s3.endpoint,
        aws=aws.endpoint,
        bucket=s3.bucket,
        cognito=Cognito(aws.endpoint, aws.client_id, aws.username, aws.password),
        token=aws.token(),
        worker_http=worker.url,
        pids=_pids(worker, servers),
    )


def _pids(worker: Supervisor, servers: Servers) -> dict[str, int | None]:
    return servers.pids() | {"worker": worker.pid, "gateway": os.getpid()}


async def _health(machine: Hypervisor, worker: Supervisor, servers: Servers) -> dict[str, Any]:
    return {"pids": _pids(worker, servers), "instance": machine.state, "worker": await worker.state()}
