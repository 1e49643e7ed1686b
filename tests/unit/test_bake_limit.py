"""What a bake cost: held against a limit at once, by the build's own times, and a day later by Cost Explorer."""

from __future__ import annotations

from datetime import date

import pytest

from terraform.baking import EXIT_TOO_DEAR, Limits, NotBaked, TooDear, billed
from tests.baking_world import OTHER, SOURCE, Baking


@pytest.fixture
def baking() -> Baking:
    """Return a bake in an account with an image of other sources."""
    made = Baking()
    made.aws.publish("ami-0123", OTHER)
    return made


def test_the_cost_is_that_of_the_machines(baking: Baking) -> None:
    """14 minutes of building and 10 of testing on a g4dn.xlarge at $0.658 an hour, with an address and a disk."""
    baking.bake()
    # 0.4 h * (0.658 + 0.005 + 30 * 0.0952 / 730) / 1.138
    assert baking.said[-1] == "24 minutes of g4dn.xlarge for EUR 0.23; the limit is EUR 0.60"


def test_a_build_that_costs_more_fails_after_it_is_published(baking: Baking) -> None:
    """The image is good; a second run finds it and ends well."""
    with pytest.raises(TooDear, match=r"more than EUR 0\.03") as dear:
        baking.bake(limits=Limits(eur=0.03))
    assert dear.value.status == EXIT_TOO_DEAR
    assert baking.aws.parameter == baking.aws.builds[0].ami
    baking.bake(limits=Limits(eur=0.03))
    assert baking.started == 1


def test_the_limit_is_not_above_itself(baking: Baking) -> None:
    """EUR 0.234 is above 0.23 and below 0.24."""
    with pytest.raises(TooDear):
        baking.bake(limits=Limits(eur=0.23))
    baking.bake(anew=True, limits=Limits(eur=0.24))


def test_a_machine_without_a_price_is_no_success(baking: Baking) -> None:
    """A limit that nobody can check is not kept."""
    baking.aws.kind = "p5.48xlarge"
    with pytest.raises(TooDear, match=r"nobody knows what it cost: .*p5\.48xlarge"):
        baking.bake()


def test_without_its_parts_the_whole_build_counts(baking: Baking) -> None:
    """27 minutes, of which two had no machine: more than it was, never less."""
    baking.aws.tells_parts = False
    baking.bake()
    assert baking.said[-1].startswith("27 minutes of g4dn.xlarge")


# Cost Explorer

DAY = date(2026, 11, 26)


def test_what_was_billed_is_held_against_the_limit(baking: Baking) -> None:
    """By build; what else runs in the account is not ours."""
    build = baking.aws.begin(SOURCE)
    baking.aws.billed = {build.arn: 0.5}
    billed(baking.world, baking.aws.client("ce"), DAY, Limits())
    assert baking.said == [f"{build.arn}: EUR 0.44"]
    with pytest.raises(TooDear, match=r"more than EUR 0\.03: .*/1$"):
        billed(baking.world, baking.aws.client("ce"), DAY, Limits(eur=0.03))


def test_a_build_that_was_not_billed_is_no_success(baking: Baking) -> None:
    """The tag is not activated, or the day is not over."""
    first, second = baking.aws.begin(SOURCE), baking.aws.begin(SOURCE)
    baking.aws.billed = {first.arn: 0.1}
    with pytest.raises(NotBaked, match=rf"{second.arn}.* Cost allocation tags"):
        billed(baking.world, baking.aws.client("ce"), DAY, Limits())


def test_a_day_without_a_build(baking: Baking) -> None:
    """Is said to be one."""
    billed(baking.world, baking.aws.client("ce"), DAY, Limits())
    assert baking.said == ["no build on 2026-11-26"]
