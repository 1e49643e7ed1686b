"""Plays the machine of the emulated EC2 instance: the worker lives on it while it runs, and not otherwise."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import NoReturn

import anyio
import httpx

from local.aws_server import MACHINE_WAIT_SECONDS, AwsServer
from local.supervisor import Supervisor

log = logging.getLogger(__name__)

_AGAIN_SECONDS = 0.2


@dataclass(frozen=True, slots=True)
class Delays:
    """How long things take, in seconds.

    Attributes:
        boot: from a start to the operating system being up, half of it as `pending`.
        stop: from the worker's end to `stopped`.
    """

    boot: float = 0.0
    stop: float = 0.0


class Hypervisor:
    """Follows the state of `aws`'s one instance. `state` is the last one that it saw."""

    def __init__(
        self,
        aws: AwsServer,
        worker: Supervisor,
        delays: Delays,
        stopped: Callable[[str], Awaitable[None]],
    ) -> None:
        """Take the machine's worker; `stopped` is told the instance's id whenever it has stopped."""
        self._aws = aws
        self._worker = worker
        self._delays = delays
        self._stopped = stopped
        self.state = ""

    async def run(self) -> NoReturn:
        """Let the worker live and die with the instance until cancelled.

        Raises:
            StartFailed: the worker refused its settings, or does not come up.
        """
        # Without the environment's proxies, which could not reach this machine's loopback.
        async with httpx.AsyncClient(trust_env=False, timeout=MACHINE_WAIT_SECONDS + 5.0) as client:
            machine = _Machine(self._aws, client)
            while True:
                self.state = state = await machine.state_unlike("")
                if state == "stopped":
                    await machine.state_unlike(state)
                elif state == "stopping":  # before it has ever run
                    await self._shut_down(machine)
                else:
                    async with anyio.create_task_group() as tasks:
                        tasks.start_soon(self._live, machine, state, name="machine")
                        await self._until_stopping(machine, state)
                        tasks.cancel_scope.cancel()
                    await self._shut_down(machine)

    async def _until_stopping(self, machine: _Machine, state: str) -> None:
        while state in {"pending", "running"}:
            self.state = state = await machine.state_unlike(state)

    async def _live(self, machine: _Machine, state: str) -> None:
        if state == "pending":
            log.info("the instance boots")
            await anyio.sleep(self._delays.boot / 2)
            await machine.enter("running")
            await anyio.sleep(self._delays.boot / 2)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._worker.run, name="worker")
            await self._worker.wait_ready(report=False)  # who waits for it sees so by itself

    async def _shut_down(self, machine: _Machine) -> None:
        await anyio.sleep(self._delays.stop)
        await machine.enter("stopped")
        self.state = "stopped"
        log.info("the instance has stopped")
        await self._stopped(machine.id)


class _Machine:
    """The door that `local.moto_server` has for the one who plays the machine."""

    def __init__(self, aws: AwsServer, client: httpx.AsyncClient) -> None:
        self._aws = aws
        self._client = client

    @property
    def id(self) -> str:
        """The instance's id; another one after a restart of moto."""
        return self._aws.instance_id

    async def state_unlike(self, state: str) -> str:
        """Return the state as soon as it is not this one; wait for as long as moto does not answer."""
        while True:
            try:
                answer = await self._client.get(self._url, params={"unlike": state})
            except httpx.HTTPError:
                answer = None
            if answer is None or answer.status_code != httpx.codes.OK:
                await anyio.sleep(_AGAIN_SECONDS)
            elif answer.text != state:
                return answer.text

    async def enter(self, state: str) -> None:
        """Say that the machine has come to a state; again until moto hears it."""
        while True:
            try:
                await self._client.put(self._url, content=state)
            except httpx.HTTPError:
                await anyio.sleep(_AGAIN_SECONDS)
            else:
                return

    @property
    def _url(self) -> str:
        return self._aws.machine_url
