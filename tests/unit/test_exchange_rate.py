"""What a dollar is worth: the ECB's document, and when it is asked for."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from router_lambda import exchange_rate, fetch
from router_lambda.exchange_rate import Rate, RateUnavailable, ask, read

NOW = datetime(2026, 11, 26, 9, tzinfo=UTC).timestamp()
"""A Thursday, before the rate of the day is out."""

DOCUMENT = b"""<?xml version="1.0" encoding="UTF-8"?>
<gesmes:Envelope xmlns:gesmes="http://www.gesmes.org/xml/2002-08-01" xmlns="http://www.ecb.int/vocabulary/eurofxref">
\t<gesmes:subject>Reference rates</gesmes:subject>
\t<gesmes:Sender>
\t\t<gesmes:name>European Central Bank</gesmes:name>
\t</gesmes:Sender>
\t<Cube>
\t\t<Cube time='2026-11-25'>
\t\t\t<Cube currency='USD' rate='1.1380'/>
\t\t\t<Cube currency='JPY' rate='178.33'/>
\t\t\t<Cube currency='BGN' rate='1.9558'/>
\t\t</Cube>
\t</Cube>
</gesmes:Envelope>
"""


def changed(old: bytes, new: bytes) -> bytes:
    """Return a document that says something else."""
    assert old in DOCUMENT
    return DOCUMENT.replace(old, new)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[fetch.Answer | Exception]:
    """Return a list of what the ECB says, one entry a question."""
    said: list[fetch.Answer | Exception] = []

    def get(url: str, seconds: float, most_bytes: int) -> fetch.Answer:
        assert url.startswith("https://www.ecb.europa.eu/")
        assert seconds < exchange_rate.STEP_SECONDS + 1
        answer = said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return fetch.Answer(answer.status, answer.body[:most_bytes])

    monkeypatch.setattr(fetch, "get", get)
    return said


@pytest.mark.parametrize(
    "document",
    [
        DOCUMENT,
        DOCUMENT.replace(b"'", b'"'),
        changed(b"'1.1380'/>", b"'1.1380' />"),
        changed(b"\n", b"\r\n"),
        changed(b"\t", b""),
    ],
)
def test_the_dollar_is_read(document: bytes) -> None:
    """In EUR for a dollar, with its day, however it is laid out."""
    assert read(document, NOW) == Rate(1 / 1.138, date(2026, 11, 25), NOW)


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"<html>", b"\xff\xfe", DOCUMENT[:200], changed(b"USD", b"CAD"), changed(b"JPY", b"USD")),
        *(changed(b"time='2026-11-25'", b""), changed(b"2026-11-25", b"2026-11-31"), changed(b"2026-11-25", b"today")),
        *(
            changed(b"1.1380", each)
            for each in (b"0", b"0.0", b"-1.1380", b"1,1380", b"1e0", b"nan", b"inf", b"", b"&x;")
        ),
        *(changed(b"1.1380", each) for each in (b"0.4999", b"2.0001", b"113.80", b"1" * 400)),
        changed(b"<Cube>", b"<Cube><Cube time='2026-11-24'></Cube>"),
    ],
)
def test_anything_else_is_no_rate(document: bytes) -> None:
    """Two of them, none, an absurd one: whoever believed it would take the cap for another one."""
    with pytest.raises(RateUnavailable):
        read(document, NOW)


def test_entities_are_not_expanded() -> None:
    """What a document defines for itself stands for nothing."""
    bomb = b'<!DOCTYPE x [<!ENTITY a "1.1380"><!ENTITY b SYSTEM "file:///etc/passwd">]>'
    with pytest.raises(RateUnavailable):
        read(bomb + changed(b"1.1380", b"&a;"), NOW)
    assert read(bomb + DOCUMENT, NOW).eur_per_usd == pytest.approx(1 / 1.138)


def test_the_ecb_is_asked(answers: list[fetch.Answer | Exception]) -> None:
    """And believed."""
    answers.append(fetch.Answer(200, DOCUMENT))
    assert ask(NOW) == Rate(1 / 1.138, date(2026, 11, 25), NOW)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (fetch.GetFailed("TimeoutError: timed out"), "timed out"),
        (fetch.Answer(301, b""), "301"),
        (fetch.Answer(503, DOCUMENT), "503"),
        (fetch.Answer(200, b"<html>"), "not the one"),
        (fetch.Answer(200, b" " * 20_000 + DOCUMENT), "not the one"),
        (fetch.Answer(200, changed(b"2026-11-25", b"2026-11-18")), "2026-11-18"),
        (fetch.Answer(200, changed(b"2026-11-25", b"2026-11-27")), "2026-11-27"),
    ],
)
def test_what_is_no_answer_says_why(
    answers: list[fetch.Answer | Exception], answer: fetch.Answer | Exception, reason: str
) -> None:
    """Away, moved, ill, another document, too long, too old, of a day to come."""
    answers.append(answer)
    with pytest.raises(RateUnavailable, match=reason):
        ask(NOW)


def test_a_rate_is_good_for_a_week() -> None:
    """Easter takes four days."""
    rate = Rate(0.88, date(2026, 11, 19), NOW)
    assert rate.holds(date(2026, 11, 19))
    assert rate.holds(date(2026, 11, 26))
    assert not rate.holds(date(2026, 11, 27))
    assert not rate.holds(date(2026, 11, 18))


def test_it_is_asked_for_once_a_day() -> None:
    """Of UTC, whatever day the rate itself is of."""
    rate = Rate(0.88, date(2026, 11, 25), NOW)
    assert rate.is_of(date(2026, 11, 26))
    assert not rate.is_of(date(2026, 11, 25))
    assert not rate.is_of(date(2026, 11, 27))
