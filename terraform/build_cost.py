"""What a build of the image cost: by the times that Image Builder tells at once, or by Cost Explorer a day later."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

from terraform.bake import machine_lines
from terraform.builds import Build
from terraform.plan import Unpriced
from terraform.prices import Prices

USD_PER_EUR: Final = 1.138
"""As Terraform's variable `usd_per_eur` has it."""

BUILD_TAG: Final = "Ec2ImageBuilderArn"
"""Image Builder puts it on its machines, with the build's ARN."""

_WITH_MACHINE: Final = frozenset({"BUILD", "TEST"})
"""Parts of a build that have a machine from their first step to their last; distribution has none."""

_SECONDS_PER_HOUR: Final = 3600


def machine_hours(build: Build, workflows: Iterable[Mapping[str, Any]], now: datetime) -> float:
    """Return for how many hours there was a machine, counted from the beginning of each part to its end.

    That is a little more than AWS counts, which begins when the machine runs. A part without an end goes on; a build
    whose parts are not told counts from its beginning until now.

    Raises:
        Unpriced: no time at all is told.
    """
    spans = [
        _moment(each["endTime"] if each.get("endTime") else now.isoformat()) - _moment(each["startTime"])
        for each in workflows
        if each.get("type") in _WITH_MACHINE and each.get("startTime")
    ]
    if not spans:
        if not build.created:
            raise Unpriced(f"Image Builder tells no times of {build.arn}; look in Cost Explorer a day later")
        spans = [now - _moment(build.created)]
    return sum((max(span, timedelta()) for span in spans), timedelta()).total_seconds() / _SECONDS_PER_HOUR


def _moment(text: str) -> datetime:
    """Read a moment of Image Builder's, which are in UTC whether they say so or not."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def cost_eur(build: Build, hours: float, prices: Prices, usd_per_eur: float) -> float:
    """Return what the machines of a build cost, in EUR without VAT.

    Raises:
        Unpriced: the price list has no machine or disk of that type.
    """
    lines = machine_lines(build.kind, build.disk, build.disk_gb, hours, prices)
    return sum(line.usd for line in lines) / usd_per_eur


def ask_cost_explorer(client: Any, day: date, region: str, builds_arn: str) -> dict[str, float]:
    """Return what each build's machines cost on a day, in USD, by the build's ARN; a request costs $0.01.

    Only builds whose tag the account has activated for cost allocation are there.
    """
    found: dict[str, float] = {}
    token = None
    while True:
        page = client.get_cost_and_usage(
            TimePeriod={"Start": day.isoformat(), "End": (day + timedelta(days=1)).isoformat()},
            Granularity="DAILY",
            Metrics=["UnblendedCost"],
            Filter={
                "And": [
                    {"Dimensions": {"Key": "REGION", "Values": [region]}},
                    {"Dimensions": {"Key": "SERVICE", "Values": ["Amazon Elastic Compute Cloud - Compute"]}},
                ]
            },
            GroupBy=[{"Type": "TAG", "Key": BUILD_TAG}],
            **({"NextPageToken": token} if token else {}),
        )
        for period in page["ResultsByTime"]:
            for group in period.get("Groups", []):
                # "Ec2ImageBuilderArn$" and the value, which is empty for what has no such tag.
                arn = group["Keys"][0].partition("$")[2]
                if arn.startswith(f"{builds_arn}/"):
                    found[arn] = found.get(arn, 0.0) + float(group["Metrics"]["UnblendedCost"]["Amount"])
        token = page.get("NextPageToken")
        if not token:
            return found
