"""What a month has cost so far: every day's share, by whichever source knows it."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.cost import Bill, Prices, Spend, is_gpu_time, spend

PAGE = (Path(__file__).parents[2] / "docs" / "cost.md").read_text(encoding="utf-8")
PRICES = Prices(fixed_usd_per_month=30.0, gpu_usd_per_hour=0.658)
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
"""In a month of 30 days: a dollar of fixed costs a day."""


def at(day: int, hour: int = 12, month: int = 11, year: int = 2026) -> datetime:
    """Return a time of UTC."""
    return datetime(year, month, day, hour, tzinfo=UTC)


def bill(now: datetime, usd: float, **changed: float) -> Bill:
    """Return what Cost Explorer says at `now` if every day before has cost `usd`, but those that are named, `d25=…`."""
    first = now.date().replace(day=1)
    days = {first + timedelta(days=back): usd for back in range(now.day - 1)}
    return Bill(days | {first.replace(day=int(name[1:])): each for name, each in changed.items()}, now.timestamp())


# The bill


def test_days_before_yesterday_are_as_billed() -> None:
    """Above the accrual, below it, or nothing."""
    now = at(5)
    found = spend(now, bill(now, 0.0, d1=4.0, d2=0.25, d3=0.0, d4=1.0), 0.0, PRICES)
    assert found.bill_usd == pytest.approx(4.0 + 0.25 + 0.0 + 1.0)


@pytest.mark.parametrize(("billed", "counts"), [(0.0, 1.0), (0.99, 1.0), (1.0, 1.0), (1.01, 1.01), (-3.0, 1.0)])
def test_yesterday_is_the_larger_of_bill_and_accrual(billed: float, counts: float) -> None:
    """What Cost Explorer says of it may be half of it."""
    now = at(3)
    assert spend(now, bill(now, 2.0, d2=billed), 0.0, PRICES).bill_usd == pytest.approx(2.0 + counts)


def test_a_day_that_was_incomplete_stays_so() -> None:
    """Cost Explorer was asked two days ago: it knew half of the day before, and nothing since."""
    asked = bill(at(10, hour=3), 2.0, d9=0.1)
    now = at(12)
    # Eight days as billed, the 9th by the larger of both, the 10th and the 11th by the clock.
    assert spend(now, asked, 0.0, PRICES).bill_usd == pytest.approx(8 * 2.0 + 1.0 + 1.0 + 1.0)
    larger = bill(at(10, hour=3), 2.0, d9=1.5)
    assert spend(now, larger, 0.0, PRICES).bill_usd == pytest.approx(8 * 2.0 + 1.5 + 1.0 + 1.0)


def test_what_it_says_of_today_and_later_is_nothing() -> None:
    """Should it say anything, the accrual stands."""
    asked = bill(at(10), 1.0, d10=7.0, d11=7.0)
    assert spend(at(10), asked, 0.0, PRICES).bill_usd == pytest.approx(9.0)
    assert spend(at(12), asked, 0.0, PRICES).bill_usd == pytest.approx(11.0)


def test_without_a_bill_every_day_accrues() -> None:
    """As it does for days that the bill leaves out, and with the bill of another month."""
    october = bill(at(31, month=10), 9.0)
    for known in (None, Bill({}, NOON.timestamp()), october):
        assert spend(NOON, known, 0.0, PRICES).bill_usd == pytest.approx(25.0)


def test_credits_are_negative_days() -> None:
    """They lower the sum, but nobody has spent less than nothing."""
    now = at(4)
    found = spend(now, bill(now, 1.0, d1=-1.5), 0.0, PRICES)
    assert found.bill_usd == pytest.approx(-1.5 + 1.0 + 1.0)
    assert found.eur(1.0) == pytest.approx(0.5 + 0.5)
    refunded = spend(now, bill(now, 1.0, d1=-50.0), 3_600.0, PRICES)
    assert refunded.bill_usd == pytest.approx(-48.0)
    assert refunded.eur(0.9) == 0.0


def test_the_first_has_no_day_before() -> None:
    """Neither a bill nor its absence adds anything."""
    for known in (None, bill(at(31, month=10), 9.0), Bill({date(2026, 10, 31): 9.0}, at(1).timestamp())):
        assert spend(at(1, hour=6), known, 0.0, PRICES) == Spend(0.0, 0.25, 0.0)


# The clock


@pytest.mark.parametrize(
    ("year", "month", "days"), [(2026, 2, 28), (2028, 2, 29), (2026, 11, 30), (2026, 12, 31), (2100, 2, 28)]
)
def test_a_month_of_any_length_accrues_its_price(year: int, month: int, days: int) -> None:
    """A second before its end, nearly all of it."""
    last = datetime(year, month, days, 23, 59, 59, tzinfo=UTC)
    found = spend(last, None, 0.0, PRICES)
    assert found.bill_usd + found.fixed_usd == pytest.approx(30.0, abs=30.0 / days / 86_400 + 1e-9)
    nothing_yet = spend(last + timedelta(seconds=1), None, 0.0, PRICES)
    assert nothing_yet == Spend(0.0, 0.0, 0.0)


@pytest.mark.parametrize(("hour", "usd"), [(0, 0.0), (6, 0.25), (18, 0.75)])
def test_today_accrues_by_the_clock(hour: int, usd: float) -> None:
    """From midnight of UTC on."""
    assert spend(at(26, hour), None, 0.0, PRICES).fixed_usd == pytest.approx(usd)


def test_no_fixed_costs_are_possible() -> None:
    """Where all is within the free tier."""
    now = at(3)
    assert spend(now, bill(now, 0.0), 0.0, Prices(0.0, 1.0)) == Spend(0.0, 0.0, 0.0)


@given(
    st.datetimes(datetime(2026, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001 - it wants naive
    st.timedeltas(timedelta(0), timedelta(days=1)),
)
def test_without_a_bill_a_month_only_grows(now: datetime, passed: timedelta) -> None:
    """By the second, over midnight as well; until the next one begins."""
    before, after = spend(now, None, 0.0, PRICES), spend(now + passed, None, 0.0, PRICES)
    if (now + passed).month == now.month:
        assert after.eur(1.0) >= before.eur(1.0) - 1e-9


# The GPU


@pytest.mark.parametrize(
    ("seconds", "usd"), [(0.0, 0.0), (1.0, 0.658 / 3_600), (3_600.0, 0.658), (36_000.0, 6.58), (5_356_800.0, 979.104)]
)
def test_the_gpu_is_metered_by_the_second(seconds: float, usd: float) -> None:
    """Two of them for a month of 31 days, even."""
    assert spend(NOON, None, seconds, PRICES).gpu_usd == pytest.approx(usd)


@pytest.mark.parametrize(
    ("usage_type", "is_gpu"),
    [
        *(("EUC1-BoxUsage:g4dn.xlarge", True), ("BoxUsage:g4dn.xlarge", True), ("EU-SpotUsage:g4dn.xlarge", True)),
        *(("USE1-ATL1-BoxUsage:g4dn.xlarge", True), ("SpotUsage:g4dn.xlarge", True)),
        *(("EUC1-BoxUsage:g4dn.2xlarge", False), ("EUC1-BoxUsage:g4dn.xlarge.search", False)),
        *(("EUC1-HostBoxUsage:g4dn.xlarge", False), ("EUC1-EBSOptimized:g4dn.xlarge", False), ("", False)),
        *(("EUC1-EBS:VolumeUsage.gp3", False), ("EUC1-NodeUsage:cache.t4g.micro", False), ("g4dn.xlarge", False)),
        *((":g4dn.xlarge", False), ("EUC1-BoxUsage", False), ("EUC1-boxusage:g4dn.xlarge", False)),
    ],
)
def test_hours_of_the_gpu_s_type_are_told_from_all_else(usage_type: str, *, is_gpu: bool) -> None:
    """Whatever the region; its disk, its siblings and the cache are none."""
    assert is_gpu_time(usage_type, "g4dn.xlarge") is is_gpu


# The sum


def test_the_sum_is_converted() -> None:
    """All three parts."""
    assert Spend(10.0, 2.0, 8.0).eur(0.9) == pytest.approx(18.0)


def figure(label: str) -> float:
    """Return the number in a row of the page's first table."""
    (found,) = re.findall(rf"^\| {re.escape(label)} \| ([0-9.]+) \|$", PAGE, re.MULTILINE)
    return float(found)


