"""Asks Cost Explorer for the days of a month. Each page of an answer costs USD 0.01.

Source: https://docs.aws.amazon.com/aws-cost-management/latest/APIReference/API_GetCostAndUsage.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date
from typing import Any, Final

from router_lambda.aws import make_client
from router_lambda.cost import is_gpu_time

REGION: Final = "us-east-1"
"""The only one where Cost Explorer is, for every region's costs."""

CONNECT_SECONDS: Final = 0.5
READ_SECONDS: Final = 1.5

MOST_PAGES: Final = 5
"""One is enough for an account with this project alone."""


class CostExplorerFailed(Exception):
    """Cost Explorer did not say what the days cost; the message says why."""


def client() -> Any:
    """Make a client of Cost Explorer."""
    return make_client("ce", connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts=1, region=REGION)


def usd_by_day(
    client: Any, begin: date, end: date, gpu_type: str, cost_tag: tuple[str, str] | None
) -> dict[date, float]:
    """Return what each day from `begin` up to the day before `end` has cost without the GPU's hours, in USD.

    With `cost_tag`, a name and a value, only what has that cost allocation tag counts.

    Raises:
        CostExplorerFailed: it refuses, cannot be reached, or says something that is no answer.
    """
    from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `router_lambda.aws`

    question: dict[str, Any] = {
        "TimePeriod": {"Start": begin.isoformat(), "End": end.isoformat()},
        "Granularity": "DAILY",
        "Metrics": ["UnblendedCost"],
        "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
    }
    if cost_tag is not None:
        question["Filter"] = {"Tags": {"Key": cost_tag[0], "Values": [cost_tag[1]]}}
    found: dict[date, float] = {}
    for _ in range(MOST_PAGES):
        try:
            page = client.get_cost_and_usage(**question)
            _add(page, gpu_type, found)
        except (ClientError, BotoCoreError) as error:
            raise CostExplorerFailed(str(error)) from error
        except (KeyError, TypeError, ValueError) as error:
            raise CostExplorerFailed(f"an answer of another form, {type(error).__name__}: {error}") from error
        if not page.get("NextPageToken"):
            return found
        question["NextPageToken"] = page["NextPageToken"]
    raise CostExplorerFailed(
        f"more than {MOST_PAGES} pages; set TLFIF_COST_TAG, so that this project alone is asked for"
    )


def _add(page: Mapping[str, Any], gpu_type: str, found: dict[date, float]) -> None:
    """Add a page to what was found; a day may be spread over several."""
    for result in page["ResultsByTime"]:
        day = date.fromisoformat(result["TimePeriod"]["Start"])
        usd = math.fsum(_usd(group) for group in result["Groups"] if not is_gpu_time(group["Keys"][0], gpu_type))
        found[day] = found.get(day, 0.0) + usd


def _usd(group: Mapping[str, Any]) -> float:
    cost = group["Metrics"]["UnblendedCost"]
    usd = float(cost["Amount"])
    if cost["Unit"] != "USD" or not math.isfinite(usd):
        raise ValueError(f"a cost of {cost['Amount']} {cost['Unit']}")
    return usd
