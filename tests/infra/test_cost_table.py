"""What both profiles cost a month, by their plans; and that the page, the profiles and the budget say the same."""

from __future__ import annotations

import copy
import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import pytest

from terraform.bake import Bake
from terraform.bill import Line, bill
from terraform.cost import Cost, main, table
from terraform.plan import Plan, Unpriced, runs_per_month
from terraform.prices import FILE, Price, Prices
from terraform.usage import Usage
from tests.infra.cost_table import MARK, PAGE, bake, cost, generated
from tests.infra.terraform_world import IMAGE, PROFILES

Plans = dict[str, dict[str, Any]]
PRICES = Prices.load()

# The plans


def test_the_quickstart_costs_at_most_twenty_euros(plans: Plans) -> None:
    """Ten hours of GPU included, without VAT."""
    lean, seed = cost(plans["lean"]), cost(plans["seed"])
    print(f"\n{table(lean)}\n\n{table(seed)}")  # noqa: T201 - the figures are of interest whether it passes or not
    assert lean.total_eur <= 20
    assert lean.hours_under(lean.cap_eur) >= 10
    # Why there are two profiles.
    assert seed.fixed_usd / seed.usd_per_eur > 5 * 20
    assert seed.hours_under(seed.cap_eur) == 0


@pytest.mark.parametrize("profile", PROFILES)
def test_a_profile_knows_what_it_costs(plans: Plans, profile: str) -> None:
    """The publisher reckons with these figures until Cost Explorer knows better."""
    variables = Plan.from_json(plans[profile]).variables
    found = cost(plans[profile])
    assert variables["fixed_usd_per_month"] == pytest.approx(found.fixed_usd, rel=0.02), f"{found.fixed_usd:.2f}"
    assert variables["gpu_usd_per_hour"] == pytest.approx(found.gpu_usd / found.gpu_hours)


def test_the_page_shows_what_the_plans_say(plans: Plans) -> None:
    """To the letter; `make cost-table` writes it anew."""
    _, mark, written = PAGE.read_text(encoding="utf-8").partition(MARK)
    assert mark, f"docs/cost.md has no line {MARK.strip()}"
    assert written == generated(plans), "docs/cost.md is out of date; run: make cost-table"


def test_what_nobody_priced_is_named(plans: Plans) -> None:
    """By its address, with what to do."""
    plan = copy.deepcopy(plans["lean"])
    nat = {"address": "aws_nat_gateway.x", "type": "aws_nat_gateway", "mode": "managed", "values": {}}
    plan["planned_values"]["root_module"].setdefault("resources", []).append(nat)
    with pytest.raises(Unpriced, match=r"aws_nat_gateway\.x: nobody says .* add a rule to terraform/bill\.py"):
        cost(plan)


Change = tuple[str, str, str, object]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("lean", "aws_elasticache_replication_group", "node_type", "cache.r7g.large"), "for node valkey cache.r7g"),
        (("lean", "aws_instance", "instance_type", "p5.48xlarge"), "no price for instance p5"),
        (("lean", "aws_instance", "root_block_device", [{"volume_type": "io2", "volume_size": 9}]), "type io2"),
        (("lean", "aws_vpc_endpoint", "vpc_endpoint_type", "Interface"), "only endpoints of the type Gateway"),
        (("lean", "aws_lambda_function", "function_name", "tl-fif-new"), "say in terraform/usage.py"),
        (("lean", "aws_cloudwatch_event_rule", "schedule_expression", "cron(0 8 * * ? *)"), "teach terraform/plan.py"),
        (("seed", "aws_lb", "load_balancer_type", "application"), "no network load balancer"),
    ],
)
def test_what_has_no_price_is_named(plans: Plans, change: Change, said: str) -> None:
    """Another kind of something that is priced counts as unpriced, not as nothing."""
    profile, kind, name, value = change
    with pytest.raises(Unpriced, match=said):
        bill(changed(Plan.from_json(plans[profile]), kind, {name: value}), PRICES, Usage())


def changed(plan: Plan, kind: str, values: dict[str, object]) -> Plan:
    """Return a plan in which every resource of a type has other values."""
    resources = (
        dataclasses.replace(each, values={**each.values, **values}) if each.kind == kind else each
        for each in plan.resources
    )
    return dataclasses.replace(plan, resources=tuple(resources))


def test_prices_are_those_of_one_region(plans: Plans) -> None:
    """Another one has others."""
    plan = Plan.from_json(plans["lean"])
    with pytest.raises(Unpriced, match="the plan is for us-east-1"):
        bill(dataclasses.replace(plan, variables={**plan.variables, "region": "us-east-1"}), PRICES, Usage())


def test_a_canary_s_schedule_counts(plans: Plans) -> None:
    """Where the plan knows the stack's template; and what else is in a stack is not overlooked."""
    plan = Plan.from_json(plans["seed"])

    def runs(kind: str) -> float:
        template = {"Resources": {"X": {"Type": kind, "Properties": {"Schedule": {"Expression": "rate(1 hour)"}}}}}
        other = changed(plan, "aws_cloudformation_stack", {"template_body": json.dumps(template)})
        return next(line.quantity for line in bill(other, PRICES, Usage()) if "Synthetics" in line.what)

    assert runs("AWS::Synthetics::Canary") == 730
    with pytest.raises(Unpriced, match="makes X, an AWS::EC2::NatGateway"):
        runs("AWS::EC2::NatGateway")


# The image


