"""From a plan of terraform/delivery to what a push costs, and what some pushes a month do. Pure, like bill.py."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from terraform.bill import Line, check
from terraform.plan import Plan
from terraform.prices import Prices
from terraform.usage import Usage

DELIVERY: Final = "aws_codepipeline"
"""A plan that has one is of the delivery."""

_PROJECT: Final = "aws_codebuild_project"
_PRICED: Final = (DELIVERY, _PROJECT, "aws_cloudwatch_log_group", "aws_s3_bucket", "aws_sns_topic")
_ARCHITECTURES: Final = {"ARM_CONTAINER": "arm64", "LINUX_CONTAINER": "x86_64"}
_SIZE: Final = "BUILD_GENERAL1_"
_FREE: Final = "small"
"""Size of the machines whose first minutes are free."""

_GPU: Final = "g4dn.xlarge"
"""Of which type the GPU is that the smoke test wakes, unless somebody chose another."""


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage's machine, and for how many minutes it runs."""

    name: str
    architecture: str
    size: str
    minutes: float


@dataclass(frozen=True, slots=True)
class Push:
    """What pushes cost.

    Attributes:
        push: the lines of one push that bakes nothing.
        bake: what comes on top where an image is baked: the wait for it. `terraform.bake` has the machines that bake.
        month: the lines of a month of pushes, beyond what is free.
        pushes: how many that are.
    """

    push: tuple[Line, ...]
    bake: tuple[Line, ...]
    month: tuple[Line, ...]
    pushes: float

    @classmethod
    def of(cls, plan: Plan, prices: Prices, usage: Usage) -> Push:
        """Price a plan.

        Raises:
            Unpriced: see `terraform.bill.check`.
        """
        check(plan, prices, _PRICED, "terraform/push.py")
        stages = list(_stages(plan, usage))
        waits = [
            _Stage(each.name, each.architecture, each.size, usage.bake_wait_minutes)
            for each in stages
            if each.name == "bake"
        ]
        gpu = Line(f"The GPU that the smoke test wakes: {_GPU}", usage.smoke_gpu_hours, prices.of(f"instance {_GPU}"))
        return cls(
            push=(*_lines(stages, usage.source_minutes, prices), gpu),
            bake=tuple(_lines(waits, 0.0, prices)),
            month=tuple(_month(stages, prices, usage)),
            pushes=usage.pushes,
        )


def _stages(plan: Plan, usage: Usage) -> Iterator[_Stage]:
    full = plan.variables.get("test_target") == "test"
    minutes = dict(usage.stage_minutes) | ({"test": usage.full_test_minutes} if full else {})
    for each in plan.of(_PROJECT):
        (environment,) = each.values["environment"]
        name = each.values["name"].rpartition("-")[2]
        size = environment["compute_type"].removeprefix(_SIZE).lower()
        yield _Stage(name, _ARCHITECTURES[environment["type"]], size, minutes[name])


def _action_minutes(stages: list[_Stage], source_minutes: float) -> float:
    return source_minutes + sum(each.minutes for each in stages)


def _machines(stages: list[_Stage]) -> dict[tuple[str, str], float]:
    """Return minutes by architecture and size."""
    found: dict[tuple[str, str], float] = {}
    for each in stages:
        key = each.architecture, each.size
        found[key] = found.get(key, 0.0) + each.minutes
    return found


def _lines(stages: list[_Stage], source_minutes: float, prices: Prices) -> Iterator[Line]:
    if stages:
        yield Line("CodePipeline: actions", _action_minutes(stages, source_minutes), prices.of("action minute"))
    for (architecture, size), minutes in _machines(stages).items():
        yield Line(f"CodeBuild: {architecture}, {size}", minutes, prices.of(f"build {architecture} {size}"))


def _month(stages: list[_Stage], prices: Prices, usage: Usage) -> Iterator[Line]:
    """Yield the lines of a month, none of whose pushes bakes; the free minutes go to the dearest machines first."""
    free = prices.free["action minute"]
    minutes = usage.pushes * _action_minutes(stages, usage.source_minutes)
    yield Line(f"CodePipeline: actions beyond the {free:,} free", max(0.0, minutes - free), prices.of("action minute"))
    left = prices.free["build minute"]
    machines = [
        (prices.of(f"build {kind} {size}"), kind, size, each) for (kind, size), each in _machines(stages).items()
    ]
    for price, kind, size, each in sorted(machines, key=lambda machine: -machine[0].usd):
        taken = min(left, usage.pushes * each) if size == _FREE else 0.0
        left -= taken
        what = f"CodeBuild: {kind}, {size}" + (f", beyond {taken:g} free" if taken else "")
        yield Line(what, usage.pushes * each - taken, price)
    yield Line("The GPU that smoke tests wake", usage.pushes * usage.smoke_gpu_hours, prices.of(f"instance {_GPU}"))
    kept = usage.pushes * usage.push_mb / 1e3 * usage.push_days / 30
    yield Line("S3: GB kept", kept + usage.state_mb / 1e3, prices.of("s3 storage"))
    logged = usage.pushes * usage.push_log_mb / 1e3
    free = prices.free["log"]
    yield Line(f"CloudWatch: GB of logs beyond the {free:,} free", max(0.0, logged - free), prices.of("log"))