def test_the_example_of_the_page_is_right() -> None:
    """Every figure in it follows from those at its top."""
    now = datetime(2026, 11, 26, 18, tzinfo=UTC)
    assert now.strftime("%-d %B %Y, %H:%M UTC") in PAGE
    prices = Prices(figure("fixed costs, USD a month"), figure("GPU, USD an hour"))
    known = bill(
        now,
        figure("Cost Explorer, each day from the 1st to the 24th, USD"),
        d25=figure("Cost Explorer, the 25th, USD"),
    )
    found = spend(now, known, figure("`GpuSeconds` of the month"), prices)

    shown = re.findall(r"^\| (bill|today|GPU|sum) \|.*\| ([0-9.]+) \|$", PAGE, re.MULTILINE)
    total = found.bill_usd + found.fixed_usd + found.gpu_usd
    parts = {"bill": found.bill_usd, "today": found.fixed_usd, "GPU": found.gpu_usd, "sum": total}
    assert dict(shown) == {name: f"{usd:.3f}" for name, usd in parts.items()}
    usd_per_eur = re.findall(r"^\| ECB, USD for a euro \| ([0-9.]+) \|$", PAGE, re.MULTILINE)[0]
    eur = found.eur(1 / float(usd_per_eur))
    assert f"`CurrentSpendEUR` = {total:.3f} / {usd_per_eur} = **{eur:.4f}**" in PAGE


def test_a_day_is_one_of_utc() -> None:
    """The formula takes times of UTC; the day of a bill is one as well, wherever the code runs."""
    midnight = datetime(2026, 11, 10, 0, 30, tzinfo=timezone(timedelta(hours=2)))
    assert Bill({}, midnight.timestamp()).asked_on == date(2026, 11, 9)
