"""When the instance metadata is asked again, what is logged of it, and what a notice says."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from worker.imds import REQUEST_SECONDS
from worker.spot import ABSENT_SECONDS, POLL_SECONDS, UNKNOWN, Notice, Pace, parse

TIME = "2026-11-23T08:22:00Z"


def test_a_notice_of_two_minutes_is_seen_in_time() -> None:
    """AWS's pace, and a request that hangs does not eat up the notice."""
    assert (POLL_SECONDS, ABSENT_SECONDS, REQUEST_SECONDS) == (5.0, 60.0, 2.0)


def test_where_no_metadata_is_it_is_asked_seldom() -> None:
    """One line, no warning: off EC2 this is as it should be."""
    pace = Pace()
    with capture_logs() as logs:
        assert [pace.failed("refused by the test") for _ in range(3)] == [ABSENT_SECONDS] * 3
    assert [(line["log_level"], line["reason"]) for line in logs] == [("info", "refused by the test")]


def test_metadata_that_answers_late_is_asked_often_from_then_on() -> None:
    """Also while it fails again: it is EC2, so a notice may come."""
    pace = Pace()
    assert [pace.failed("away"), pace.answered(), pace.answered()] == [ABSENT_SECONDS, POLL_SECONDS, POLL_SECONDS]
    assert [pace.failed("away"), pace.failed("away"), pace.answered()] == [POLL_SECONDS] * 3


def test_each_outage_is_logged_once() -> None:
    """When it begins, with its first reason, and when it is over."""
    pace = Pace()
    with capture_logs() as logs:
        for outage in ("first", "second"):
            pace.answered()
            pace.answered()
            pace.failed(outage)
            pace.failed("still away")
        pace.answered()
    assert [(line["log_level"], line.get("reason")) for line in logs] == [
        ("info", None),
        ("warning", "first"),
        ("info", None),
        ("warning", "second"),
        ("info", None),
    ]


@pytest.mark.parametrize("action", ["stop", "terminate", "hibernate"])
def test_a_notice_says_what_and_when(action: str) -> None:
    """As AWS documents it."""
    assert parse(f'{{"action": "{action}", "time": "{TIME}"}}'.encode()) == Notice(action, TIME)


@pytest.mark.parametrize(
    ("body", "notice"),
    [
        (b"", Notice(UNKNOWN, "")),
        (b'{"action": "sto', Notice(UNKNOWN, "")),
        (b"\xff\xfe", Notice(UNKNOWN, "")),
        (b"[" * 100_000, Notice(UNKNOWN, "")),
        (b'["stop"]', Notice(UNKNOWN, "")),
        (b'{"action": 1, "time": null}', Notice(UNKNOWN, "")),
        (b'{"action": "stop"}', Notice("stop", "")),
        (f'{{"time": "{TIME}"}}'.encode(), Notice(UNKNOWN, TIME)),
    ],
)
def test_a_malformed_notice_is_one_all_the_same(body: bytes, notice: Notice) -> None:
    """With what of it can be read."""
    assert parse(body) == notice
