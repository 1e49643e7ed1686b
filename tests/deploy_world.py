"""Deployments in a fake account of AWS, where time passes without waiting."""

from __future__ import annotations

import json
from argparse import Namespace
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from terraform.aliases import Outcome
from terraform.deployment import Aws, Deployment, Plan
from terraform.rollback import roll_back
from terraform.stop import Stop
from terraform.summary import Release
from tests.fake_deploy_aws import NAME, Calls, FakeCloudWatch, FakeEc2, FakeSsm
from tests.fake_lambda import KINDS, FakeLambda

BEFORE: Final = dict.fromkeys(KINDS, "7")
"""Where the aliases lead before a deployment of `NEW`, by function."""

AFTER: Final = dict.fromkeys(KINDS, "8")
"""And after it."""


class Killed(BaseException):
    """The process is gone at once, and nothing of it runs any more."""


class FakeStop(Stop):
    """Waits without waiting: time goes on instead."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world

    def pause(self, seconds: float) -> None:
        """Let time go on."""
        super().pause(0)
        self._world.time += timedelta(seconds=seconds)
        self._world.waited += seconds
        if self._world.meanwhile is not None and seconds:
            self._world.meanwhile(self._world.waited)


class World:
    """An account of AWS, and deployments in it.

    Attributes:
        time: what the clock says.
        waited: for how many seconds the deployments have waited.
        meanwhile: what happens while they do.
        told: what they said.
    """

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 26, 12, 0, 30, tzinfo=UTC)
        self.waited = 0.0
        self.meanwhile: Callable[[float], None] | None = None
        self.told: list[str] = []
        self.calls = Calls()
        self.functions = FakeLambda(self.calls)
        self.ssm = FakeSsm(self.calls)
        self.cloudwatch = FakeCloudWatch(self.calls)
        self.ec2 = FakeEc2(self.calls)
        self.aws = Aws(self.functions, self.ssm, self.cloudwatch, self.ec2, "eu-central-1")

    def deployment(
        self, package: Path, *, version: str = "0.9.0", commit: str = "c9", weight: float = 0.1
    ) -> Deployment:
        """Return a deployment of the zip in a file."""
        plan = Plan(NAME, package, weight)
        return Deployment(self.aws, plan, Release(version, commit), FakeStop(self), self.told.append, lambda: self.time)

    def record(self) -> Any:
        """Return the newest record of a deployment."""
        return json.loads(self.ssm.values[f"/{NAME}/deployment"][-1])

    def roll_back(
        self, to: str | None = None, function: str | None = None, version: str | None = None, commit: str | None = None
    ) -> list[Outcome]:
        """Roll back, as by the command line."""
        options = Namespace(name=NAME, to=to, function=function, function_version=version, of_commit=commit)
        outcomes, _ = roll_back(self.aws, options, self.told.append)
        return outcomes
