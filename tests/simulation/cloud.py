"""EC2 as a simulation sees it: instances that take their time, lists that lag behind, starts that are refused.

`Cloud` stands where `router_lambda.ec2` expects boto3's client.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import anyio
from botocore.exceptions import ClientError

from tests.simulation.ledger import Ledger
from tests.simulation.loop import EPOCH, VirtualLoop


@dataclass(frozen=True)
class Moment:
    """What EC2 said of an instance from some moment on; virtual seconds."""

    at: float
    state: str
    launched_at: float


class Machine:
    """One instance."""

    def __init__(self, instance_id: str, loop: VirtualLoop, ledger: Ledger) -> None:
        self.id = instance_id
        self._loop = loop
        self._ledger = ledger
        self._moments = [Moment(0.0, "stopped", -86_400.0)]
        self._changed = anyio.Event()

    @property
    def state(self) -> str:
        """What it really does."""
        return self._moments[-1].state

    @property
    def launched_at(self) -> float:
        """When it was last started, in virtual seconds."""
        return self._moments[-1].launched_at

    def enter(self, state: str) -> None:
        """Change the state."""
        now = self._loop.time()
        self._moments.append(Moment(now, state, now if state == "pending" else self.launched_at))
        self._ledger.note(self.id, "is", state)
        changed, self._changed = self._changed, anyio.Event()
        changed.set()

    async def until(self, *states: str) -> None:
        """Wait for one of the states."""
        while self.state not in states:
            await self._changed.wait()

    def as_of(self, moment: float) -> Moment:
        """Return what was true then."""
        return next((each for each in reversed(self._moments) if each.at <= moment), self._moments[0])


class Cloud:
    """All instances, with the calls of boto3's client that the Lambdas and the workers use."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, ledger: Ledger, machines: int) -> None:
        self._loop = loop
        self._rng = rng
        self._ledger = ledger
        self.machines = [Machine(f"i-{number}", loop, ledger) for number in range(machines)]
        self.is_stormy = True
        self.has_capacity: Callable[[], bool] = lambda: True

    def describe_instances(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """List the instances as of now or, EC2 being eventually consistent, of a few seconds ago."""
        lag = self._rng.uniform(0.0, 3.0) if self.is_stormy and self._rng.random() < 0.15 else 0.0
        found = []
        for machine in self.machines:
            then = machine.as_of(self._loop.time() - lag)
            launched = datetime.fromtimestamp(EPOCH + then.launched_at, UTC)
            found.append({"InstanceId": machine.id, "State": {"Name": then.state}, "LaunchTime": launched})
        return {"Reservations": [{"Instances": found}]}

    def start_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Begin to start."""
        (machine,) = self._named(InstanceIds)
        if machine.state == "stopping":
            raise _refusal("IncorrectInstanceState")
        if not self.has_capacity():
            self._ledger.counts["refused starts"] += 1
            raise _refusal("InsufficientInstanceCapacity")
        if machine.state == "stopped":
            self._ledger.counts["starts"] += 1
            machine.enter("pending")

    def stop_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Begin to stop."""
        for machine in self._named(InstanceIds):
            if machine.state in {"pending", "running"}:
                machine.enter("stopping")

    def _named(self, ids: list[str]) -> list[Machine]:
        return [machine for machine in self.machines if machine.id in ids]


def _refusal(code: str) -> ClientError:
    return ClientError({"Error": {"Code": code, "Message": "as the simulation wants"}}, "StartInstances")
