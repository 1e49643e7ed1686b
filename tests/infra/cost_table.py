"""`python -m tests.infra.cost_table`: writes the generated part of docs/cost.md anew (`make cost-table`)."""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local.run_directory import RunDirectory
from terraform.bake import Bake
from terraform.cost import Cost, bake_table, free_list, push_table, table
from terraform.plan import Plan
from terraform.prices import Prices
from terraform.push import Push
from terraform.usage import Usage
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.terraform_world import DELIVERY, IMAGE, PLANS, PROFILES, REPOSITORY, ROOTS, Workspace

PAGE: Final = REPOSITORY / "docs" / "cost.md"
MARK: Final = "<!-- cost-table -->\n"
"""The generated part follows it, up to the end of the page."""

TITLES: Final = {"lean": "the quickstart", "seed": "the letter of the requirements"}


def cost(plan: Mapping[str, Any]) -> Cost:
    """Add up a plan as it is documented, with the usual use."""
    return Cost.of(Plan.from_json(plan), Prices.load(), Usage())


def bake(plan: Mapping[str, Any]) -> Bake:
    """Price a plan of the image's root likewise."""
    return Bake.of(Plan.from_json(plan), Prices.load(), Usage())


def push(plan: Mapping[str, Any]) -> Push:
    """Price a plan of the delivery's root likewise."""
    return Push.of(Plan.from_json(plan), Prices.load(), Usage())


def generated(plans: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the generated part for the plans of all profiles and of the other roots."""
    prices = Prices.load()
    pushes = push(plans[DELIVERY])
    hours = sum(line.usd for line in pushes.month) / prices.of("instance g4dn.xlarge").usd
    parts = [
        "\n## What each part costs\n",
        f"Written by `make cost-table`; prices of {prices.region}, {prices.date}, in USD without VAT. What is free",
        "each month counts as free, as if the account held nothing else. What a plan cannot say is assumed in",
        "`terraform/usage.py`; `terraform show -json PLAN | python -m terraform.cost --gpu-hours 4` computes another",
        "month.",
    ]
    for profile in PROFILES:
        parts += [f"\n### `profiles/{profile}.tfvars`: {TITLES[profile]}\n", table(cost(plans[profile]))]
    parts += [
        f"\n### `terraform/{IMAGE}`: baking the image\n",
        bake_table(bake(plans[IMAGE])),
        f"\nA build takes the place of {Usage().bake_hours} hours of GPU. The snapshot of one image is in the tables",
        "above too; a second one (`keep_images`) would cost as much again, for which `lean` has no room.",
        f"\n### `terraform/{DELIVERY}`: a push\n",
        push_table(pushes),
        f"\nWithout pushes it costs nothing. {pushes.pushes:g} of them a month take the place of {hours:.1f} hours of",
        "GPU; what a baked image costs besides is in the table above. Whoever deploys by hand needs none of it.",
    ]
    seed, image, delivery = (Plan.from_json(plans[name]) for name in ("seed", IMAGE, DELIVERY))
    everything = dataclasses.replace(seed, resources=seed.resources + image.resources + delivery.resources)
    parts += ["\n### What costs nothing\n", free_list(everything, prices), ""]
    return "\n".join(parts)


def main() -> None:
    """Plan every profile and root against an emulated AWS and write the page."""
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        sys.exit(f"{PAGE} has no line {MARK.strip()}; put it where the table is to begin")
    with RunDirectory("tl-fif-cost-table-") as directory, tempfile.TemporaryDirectory() as folder:
        aws = EmulatedAws(directory.path)
        aws.start()
        workspace = Workspace(Path(folder), aws)
        for root in (".", *ROOTS):
            workspace.init(root)
        plans = {profile: workspace.plan(profile) for profile in PLANS}
        aws.stop()
    PAGE.write_text(f"{before}{mark}{generated(plans)}", encoding="utf-8")


if __name__ == "__main__":
    main()