def test_a_build_costs_what_its_machines_do(plans: Plans) -> None:
    """Half a euro at most; what stays is one snapshot, as the quickstart's table has it."""
    found = bake(plans[IMAGE])
    hours = Usage().bake_hours
    assert sum(line.usd for line in found.build) == pytest.approx(
        hours * (0.658 + 0.005 + 30 * 0.0952 / 730) + 0.002 * 0.63
    )
    assert sum(line.usd for line in found.build) < 0.5
    (snapshot,) = (line for line in found.month if "Snapshots" in line.what)
    assert snapshot.usd == next(line.usd for line in cost(plans["lean"]).lines if "snapshot" in line.what)


def test_a_second_image_has_no_room(plans: Plans) -> None:
    """Why one is kept unless somebody wants more."""
    lean = cost(plans["lean"])
    (snapshot,) = (line for line in bake(plans[IMAGE]).month if "Snapshots" in line.what)
    assert lean.total_eur + snapshot.usd / lean.usd_per_eur > 20


def test_what_nobody_priced_for_the_image_is_named(plans: Plans) -> None:
    """With the file that lacks a rule, or the type of machine that lacks a price."""
    plan = Plan.from_json(plans[IMAGE])
    machines = "aws_imagebuilder_infrastructure_configuration"
    with pytest.raises(Unpriced, match="no price for instance p5"):
        Bake.of(changed(plan, machines, {"instance_types": ["p5.48xlarge"]}), PRICES, Usage())
    volume = dataclasses.replace(plan.resources[0], address="aws_ebs_volume.x", kind="aws_ebs_volume")
    with pytest.raises(Unpriced, match=r"aws_ebs_volume\.x: nobody says .* add a rule to terraform/bake\.py"):
        Bake.of(dataclasses.replace(plan, resources=(*plan.resources, volume)), PRICES, Usage())


def test_the_command_prices_a_build(plans: Plans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a plan of the image's root."""
    (tmp_path / "plan.json").write_text(json.dumps(plans[IMAGE]), encoding="utf-8")
    assert main([str(tmp_path / "plan.json")]) == 0
    printed = capsys.readouterr().out
    assert "Builder and test machine: g4dn.xlarge" in printed
    assert "**a build**" in printed


def test_a_second_gpu_makes_the_dashboard_cost(plans: Plans) -> None:
    """It is free with as many metrics as it has with one."""
    plan = Plan.from_json(plans["lean"])
    two = dataclasses.replace(plan, resources=(*plan.resources, *plan.of("aws_instance")))
    assert [[line.usd for line in bill(each, PRICES, Usage()) if "dashboard" in line.what] for each in (plan, two)] == [
        [0],
        [3],
    ]


# The arithmetic


@pytest.mark.parametrize(
    ("expression", "runs"),
    [("rate(1 minute)", 43_800), ("rate(15 minutes)", 2_920), ("rate(1 hour)", 730), ("rate(2 days)", 730 / 48)],
)
def test_a_month_has_730_hours(expression: str, runs: float) -> None:
    """For every schedule."""
    assert runs_per_month(expression) == pytest.approx(runs)


def test_hours_are_what_is_left_under_the_cap() -> None:
    """Of the fixed costs and the GPU's, with its address."""
    lines = (
        Line("node", 730, Price(0.01, "hour")),
        Line("gpu", 10, Price(0.6, "hour"), by_gpu_hour=True),
        Line("address", 10, Price(0.005, "hour"), by_gpu_hour=True),
    )
    found = Cost(lines, gpu_hours=10, usd_per_eur=1.1, cap_eur=20)

    assert found.fixed_usd == pytest.approx(7.3)
    assert found.gpu_usd == pytest.approx(6.05)
    assert found.total_eur == pytest.approx(13.35 / 1.1)
    assert found.hours_under(20) == pytest.approx((22 - 7.3) / 0.605)
    assert found.hours_under(5) == 0
    assert "EUR 12.14" in table(found)


def test_every_price_has_a_unit_and_a_source() -> None:
    """And what is free or costs nothing, a reason."""
    read = json.loads(FILE.read_text(encoding="utf-8"))
    assert all(each["usd"] > 0 and each["unit"] and len(each["source"]) > 10 for each in read["prices"].values())
    assert all(each["count"] > 0 and len(each["source"]) > 10 for each in read["free"].values())
    assert all(len(reason.split()) > 1 for reason in read["nothing"].values())


# The command


def test_the_command_prints_the_table(plans: Plans, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of a file, with another use and another rate."""
    (tmp_path / "plan.json").write_text(json.dumps(plans["lean"]), encoding="utf-8")
    assert main([str(tmp_path / "plan.json"), "--gpu-hours", "4", "--eur-per-usd", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "with the GPU's 4 hours" in printed
    assert "at USD 2.0 for a euro" in printed
    assert "- `aws_iam_role`: IAM costs nothing" in printed


@pytest.mark.parametrize(("limit", "status"), [("1000", 0), ("1", 1)])
def test_the_command_checks_a_limit(
    plans: Plans, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], limit: str, status: int
) -> None:
    """By its status; the plan comes from standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO(json.dumps(plans["lean"])))
    assert main(["--check", limit]) == status
    assert ("is more than EUR 1.00" in capsys.readouterr().err) == bool(status)


@pytest.mark.parametrize(("text", "said"), [("{}", "terraform plan -out=PLAN"), ("Plan: 3 to add", "this is no JSON")])
def test_the_command_says_what_it_wants(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:
    """Status 2, and no trace."""
    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    assert main([]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--gpu-hours=-3", "--requests=nan", "--eur-per-usd=0", "--check=inf", "--check=x"])
def test_the_command_refuses_numbers_that_are_none(option: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A month of less than nothing would look cheap."""
    with pytest.raises(SystemExit, match="2"):
        main([option])
    assert option.partition("=")[0] in capsys.readouterr().err
