"""What a build cost: hours out of times, money out of hours."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from terraform.build_cost import USD_PER_EUR, cost_eur, machine_hours
from terraform.builds import RECIPE_VERSION, RUNNING, Build, Names
from terraform.plan import Unpriced
from terraform.prices import Prices

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 11, 26, 9, 0, tzinfo=UTC)
BUILD = Build("arn", "AVAILABLE", created="2026-11-26T08:00:00.000Z", kind="m7i.large", disk="gp3", disk_gb=30)


def part(kind: str, start: str, end: str | None = None) -> dict[str, str]:
    """Return a part of a build as the API tells it; times as on that day."""
    return {"type": kind, "startTime": f"2026-11-26T{start}"} | ({"endTime": f"2026-11-26T{end}"} if end else {})


@pytest.mark.parametrize(
    ("parts", "minutes"),
    [
        pytest.param([part("BUILD", "08:00:00Z", "08:15:00Z"), part("TEST", "08:20:00Z", "08:30:00Z")], 25, id="both"),
        pytest.param([part("BUILD", "08:00:00Z", "08:15:00Z"), part("DISTRIBUTION", "08:15:00Z", "08:59:00Z")], 15),
        pytest.param([part("BUILD", "08:50:00.123Z")], 10 - 0.123 / 60, id="goes on"),
        pytest.param([part("BUILD", "08:00:00", "08:15:00+00:00")], 15, id="in UTC without saying so"),
        pytest.param([part("BUILD", "09:05:00Z")], 0, id="begins in the future of a clock that is slow"),
        pytest.param([{"type": "BUILD"}], 60, id="not begun"),
        pytest.param([], 60, id="not told"),
    ],
)
def test_the_hours_are_those_with_a_machine(parts: list[dict[str, str]], minutes: float) -> None:
    """Of building and of testing; where no part tells, those of the whole build until now."""
    assert machine_hours(BUILD, parts, NOW) * 60 == pytest.approx(minutes)


def test_hours_that_nobody_tells() -> None:
    """Are not guessed."""
    with pytest.raises(Unpriced, match="Cost Explorer"):
        machine_hours(Build("arn", "AVAILABLE"), [], NOW)


def test_an_hour_costs_machine_address_and_disk() -> None:
    """In EUR, without VAT."""
    usd = 0.12075 + 0.005 + 30 * 0.0952 / 730
    assert cost_eur(BUILD, 1.0, Prices.load(), 1.25) == pytest.approx(usd / 1.25)


def test_what_was_specified_buys_three_minutes_of_a_gpu() -> None:
    """EUR 0.03 pays for the twelve minutes that were specified on a machine without one, which proves nothing."""
    gpu = Build("arn", "AVAILABLE", kind="g4dn.xlarge", disk="gp3", disk_gb=30)
    assert cost_eur(gpu, 4 / 60, Prices.load(), USD_PER_EUR) > 0.03
    assert cost_eur(BUILD, 12 / 60, Prices.load(), USD_PER_EUR) < 0.03


def test_the_rate_is_terraform_s() -> None:
    """The variable's default."""
    text = (ROOT / "terraform" / "variables.tf").read_text(encoding="utf-8")
    assert re.findall(r'^variable "usd_per_eur" \{\n.*\n.*\n  default     = (.+)$', text, re.MULTILINE) == [
        str(USD_PER_EUR)
    ]


def test_names_are_those_of_the_image_s_root() -> None:
    """Everything that is found by its name is made under it."""
    files = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "terraform" / "image").glob("*.tf")}
    main = files["main.tf"].replace("${var.name}", "tl-fif")
    names = Names("tl-fif", "eu-central-1", "123456789012")
    assert f'image         = "{names.image}"' in main
    assert f'ami_parameter = "{names.parameter}"' in main
    assert f'recipe_version = "{RECIPE_VERSION}"' in files["recipe.tf"]
    pipeline = files["pipeline.tf"].replace("${var.name}", "tl-fif").replace("${local.image}", names.image)
    assert f'"{names.source_tag}"   = local.source_sha256' in pipeline
    assert f'"{names.log_group}"' in pipeline
    for kind in ("image_pipeline", "image_recipe"):
        text = files["pipeline.tf"] + files["recipe.tf"]
        assert re.search(
            rf'^resource "aws_imagebuilder_{kind}" "this" \{{\n  name +?= local\.image$', text, re.MULTILINE
        )
    outputs = (ROOT / "terraform" / "image" / "tests" / "image.tftest.hcl").read_text(encoding="utf-8")
    assert f'"{names.pipeline_arn}"' in outputs


def test_every_state_is_known() -> None:
    """One that AWS adds would be taken for the end of a build."""
    import botocore.session  # noqa: PLC0415 - nobody else wants it

    shape = botocore.session.get_session().get_service_model("imagebuilder").shape_for("ImageStatus")
    assert set(shape.enum) - RUNNING == {"AVAILABLE", "CANCELLED", "FAILED", "DEPRECATED", "DELETED", "DISABLED"}
    assert set(shape.enum) >= RUNNING
