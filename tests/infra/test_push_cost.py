"""What a push costs, by the plan of the delivery's root."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from terraform.cost import main
from terraform.plan import Plan, Unpriced
from terraform.prices import Prices
from terraform.push import Push
from terraform.usage import Usage
from tests.infra.cost_table import push
from tests.infra.terraform_world import DELIVERY
from tests.infra.test_cost_table import changed

Plans = dict[str, dict[str, Any]]
PRICES = Prices.load()


def test_a_push_costs_some_cents(plans: Plans) -> None:
    """Its stages, rounded to minutes, and the GPU that answers the smoke test; ten a month are below two dollars."""
    found, usage = push(plans[DELIVERY]), Usage()
    minutes = usage.stage_minutes
    arm = minutes["bake"] + minutes["deploy"] + minutes["smoke"]
    assert sum(line.usd for line in found.push) == pytest.approx(
        (1 + minutes["test"] + arm) * 0.002 + minutes["test"] * 0.005 + arm * 0.0034 + 0.08 * 0.658
    )
    assert sum(line.usd for line in found.push) < 0.25
    assert sum(line.usd for line in found.month) < 2
    assert sum(line.usd for line in found.bake) == pytest.approx(usage.bake_wait_minutes * (0.002 + 0.0034))


def test_the_first_minutes_of_a_month_are_free(plans: Plans) -> None:
    """Those of small machines, the dearest first; a month of one push costs its GPU alone."""
    plan = Plan.from_json(plans[DELIVERY])

    def month(pushes: float, **values: object) -> dict[str, float]:
        found = Push.of(
            changed(plan, "aws_codebuild_project", values), PRICES, dataclasses.replace(Usage(), pushes=pushes)
        )
        return {line.what.partition(",")[0]: line.quantity for line in found.month if "Code" in line.what}

    assert set(month(1).values()) == {0}
    assert month(10)["CodeBuild: x86_64"] == 0
    assert month(10)["CodeBuild: arm64"] == 10 * 14 - 20
    medium = [{"type": "ARM_CONTAINER", "compute_type": "BUILD_GENERAL1_MEDIUM"}]
    assert month(1, environment=medium)["CodeBuild: arm64"] == 22


def test_a_machine_without_a_price_is_named(plans: Plans) -> None:
    """As is what else nobody priced."""
    plan = Plan.from_json(plans[DELIVERY])
    large = [{"type": "ARM_CONTAINER", "compute_type": "BUILD_GENERAL1_LARGE"}]
    with pytest.raises(Unpriced, match="no price for build arm64 large"):
        Push.of(changed(plan, "aws_codebuild_project", {"environment": large}), PRICES, Usage())
    key = dataclasses.replace(plan.resources[0], address="aws_kms_key.x", kind="aws_kms_key")
    with pytest.raises(Unpriced, match=r"aws_kms_key\.x: nobody says .* add a rule to terraform/push\.py"):
        Push.of(dataclasses.replace(plan, resources=(*plan.resources, key)), PRICES, Usage())


def test_the_full_suite_costs_more(plans: Plans) -> None:
    """Which is why the pipeline runs the fast gate, and GitHub's own machines the rest."""
    plan = Plan.from_json(plans[DELIVERY])
    full = dataclasses.replace(plan, variables={**plan.variables, "test_target": "test"})
    costs = [sum(line.usd for line in Push.of(each, PRICES, Usage()).push) for each in (plan, full)]
    assert costs[1] > 2 * costs[0]


def test_the_command_prices_a_push(plans: Plans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a plan of the delivery's root."""
    (tmp_path / "plan.json").write_text(json.dumps(plans[DELIVERY]), encoding="utf-8")
    assert main([str(tmp_path / "plan.json")]) == 0
    assert "**a push**" in capsys.readouterr().out
