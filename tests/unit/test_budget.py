"""What the two documents under guard/ say of a start: whether the month's budget allows it, until when not, and why."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.budget import (
    BLOCK_KEY,
    BUDGET_UNKNOWN,
    CLOCKS_SECONDS,
    FRESH_SECONDS,
    OVER_BUDGET,
    SPEND_KEY,
    Budget,
    Unreadable,
    block_end,
    make_check,
    month_end,
    month_of,
    refusal,
    unlimited,
)
from router_lambda.cost import Spend
from router_lambda.ec2 import Ec2Unavailable
from router_lambda.settings import RouterConfigError
from router_lambda.spend import Memory, document

CAP = 20.0


def moment(text: str) -> float:
    """Return Unix seconds of a time of UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


NOW = moment("2026-11-26 01:10:00")
MONTH_ENDS = moment("2026-12-01 00:00:00")
UNTIL = "the GPU is not started before 2026-12-01 00:00 UTC unless the cap is raised"


def spend(eur: object = 12.34, month: object = "2026-11", at: object = NOW - 600, **more: Any) -> bytes:
    """Return what the cost publisher writes."""
    return json.dumps({"month": month, "spend_eur": eur, "cap_eur": CAP, "at": at} | more).encode()


def block(cap_eur: object = CAP, until: object = MONTH_ENDS, **more: Any) -> bytes:
    """Return what the budget killer writes."""
    return json.dumps({"cap_eur": cap_eur, "at": NOW - 60, "until": until, "reason": "AWS Budgets"} | more).encode()


def said(spent: bytes | None, blocked: bytes | None = None, cap: float = CAP, now: float = NOW) -> tuple[str, str]:
    """Return code and message of a refusal, both empty for none."""
    refused = refusal(spent, blocked, cap, now)
    return ("", "") if refused is None else (refused.code, str(refused))


# Within the budget


@pytest.mark.parametrize("eur", [0, 12.34, 19.99, -3.5, 20 - 1e-9])
@pytest.mark.parametrize("age", [0.0, 600.0, FRESH_SECONDS])
def test_what_is_left_may_be_spent(eur: float, age: float) -> None:
    """Up to the last cent; a credit of AWS's makes a negative spend."""
    assert refusal(spend(eur, at=NOW - age), None, CAP, NOW) is None


@pytest.mark.parametrize(
    "blocked", [None, block(until=NOW), block(until=NOW - 1e9), block(cap_eur=19.99), block(cap_eur=0)]
)
def test_a_block_ends_with_its_month_and_with_a_higher_cap(blocked: bytes | None) -> None:
    """It is none any more, and nobody has to delete it."""
    assert refusal(spend(), blocked, CAP, NOW) is None


@pytest.mark.parametrize("at", ["2026-11-30 23:59:00", "2026-11-30 00:01:00"])
@pytest.mark.parametrize("eur", [0.0, 1e6])
def test_a_month_begins_with_nothing_spent(at: str, eur: float) -> None:
    """The publisher has not written in it yet, so what it wrote of the old month says how young it is."""
    assert refusal(spend(eur, at=moment(at)), None, CAP, MONTH_ENDS + 30) is None


def test_a_publisher_that_began_in_the_old_month_is_believed() -> None:
    """Its document names the month before that of its own time."""
    assert refusal(spend(1e6, at=MONTH_ENDS + 1), None, CAP, MONTH_ENDS + 2) is None


@pytest.mark.parametrize(("usd", "code"), [(20.0, ""), (22.7, ""), (22.8, OVER_BUDGET)])
def test_what_the_publisher_writes_is_read(usd: float, code: str) -> None:
    """By the two real ends of the document."""
    written = document(datetime.fromtimestamp(NOW, UTC), Spend(usd - 1.5, 0.5, 1.0), 0.88, CAP, Memory())
    assert said(json.dumps(written).encode())[0] == code


# Above it


@pytest.mark.parametrize("eur", [20, 20.0, 20.13, 1e9])
def test_a_budget_that_is_used_up_is_said_so(eur: float) -> None:
    """The figure, the cap, and until when."""
    assert said(spend(eur)) == (OVER_BUDGET, f"this month's spend is €{eur:.2f} of €20.00; {UNTIL}")


