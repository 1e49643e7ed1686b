"""How error answers of the gateway become errors that say what to do."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from client.errors import BadRequest, Busy, NotAuthorized, NotFound, OverBudget, Refused
from client.refusals import refusal
from router_lambda.job import FieldError


def problem(status: int, headers: dict[str, str] | None = None, **members: Any) -> httpx.Response:
    """Return an RFC 9457 answer."""
    content = json.dumps({"type": "about:blank", "status": status} | members)
    return httpx.Response(
        status, content=content, headers={"Content-Type": "application/problem+json"} | (headers or {})
    )


def test_a_bad_request_shows_every_field() -> None:
    """Each entry of `errors` is in the message and in the exception."""
    errors = [
        {"field": "params.n", "message": "must be at most 8"},
        {"field": "raw", "message": "must be a boolean"},
    ]

    error = refusal(problem(400, detail="correct the fields", errors=errors, request_id="r-1"))

    assert isinstance(error, BadRequest)
    assert error.errors == (
        FieldError("params.n", "must be at most 8"),
        FieldError("raw", "must be a boolean"),
    )
    assert str(error).splitlines() == [
        "the service does not accept the request (400: correct the fields) (request id r-1)",
        "  params.n must be at most 8",
        "  raw must be a boolean",
    ]


@pytest.mark.parametrize(
    ("status", "kind", "advice"),
    [
        (400, BadRequest, "does not accept the request"),
        (413, BadRequest, "does not accept the request"),
        (401, NotAuthorized, "`tlfif login`, or put a fresh one into TLFIF_TOKEN"),
        (402, OverBudget, "by the service's own count (402); wait until then, or ask whoever runs it to raise the cap"),
        (403, NotAuthorized, "`tlfif login`, or put a fresh one into TLFIF_TOKEN"),
        (404, NotFound, "check --url"),
        (429, Busy, "try again later"),
        (503, Busy, "try again later"),
        (301, Refused, "check --url"),
        (500, Refused, "ask whoever runs it"),
    ],
)
def test_each_status_has_its_error_and_advice(status: int, kind: type[Refused], advice: str) -> None:
    """A status alone, without any body, is enough for the right error."""
    error = refusal(httpx.Response(status))

    assert type(error) is kind
    assert error.status == status
    assert advice in str(error)


@pytest.mark.parametrize(
    ("header", "seconds", "advice"),
    [
        ("17", 17, "in 17 s"),
        ("Wed, 21 Oct 2026 07:28:00 GMT", None, "later"),
        ("²", None, "later"),
        ("-1", None, "later"),
    ],
)
def test_retry_after_is_passed_on(header: str, seconds: int | None, advice: str) -> None:
    """Seconds are read; anything else counts as no advice."""
    error = refusal(httpx.Response(429, headers=[(b"Retry-After", header.encode())]))

    assert isinstance(error, Busy)
    assert error.retry_after_seconds == seconds
    assert str(error).endswith(f"try again {advice}")


def test_a_budget_that_is_used_up_shows_figure_and_date() -> None:
    """Whole, in the service's words; the wait is for programs."""
    figure = "this month's spend is €20.13 of €20.00; the GPU is not started before 2026-12-01 00:00 UTC"
    detail = f"{figure} unless the cap is raised"

    error = refusal(problem(402, {"Retry-After": "432000"}, detail=detail))

    assert isinstance(error, OverBudget)
    assert error.retry_after_seconds == 432_000
    assert f"(402: {detail})" in str(error)


@pytest.mark.parametrize(
    ("content_type", "content"),
    [
        ("text/html", b"<h1>Bad gateway</h1>"),
        ("application/json", b'{"message": "Unauthorized"}'),
        ("application/problem+json", b"{"),
        ("application/problem+json", b"[]"),
        ("application/problem+json", b'{"errors": ["x", 1]}'),
    ],
)
def test_an_answer_in_another_form_still_counts(content_type: str, content: bytes) -> None:
    """A proxy's page or a broken problem document shows the status and none of its body."""
    error = refusal(httpx.Response(400, content=content, headers={"Content-Type": content_type}))

    assert str(error) == "the service does not accept the request (400)"


def test_text_of_the_service_fits_on_one_line_of_a_terminal() -> None:
    """Control characters cannot reach the terminal, and long texts are cut."""
    error = refusal(problem(500, detail="\x1b]0;owned\x07\n" + "x" * 500))

    assert str(error).isprintable()
    assert len(str(error)) < 450


def test_the_request_id_may_come_as_a_header() -> None:
    """Without one in the body, X-Request-Id is shown."""
    assert refusal(problem(500, {"X-Request-Id": "r-2"})).request_id == "r-2"
