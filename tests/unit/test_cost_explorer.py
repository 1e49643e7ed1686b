"""What is asked of Cost Explorer, and what its answers come to."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from typing import Any

import pytest
from botocore.exceptions import ClientError, ReadTimeoutError

from router_lambda.cost_explorer import MOST_PAGES, CostExplorerFailed, usd_by_day

FIRST, TODAY = date(2026, 11, 1), date(2026, 11, 4)


def day(number: int, **usd: Any) -> dict[str, Any]:
    """Return what an answer says of a day; usage types are named with `_` for `:`."""
    groups = [
        {"Keys": [name.replace("_", ":")], "Metrics": {"UnblendedCost": {"Amount": str(each), "Unit": "USD"}}}
        for name, each in usd.items()
    ]
    period = {"Start": f"2026-11-{number:02}", "End": f"2026-11-{number + 1:02}"}
    return {"TimePeriod": period, "Total": {}, "Groups": groups, "Estimated": True}


class Explorer:
    """A client that answers with pages, in their order, and notes what it is asked."""

    def __init__(self, *pages: dict[str, Any] | Exception) -> None:
        self._pages = list(pages)
        self.asked: list[dict[str, Any]] = []

    def get_cost_and_usage(self, **question: Any) -> dict[str, Any]:
        """Answer with the next page."""
        self.asked.append(question)
        page = self._pages.pop(0)
        if isinstance(page, Exception):
            raise page
        return page


def ask(explorer: Explorer, tag: tuple[str, str] | None = None) -> Mapping[date, float]:
    """Ask for three days."""
    return usd_by_day(explorer, FIRST, TODAY, "g4dn.xlarge", tag)


def test_the_question_is_for_days_and_usage_types() -> None:
    """The end is not part of it, and the whole account is asked for."""
    explorer = Explorer({"ResultsByTime": []})
    assert ask(explorer) == {}
    assert explorer.asked == [
        {
            "TimePeriod": {"Start": "2026-11-01", "End": "2026-11-04"},
            "Granularity": "DAILY",
            "Metrics": ["UnblendedCost"],
            "GroupBy": [{"Type": "DIMENSION", "Key": "USAGE_TYPE"}],
        }
    ]


def test_a_tag_narrows_it() -> None:
    """To what is tagged for this project."""
    explorer = Explorer({"ResultsByTime": []})
    ask(explorer, ("project", "tl-fif"))
    assert explorer.asked[0]["Filter"] == {"Tags": {"Key": "project", "Values": ["tl-fif"]}}


def test_a_day_is_the_sum_of_its_usage_types_without_the_gpu() -> None:
    """Its disk stays; a day of nothing is 0; a credit is less than nothing."""
    gpu = {"EUC1-BoxUsage_g4dn.xlarge": 6.58, "EUC1-SpotUsage_g4dn.xlarge": "0.25"}
    usd = {"EUC1-EBS_VolumeUsage.gp3": 0.16, "EUC1-NodeUsage_cache.t4g.micro": "0.3100000001"}
    page = {"ResultsByTime": [day(1, **usd, **gpu), day(2), day(3, **{"EUC1-Requests": -0.5})]}
    assert ask(Explorer(page)) == {
        date(2026, 11, 1): pytest.approx(0.4700000001),
        date(2026, 11, 2): 0.0,
        date(2026, 11, 3): -0.5,
    }


def test_pages_are_put_together() -> None:
    """A day may be on two of them."""
    explorer = Explorer(
        {"ResultsByTime": [day(1, a=1.0), day(2, a=0.5)], "NextPageToken": "more"},
        {"ResultsByTime": [day(2, b=0.25), day(3, a=2.0)]},
    )
    assert ask(explorer) == {date(2026, 11, 1): 1.0, date(2026, 11, 2): 0.75, date(2026, 11, 3): 2.0}
    assert [each.get("NextPageToken") for each in explorer.asked] == [None, "more"]


def test_pages_come_to_an_end() -> None:
    """Each costs money."""
    explorer = Explorer(*({"ResultsByTime": [], "NextPageToken": "more"} for _ in range(MOST_PAGES + 1)))
    with pytest.raises(CostExplorerFailed, match="TLFIF_COST_TAG"):
        ask(explorer)
    assert len(explorer.asked) == MOST_PAGES


def in_yen() -> dict[str, Any]:
    """Return a day whose cost is no money of ours."""
    found = day(1, a=100.0)
    found["Groups"][0]["Metrics"]["UnblendedCost"]["Unit"] = "JPY"
    return found


@pytest.mark.parametrize(
    "page",
    [
        ClientError(
            {"Error": {"Code": "DataUnavailableException", "Message": "come back in a day"}}, "GetCostAndUsage"
        ),
        ReadTimeoutError(endpoint_url="https://ce.us-east-1.amazonaws.com"),
        *({}, {"ResultsByTime": None}, {"ResultsByTime": [{}]}, {"ResultsByTime": [in_yen()]}),
        *({"ResultsByTime": [day(1, a=each)]} for each in ("much", "nan", "inf")),
    ],
)
def test_what_is_no_answer_is_a_failure(page: dict[str, Any] | Exception) -> None:
    """Also on a later page: half an answer is none."""
    for before in ([], [{"ResultsByTime": [day(1, a=1.0)], "NextPageToken": "more"}]):
        with pytest.raises(CostExplorerFailed):
            ask(Explorer(*before, page))
