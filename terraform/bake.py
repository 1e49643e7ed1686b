"""What a build of the image costs, by a plan of terraform/image or by its hours, and what stays. Pure, like bill.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from terraform.bill import Line, check
from terraform.plan import HOURS_PER_MONTH, Plan
from terraform.prices import Prices
from terraform.usage import Usage

PIPELINE: Final = "aws_imagebuilder_image_pipeline"
"""A plan that has one is of the image."""

_MACHINES: Final = "aws_imagebuilder_infrastructure_configuration"
_RECIPE: Final = "aws_imagebuilder_image_recipe"
_KEPT: Final = "aws_imagebuilder_lifecycle_policy"
_PRICED: Final = (_MACHINES, _RECIPE, _KEPT, "aws_cloudwatch_log_group", "aws_s3_bucket")


def machine_lines(kind: str, disk: str, disk_gb: float, hours: float, prices: Prices) -> tuple[Line, ...]:
    """Return the lines of the machines that build and test an image, for their hours together.

    Raises:
        Unpriced: the list has no such type or disk.
    """
    return (
        Line(f"Builder and test machine: {kind}", hours, prices.of(f"instance {kind}")),
        Line("Their public IPv4 address", hours, prices.of("public ipv4")),
        Line("Their disks", disk_gb * hours / HOURS_PER_MONTH, prices.of(disk)),
    )


@dataclass(frozen=True, slots=True)
class Bake:
    """The lines of one build, and those of a month, whether anything is built or not."""

    build: tuple[Line, ...]
    month: tuple[Line, ...]

    @classmethod
    def of(cls, plan: Plan, prices: Prices, usage: Usage) -> Bake:
        """Price a plan.

        Raises:
            Unpriced: see `terraform.bill.check`.
        """
        check(plan, prices, _PRICED, "terraform/bake.py")
        (machines,), (recipe,), (kept,) = (plan.of(kind) for kind in (_MACHINES, _RECIPE, _KEPT))
        (kind,) = machines.values["instance_types"]
        (disk,) = (disk for mapping in recipe.values["block_device_mapping"] for disk in mapping["ebs"])
        images = kept.values["policy_detail"][0]["filter"][0]["value"]
        return cls(
            build=(
                *machine_lines(kind, disk["volume_type"], disk["volume_size"], usage.bake_hours, prices),
                Line("CloudWatch: GB of logs", usage.bake_log_mb / 1e3, prices.of("log")),
            ),
            month=(
                Line(f"Snapshots: of the newest {images}", images * usage.ami_gb, prices.of("snapshot")),
                Line("S3: GB kept", (usage.archive_mb + usage.bake_log_mb) / 1e3, prices.of("s3 storage")),
            ),
        )
