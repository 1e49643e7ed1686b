"""When the node's certificate is made anew, and what stands in for one that cannot be had."""

from __future__ import annotations

import logging

import pytest

from ami.certificate import Wanted, due, stands_in, worn
from ami.openssl import Certificate
from ami.pair import OWN, Pair

DAY = 86_400.0
BEGIN = 1_790_000_000.0
LIFE = 15 * DAY
NAMES = frozenset({"localhost", "127.0.0.1", "::1", "node"})
ARN = "arn:aws:acm:eu-central-1:123456789012:certificate/1"


def pair(source: str = OWN, names: frozenset[str] = NAMES) -> Pair:
    """Return a pair that lives from `BEGIN` for `LIFE`."""
    certificate = Certificate("1", BEGIN, BEGIN + LIFE, names, b"")
    return Pair(source, b"", (), certificate)


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (BEGIN - 1, "it begins at 2026-09-21 14:13:20, and the clock says 2026-09-21 14:13:19"),
        (BEGIN, None),
        (BEGIN + 10 * DAY, None),
        (BEGIN + 10 * DAY + 1, "it ends at 2026-10-06 14:13:20"),
        (BEGIN + LIFE, "it ended at 2026-10-06 14:13:20"),
    ],
    ids=["clock went back", "new", "a third left", "less than a third left", "ended"],
)
def test_a_certificate_wears(now: float, reason: str | None) -> None:
    """It is due when less than a third of its life is left, or when the clock says that it is not yet good."""
    assert worn(pair().certificate, now) == reason


@pytest.mark.parametrize(
    ("found", "wanted", "reason"),
    [
        (None, Wanted(OWN, NAMES), "there is none"),
        (pair(), Wanted(OWN, NAMES), None),
        (pair(), Wanted(ARN, NAMES), "it is from own"),
        (pair(ARN), Wanted(OWN, NAMES), f"it is from {ARN}"),
        (pair(ARN), Wanted(f"{ARN}2", NAMES), f"it is from {ARN}"),
        (pair(), Wanted(OWN, NAMES | {"new"}), "it is for 127.0.0.1, ::1, localhost, node"),
        (pair(ARN, frozenset({"gpu.example.com"})), Wanted(ARN, NAMES), None),
    ],
    ids=[
        "none",
        "as wanted",
        "ACM's wanted",
        "ours wanted",
        "another of ACM's",
        "other names",
        "ACM's has its own names",
    ],
)
def test_another_is_made_when_it_is_not_as_wanted(found: Pair | None, wanted: Wanted, reason: str | None) -> None:
    """Or when there is none; the names are ours to choose in our own only."""
    assert due(found, wanted, BEGIN) == reason


@pytest.mark.parametrize(
    ("found", "now", "does"),
    [
        (None, BEGIN, False),
        (pair(ARN), BEGIN + LIFE - 1, True),
        (pair(ARN), BEGIN + LIFE, False),
        (pair(), BEGIN + 10 * DAY, True),
        (pair(), BEGIN + 10 * DAY + 1, False),
    ],
    ids=["none", "ACM's, to its end", "ACM's, ended", "ours", "ours, due anyway"],
)
def test_an_earlier_one_stands_in(found: Pair | None, now: float, does: bool) -> None:  # noqa: FBT001
    """While ACM does not answer."""
    assert stands_in(found, now) is does


def test_without_settings_it_is_ours_for_this_machine() -> None:
    """By its own name, and by those that lead through Session Manager."""
    assert Wanted.from_environment({"TLFIF_CERTIFICATE_ARN": ""}, "node") == Wanted(OWN, NAMES)


def test_settings_say_where_it_is_from_and_what_else_it_is_for() -> None:
    """Names and addresses, however they are written."""
    names = "gpu.example.com, 10.0.0.1,0:0::1"
    wanted = Wanted.from_environment({"TLFIF_CERTIFICATE_ARN": ARN, "TLFIF_CERTIFICATE_NAMES": names}, "node")
    assert wanted == Wanted(ARN, NAMES | {"gpu.example.com", "10.0.0.1"})


@pytest.mark.parametrize("name", ["a b", "-x", "a_b", "x..y", "DNS:evil", "*"])
def test_what_is_no_name_is_left_out_and_said(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """It would otherwise be read as something else, and must not keep nginx from its start."""
    with caplog.at_level(logging.WARNING):
        assert Wanted.from_environment({"TLFIF_CERTIFICATE_NAMES": name}, "node") == Wanted(OWN, NAMES)
    assert "left out" in caplog.text
