"""What publisher, gauges and killer read from their environment, and what they say of a wrong one."""

from __future__ import annotations

import pytest

from router_lambda.settings import RouterConfigError
from router_lambda.watch_settings import CostSettings, GaugesSettings, KillerSettings

COST = {
    "TLFIF_BUCKET": "tl-fif",
    "TLFIF_BUDGET_EUR": "20",
    "TLFIF_FIXED_USD_PER_MONTH": "12.5",
    "TLFIF_GPU_USD_PER_HOUR": "0.658",
    "TLFIF_FALLBACK_EUR_PER_USD": "0.8787",
}
KILLER = {"TLFIF_BUCKET": "tl-fif", "TLFIF_BUDGET_EUR": "20"}


def problems(environment: dict[str, str], part: type[CostSettings | KillerSettings] = CostSettings) -> list[str]:
    """Return what is said of an environment that is refused."""
    with pytest.raises(RouterConfigError) as refused:
        part.from_environment(environment)
    return refused.value.problems


def test_five_variables_are_enough() -> None:
    """By default Cost Explorer is asked at every run, as required, and for the whole account."""
    assert CostSettings.from_environment(COST) == CostSettings(
        bucket="tl-fif",
        budget_eur=20.0,
        fixed_usd_per_month=12.5,
        gpu_usd_per_hour=0.658,
        fallback_eur_per_usd=0.8787,
        gpu_type="g4dn.xlarge",
        bill_hours=0,
        cost_tag=None,
    )


def test_the_others_come_from_their_variables() -> None:
    """All of them set; a tag's value may have the sign in it."""
    others = {"TLFIF_GPU_TYPE": "g5.xlarge", "TLFIF_BILL_HOURS": "24", "TLFIF_COST_TAG": "project=tl=fif"}
    found = CostSettings.from_environment(COST | others)
    assert (found.gpu_type, found.bill_hours, found.cost_tag) == ("g5.xlarge", 24, ("project", "tl=fif"))


@pytest.mark.parametrize("environment", [{}, dict.fromkeys(COST, "")])
def test_all_that_is_missing_is_named_at_once(environment: dict[str, str]) -> None:
    """In the order of the page."""
    said = problems(environment)
    assert len(said) == len(COST)
    assert all(name in problem for name, problem in zip(COST, said, strict=True))


def test_all_that_is_wrong_is_named_at_once() -> None:
    """The optional ones as well."""
    wrong = {"TLFIF_BUDGET_EUR": "0", "TLFIF_BILL_HOURS": "25", "TLFIF_COST_TAG": "project"}
    assert problems(COST | wrong) == [
        "set TLFIF_BUDGET_EUR to a number that is more than 0 and at most 10000, like 12.5",
        "set TLFIF_BILL_HOURS to a whole number from 0 to 24",
        "write TLFIF_COST_TAG as name=value, like project=tl-fif",
    ]


def test_fixed_costs_may_be_none() -> None:
    """A price may not."""
    assert CostSettings.from_environment(COST | {"TLFIF_FIXED_USD_PER_MONTH": "0"}).fixed_usd_per_month == 0.0
    for name in ("TLFIF_GPU_USD_PER_HOUR", "TLFIF_FALLBACK_EUR_PER_USD"):
        assert problems(COST | {name: "0"}) == [f"set {name} to a number that is more than 0, like 12.5"]


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1,5", "1e3", "nan", "inf", " 1", "1 ", ".5", "1.", "1_0", "x", "9" * 400]
)
@pytest.mark.parametrize("name", ["TLFIF_FIXED_USD_PER_MONTH", "TLFIF_GPU_USD_PER_HOUR", "TLFIF_FALLBACK_EUR_PER_USD"])
def test_what_is_no_amount_is_refused(name: str, text: str) -> None:
    """A price that is read wrongly makes every figure wrong."""
    (problem,) = problems(COST | {name: text})
    assert problem.startswith(f"set {name} to a number that is ")


@pytest.mark.parametrize("tag", ["project", "project=", "=tl-fif", "="])
def test_half_a_tag_is_refused(tag: str) -> None:
    """It would find no cost at all."""
    assert problems(COST | {"TLFIF_COST_TAG": tag}) == ["write TLFIF_COST_TAG as name=value, like project=tl-fif"]


def test_the_gauges_need_the_queue_alone() -> None:
    """The tag has a default."""
    found = GaugesSettings.from_environment({"TLFIF_REDIS_URL": "redis://cache:6379/0"})
    assert found == GaugesSettings("redis://cache:6379/0", ("env", "tinyllama"))
    with pytest.raises(RouterConfigError, match=r"set TLFIF_REDIS_URL; write TLFIF_GPU_TAG as name=value"):
        GaugesSettings.from_environment({"TLFIF_GPU_TAG": "gpu"})


def test_the_killer_needs_the_bucket_and_the_cap() -> None:
    """It has no way to Redis."""
    assert KillerSettings.from_environment(KILLER) == KillerSettings("tl-fif", ("env", "tinyllama"), 20.0)


def test_all_that_is_wrong_for_the_killer_is_named_at_once() -> None:
    """So that one deployment mends it: without it nobody stops anything."""
    said = problems({"TLFIF_GPU_TAG": "gpu"}, KillerSettings)
    assert [name in each for name, each in zip(("BUCKET", "GPU_TAG", "BUDGET_EUR"), said, strict=True)] == [True] * 3


@pytest.mark.parametrize(("text", "eur"), [("20", 20.0), ("19.50", 19.5), ("0.01", 0.01), ("10000", 10_000.0)])
def test_the_cap_is_in_eur_a_month(text: str, eur: float) -> None:
    """The same for those who say what was spent and for who stops the GPUs."""
    assert CostSettings.from_environment(COST | {"TLFIF_BUDGET_EUR": text}).budget_eur == eur
    assert KillerSettings.from_environment(KILLER | {"TLFIF_BUDGET_EUR": text}).budget_eur == eur


@pytest.mark.parametrize(
    "text", ["0", "0.0", "-1", "+20", "10000.01", "10001", "20,5", "2e1", "nan", "inf", "€20", " 20", "\u0662\u0660"]
)
def test_any_other_cap_is_refused(text: str) -> None:
    """A cap that is read wrongly is none, or stops everything."""
    said = ["set TLFIF_BUDGET_EUR to a number that is more than 0 and at most 10000, like 12.5"]
    assert problems(KILLER | {"TLFIF_BUDGET_EUR": text}, KillerSettings) == said
