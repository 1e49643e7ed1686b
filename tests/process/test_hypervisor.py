"""The machine of the emulated instance, around a stand-in worker."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from botocore.exceptions import ClientError

from local.aws_server import AwsServer
from local.hypervisor import Delays, Hypervisor
from tests.process.test_local_supervisor import supervisor

PATIENCE_SECONDS = 20.0


@pytest.fixture(scope="module")
def aws(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Yield an EC2 whose instance waits for its machine."""
    server = AwsServer(tmp_path_factory.mktemp("aws"), has_machine=True)
    server.start()
    yield server
    server.stop()


class World:
    """An instance, its machine, and what is seen of them."""

    def __init__(self, aws: AwsServer, folder: Path, wish: str, delays: Delays) -> None:
        self.ec2 = aws.client("ec2")
        self.ids = [aws.instance_id]
        self.worker = supervisor(folder, wish)
        self.stopped: list[str] = []
        self.machine = Hypervisor(aws, self.worker, delays, self._note)

    async def _note(self, instance_id: str) -> None:
        self.stopped.append(instance_id)

    def state(self) -> tuple[str, bool]:
        """Return EC2's word for the instance, and whether a worker lives."""
        (reservation,) = self.ec2.describe_instances(InstanceIds=self.ids)["Reservations"]
        return reservation["Instances"][0]["State"]["Name"], self.worker.pid is not None

    async def until(self, state: str, *, worker: bool) -> None:
        """Wait for both."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while self.state() != (state, worker):  # noqa: ASYNC110 - another process changes it
                await anyio.sleep(0.02)


@asynccontextmanager
async def world(
    aws: AwsServer, folder: Path, wish: str = "ready", *, boot: float = 0.0, stop: float = 0.0
) -> AsyncIterator[World]:
    """Yield a world whose instance is stopped."""
    aws.stop_instance()
    made = World(aws, folder, wish, Delays(boot, stop))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(made.machine.run)
        yield made
        tasks.cancel_scope.cancel()


async def test_the_worker_comes_and_goes_with_its_instance(aws: AwsServer, tmp_path: Path) -> None:
    """Through every state that EC2 knows, and somebody is told when it has stopped."""
    async with world(aws, tmp_path, boot=1.0, stop=0.5) as here:
        assert here.state() == ("stopped", False)
        here.ec2.start_instances(InstanceIds=here.ids)
        assert here.state() == ("pending", False)
        await here.until("running", worker=False)
        await here.until("running", worker=True)
        here.ec2.stop_instances(InstanceIds=here.ids)
        await here.until("stopping", worker=False)
        assert here.stopped == []
        await here.until("stopped", worker=False)
        await anyio.sleep(0.1)
        assert here.stopped == here.ids


async def test_an_instance_that_stops_cannot_be_started(aws: AwsServer, tmp_path: Path) -> None:
    """As in EC2; once it has stopped it can."""
    async with world(aws, tmp_path, stop=0.5) as here:
        here.ec2.start_instances(InstanceIds=here.ids)
        await here.until("running", worker=True)
        here.ec2.stop_instances(InstanceIds=here.ids)
        with pytest.raises(ClientError, match="IncorrectInstanceState"):
            here.ec2.start_instances(InstanceIds=here.ids)
        await here.until("stopped", worker=False)
        here.ec2.start_instances(InstanceIds=here.ids)
        await here.until("running", worker=True)


async def test_a_boot_can_be_broken_off(aws: AwsServer, tmp_path: Path) -> None:
    """No worker ever lives then."""
    async with world(aws, tmp_path, boot=60.0) as here:
        here.ec2.start_instances(InstanceIds=here.ids)
        await anyio.sleep(0.2)
        here.ec2.stop_instances(InstanceIds=here.ids)
        await here.until("stopped", worker=False)


async def test_a_start_is_a_launch(aws: AwsServer, tmp_path: Path) -> None:
    """EC2 says when an instance was last started, and a second call changes nothing."""

    def launched() -> Any:
        (reservation,) = here.ec2.describe_instances(InstanceIds=here.ids)["Reservations"]
        return reservation["Instances"][0]["LaunchTime"]

    async with world(aws, tmp_path) as here:
        before = launched()
        await anyio.sleep(1.1)  # EC2 counts whole seconds
        here.ec2.start_instances(InstanceIds=here.ids)
        assert launched() > before
        await here.until("running", worker=True)
        now = launched()
        here.ec2.start_instances(InstanceIds=here.ids)
        assert (here.state(), launched()) == (("running", True), now)


async def test_a_crash_is_the_supervisors_affair(aws: AwsServer, tmp_path: Path) -> None:
    """The instance runs on, and so does a new worker."""
    async with world(aws, tmp_path) as here:
        here.ec2.start_instances(InstanceIds=here.ids)
        await here.until("running", worker=True)
        with anyio.fail_after(PATIENCE_SECONDS):
            await here.worker.wait_ready()
        first = here.worker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        with anyio.fail_after(PATIENCE_SECONDS):
            while here.worker.pid in {None, first}:  # noqa: ASYNC110 - another process changes it
                await anyio.sleep(0.02)
        assert here.state() == ("running", True)
