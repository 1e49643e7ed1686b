"""`python -m tests.infra.cost_table`: writes the generated part of docs/cost.md anew (`make cost-table`)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from local.run_directory import RunDirectory
from terraform.cost import Cost, free_list, table
from terraform.plan import Plan
from terraform.prices import Prices
from terraform.usage import Usage
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.terraform_world import PROFILES, REPOSITORY, Workspace

PAGE: Final = REPOSITORY / "docs" / "cost.md"
MARK: Final = "<!-- cost-table -->\n"
"""The generated part follows it, up to the end of the page."""

TITLES: Final = {"lean": "the quickstart", "seed": "the letter of the requirements"}


def cost(plan: Mapping[str, Any]) -> Cost:
    """Add up a plan as it is documented, with the usual use."""
    return Cost.of(Plan.from_json(plan), Prices.load(), Usage())


def generated(plans: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the generated part for the plans of all profiles."""
    prices = Prices.load()
    parts = [
        "\n## What each part costs\n",
        f"Written by `make cost-table`; prices of {prices.region}, {prices.date}, in USD without VAT. What is free",
        "each month counts as free, as if the account held nothing else. What a plan cannot say is assumed in",
        "`terraform/usage.py`; `terraform show -json PLAN | python -m terraform.cost --gpu-hours 4` computes another",
        "month.",
    ]
    for profile in PROFILES:
        parts += [f"\n### `profiles/{profile}.tfvars`: {TITLES[profile]}\n", table(cost(plans[profile]))]
    parts += ["\n### What costs nothing\n", free_list(Plan.from_json(plans["seed"]), prices), ""]
    return "\n".join(parts)


def main() -> None:
    """Plan every profile against an emulated AWS and write the page."""
    before, mark, _ = PAGE.read_text(encoding="utf-8").partition(MARK)
    if not mark:
        sys.exit(f"{PAGE} has no line {MARK.strip()}; put it where the table is to begin")
    with RunDirectory("tl-fif-cost-table-") as directory, tempfile.TemporaryDirectory() as folder:
        aws = EmulatedAws(directory.path)
        aws.start()
        workspace = Workspace(Path(folder), aws)
        workspace.init()
        plans = {profile: workspace.plan(profile) for profile in PROFILES}
        aws.stop()
    PAGE.write_text(f"{before}{mark}{generated(plans)}", encoding="utf-8")


if __name__ == "__main__":
    main()