@pytest.mark.parametrize("now", [MONTH_ENDS - 1e6, MONTH_ENDS - 0.25])
def test_it_says_when_to_come_back(now: float) -> None:
    """When the next month begins, in whole seconds, at least one."""
    refused = refusal(spend(21, at=now), None, CAP, now)
    assert refused is not None
    assert refused.retry_after == math.ceil(MONTH_ENDS - now) >= 1


@pytest.mark.parametrize("cap_eur", [20, 20.0, 25])
def test_a_block_holds_whatever_is_spent(cap_eur: float) -> None:
    """AWS Budgets counts otherwise than the publisher, and a cap that was lowered since is reached the more."""
    figure = "this month's spend is €12.34 of €20.00, and the budget killer has stopped the GPU"
    assert said(spend(), block(cap_eur)) == (OVER_BUDGET, f"{figure}; {UNTIL}")


@pytest.mark.parametrize("unknown", [None, b"", b"{", spend(at=0)])
def test_a_block_holds_when_nobody_knows_the_spend(unknown: bytes | None) -> None:
    """What is certain comes before what is not."""
    assert said(unknown, block()) == (OVER_BUDGET, f"this month's budget of €20.00 is used up; {UNTIL}")


def test_a_block_may_end_at_any_time() -> None:
    """Whoever wrote it says when."""
    code, message = said(spend(21), block(until=NOW + 90))
    assert code == OVER_BUDGET
    assert "before 2026-11-26 01:11 UTC" in message


def test_raising_the_cap_lifts_a_block_but_not_the_spend() -> None:
    """The new one counts as well."""
    assert said(spend(21), block(20), cap=21.5) == ("", "")
    assert said(spend(21.5), block(20), cap=21.5)[0] == OVER_BUDGET


# Nobody knows


NUMBERS_THAT_ARE_NONE: list[object] = ["20", None, True, math.nan, math.inf, -math.inf, 10**400, [1], {}]
MONTHS_THAT_ARE_NONE: list[object] = ["", "2026-10", "2026-12", "2025-11", "2026-1", 11, None, [], {}]


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"null", b"[]", b"{", b"\xff", b"[" * 10_000, b"{}"),
        *(spend(eur) for eur in NUMBERS_THAT_ARE_NONE),
        *(spend(at=at) for at in NUMBERS_THAT_ARE_NONE),
        *(spend(month=month) for month in MONTHS_THAT_ARE_NONE),
        *(spend(at=at) for at in (-1, NOW + CLOCKS_SECONDS + 1, 1e300)),
        spend(month="1970-01", at=-0.5),
    ],
)
def test_a_spend_that_is_none_allows_nothing(document: bytes) -> None:
    """Whatever lies there is read to its end, and no error gets out."""
    code, message = said(document)
    assert code == BUDGET_UNKNOWN
    assert f"{SPEND_KEY} holds no spend" in message


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"null", b"[]", b"{", b"\xff", b"{}"),
        *(block(cap_eur) for cap_eur in NUMBERS_THAT_ARE_NONE),
        *(block(until=until) for until in NUMBERS_THAT_ARE_NONE),
        *(block(until=until) for until in (NOW + 32 * 86_400, 1e300)),
    ],
)
def test_a_block_that_is_none_allows_nothing(document: bytes) -> None:
    """It may have been one."""
    code, message = said(spend(), document)
    assert code == BUDGET_UNKNOWN
    assert f"{BLOCK_KEY} holds no block" in message
    assert said(spend(21), document)[0] == OVER_BUDGET


def test_a_spend_that_is_absent_allows_nothing() -> None:
    """The publisher has never run, or the bucket is another one."""
    code, message = said(None)
    assert code == BUDGET_UNKNOWN
    assert f"{SPEND_KEY} is not there" in message
    assert "cost publisher's log" in message


def test_a_spend_that_is_old_allows_nothing() -> None:
    """More than a day, also across the turn of the month; its figure may be far from the truth by now."""
    assert f"{SPEND_KEY} is 25 h old" in said(spend(at=NOW - 25 * 3_600))[1]
    later = MONTH_ENDS + FRESH_SECONDS
    assert said(spend(0, at=MONTH_ENDS - 1), now=later)[0] == BUDGET_UNKNOWN


