"""What a month has cost so far, from three sources: the bill, what accrues by the clock, and the GPU's metered seconds.

AWS bills late: Cost Explorer is refreshed at least once every 24 hours (AWS Cost Management User Guide, "Analyzing your
costs with Cost Explorer"), so that the figures of yesterday may be incomplete, and today's are. The bill is believed
for the days before; the rest accrues at the fixed price of the infrastructure; the GPU, whose price is high and whose
hours nobody knows in advance, is taken out of the bill and metered by the second.

Days are those of UTC, as in Cost Explorer. VAT is in none of the figures. docs/cost.md has an example.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Final

DAY_SECONDS: Final = 86_400
HOUR_SECONDS: Final = 3_600

GPU_USAGE: Final = frozenset({"BoxUsage", "SpotUsage"})
"""How the bill names hours of instances, on demand and spot (Amazon EC2 User Guide, codes in billing reports)."""


@dataclass(frozen=True, slots=True)
class Prices:
    """What costs the same whether the GPU runs or not, in USD a month, and what the GPU costs, in USD an hour."""

    fixed_usd_per_month: float
    gpu_usd_per_hour: float


@dataclass(frozen=True, slots=True)
class Bill:
    """What Cost Explorer said.

    Attributes:
        usd_by_day: unblended cost of each day without the GPU's hours, in USD; credits and refunds make it negative.
        asked_at: when it said so, in Unix seconds.
    """

    usd_by_day: Mapping[date, float]
    asked_at: float

    @property
    def asked_on(self) -> date:
        """The day on which it said so: what it said of the day before may be incomplete, of later ones is nothing."""
        return datetime.fromtimestamp(self.asked_at, UTC).date()


@dataclass(frozen=True, slots=True)
class Spend:
    """What a month has cost so far, in USD: the days before today, today without the GPU, the GPU in all of it."""

    bill_usd: float
    fixed_usd: float
    gpu_usd: float

    def eur(self, eur_per_usd: float) -> float:
        """Return the sum in EUR, which is no less than 0, whatever AWS has credited."""
        return max(0.0, self.bill_usd + self.fixed_usd + self.gpu_usd) * eur_per_usd


def is_gpu_time(usage_type: str, gpu_type: str) -> bool:
    """Tell whether a usage type of the bill, like `EUC1-BoxUsage:g4dn.xlarge`, is time of instances of the GPU's type.

    Whatever region stands before it; us-east-1 has nothing there.
    """
    kind, _, instance_type = usage_type.partition(":")
    return instance_type == gpu_type and kind.rpartition("-")[2] in GPU_USAGE


def spend(now: datetime, bill: Bill | None, gpu_seconds: float, prices: Prices) -> Spend:
    """Return what the month of `now`, a time of UTC, has cost up to then.

    `bill` is `None` if Cost Explorer has never answered; `gpu_seconds` are those of all instances since the month's
    beginning.
    """
    today = now.date()
    accrual = prices.fixed_usd_per_month / monthrange(today.year, today.month)[1]
    days = [today - timedelta(days=back) for back in range(1, today.day)]
    return Spend(
        bill_usd=sum(_day_usd(day, bill, accrual) for day in days),
        fixed_usd=accrual * _part_of_day(now),
        gpu_usd=gpu_seconds / HOUR_SECONDS * prices.gpu_usd_per_hour,
    )


def _day_usd(day: date, bill: Bill | None, accrual: float) -> float:
    """Return what a day before today has cost without the GPU, in USD: billed, accrued, or the larger of both.

    The day before the bill was asked for may be incomplete in it. That is yesterday, if it was asked for today; a bill
    of an earlier day does not become complete by waiting.
    """
    billed = None if bill is None else bill.usd_by_day.get(day)
    if bill is None or billed is None or day >= bill.asked_on:
        return accrual
    return max(billed, accrual) if day == bill.asked_on - timedelta(days=1) else billed


def _part_of_day(now: datetime) -> float:
    """Return which part of its day is over, from 0 to 1."""
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    return (now - midnight) / timedelta(seconds=DAY_SECONDS)