def test_a_spend_of_the_month_to_come_allows_nothing() -> None:
    """For as long as the two clocks stand on both sides of midnight."""
    code, message = said(spend(0, month="2026-12", at=MONTH_ENDS + 1), now=MONTH_ENDS - 1)
    assert code == BUDGET_UNKNOWN
    assert "of a month to come" in message


def test_all_doubts_are_said_at_once() -> None:
    """And it may be different in a minute; what a client shows of it is 300 characters."""
    refused = refusal(None, b"", CAP, NOW)
    assert refused is not None
    assert f"{SPEND_KEY} is not there and {BLOCK_KEY} holds no block" in str(refused)
    assert len(str(refused)) < 300
    assert refused.retry_after == 60


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
documents = st.none() | st.binary(max_size=30) | json_values.map(lambda value: json.dumps(value).encode())
likely = st.builds(spend, json_values, st.sampled_from(["2026-11", "2026-10"]), json_values)
unlikely = st.builds(block, json_values, json_values)


@given(documents | likely, documents | unlikely)
def test_whatever_lies_there_no_spend_is_made_up(spent: bytes | None, blocked: bytes | None) -> None:
    """A start is allowed only by a spend that says so; and whatever is refused says why and until when."""
    refused = refusal(spent, blocked, CAP, NOW)
    if refused is None:
        assert spent is not None
        found = json.loads(spent)
        assert 0 <= NOW - found["at"] + CLOCKS_SECONDS <= FRESH_SECONDS + CLOCKS_SECONDS
        assert found["spend_eur"] < CAP
    else:
        assert refused.code in {OVER_BUDGET, BUDGET_UNKNOWN}
        assert refused.retry_after >= 1
        assert str(refused)


# The months


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        ("2026-11-26 01:10:00", "2026-12-01"),
        ("2026-12-31 23:59:59", "2027-01-01"),
        ("2027-01-31 12:00:00", "2027-02-01"),
        ("2028-02-29 12:00:00", "2028-03-01"),
        ("2026-11-01 00:00:00", "2026-12-01"),
    ],
)
def test_a_month_ends_where_the_next_begins(at: str, ends: str) -> None:
    """By UTC, whatever its length."""
    assert month_end(moment(at)) == moment(f"{ends} 00:00:00")
    assert month_of(moment(at)) == at[:7]
    assert month_of(month_end(moment(at)) - 1) == at[:7]


# The check


def checked(read: Callable[[], tuple[bytes | None, bytes | None]]) -> Ec2Unavailable:
    """Return what is raised."""
    with pytest.raises(Ec2Unavailable) as refused:
        Budget(CAP, read, lambda: NOW)()
    return refused.value


def test_a_check_passes_or_raises() -> None:
    """What the documents say, at the time of the look."""
    Budget(CAP, lambda: (spend(), None), lambda: NOW)()
    assert checked(lambda: (spend(21), None)).code == OVER_BUDGET
    assert checked(lambda: (None, None)).code == BUDGET_UNKNOWN


def test_an_s3_that_is_away_allows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be back at any moment; the log says what was the matter."""

    def fail() -> tuple[bytes, bytes]:
        raise Unreadable("S3 answers 403")

    refused = checked(fail)
    assert (refused.code, refused.retry_after) == (BUDGET_UNKNOWN, 5)
    assert "S3 answers 403" in str(refused)
    assert json.loads(capsys.readouterr().out) == {"event": "budget not read", "reason": "S3 answers 403"}


def test_without_a_cap_nothing_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in the local stack, where nobody pays; with one, what signing takes has to be there from the start."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    unlimited()
    assert make_check("tl-fif", None) is unlimited
    with pytest.raises(RouterConfigError, match="AWS_REGION"):
        make_check("tl-fif", CAP)


@pytest.mark.parametrize(
    ("at", "ends"),
    [
        ("2026-11-25 12:00:00", "2026-12-01"),
        ("2026-11-30 23:59:59", "2026-12-01"),
        ("2026-12-01 00:00:00", "2026-12-02"),
        ("2026-12-01 23:59:59", "2026-12-02"),
        ("2026-12-02 00:00:00", "2027-01-01"),
    ],
)
def test_a_block_of_a_first_day_ends_with_it(at: str, ends: str) -> None:
    """What AWS says then may be of the month before; any other block ends with its month."""
    assert block_end(moment(at)) == moment(f"{ends} 00:00:00")
