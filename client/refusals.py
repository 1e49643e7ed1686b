"""Turns an error answer of the gateway into the error that tells its reader what to do."""

from __future__ import annotations

import json
from http import HTTPStatus
from typing import Any

import httpx

from client.errors import BadRequest, Busy, NotAuthorized, NotFound, OverBudget, Refused
from client.quoting import quote
from router_lambda.job import FieldError


def refusal(response: httpx.Response) -> Refused:
    """Read an answer that is no success; what RFC 9457 adds goes into the message."""
    problem = _problem(response)
    status = response.status_code
    request_id = _request_id(problem, response)
    said = quote(problem.get("detail") or problem.get("title") or "")
    said = f"{status}: {said}" if said else str(status)
    match status:
        case HTTPStatus.BAD_REQUEST | HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return BadRequest(
                f"the service does not accept the request ({said})",
                status=status,
                request_id=request_id,
                errors=_field_errors(problem),
            )
        case HTTPStatus.PAYMENT_REQUIRED:
            return OverBudget(
                f"the budget for the GPU is used up, by the service's own count ({said}); wait until then, or ask "
                "whoever runs it to raise the cap",
                status=status,
                request_id=request_id,
                retry_after_seconds=_retry_after(response),
            )
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return NotAuthorized(
                f"the service does not accept the token ({said}); log in again with "
                "`tlfif login`, or put a fresh one into TLFIF_TOKEN",
                status=status,
                request_id=request_id,
            )
        case HTTPStatus.NOT_FOUND:
            return NotFound(
                f"the service has nothing at that address ({said}); check --url, its path included",
                status=status,
                request_id=request_id,
            )
        case HTTPStatus.TOO_MANY_REQUESTS | HTTPStatus.SERVICE_UNAVAILABLE:
            seconds = _retry_after(response)
            when = "later" if seconds is None else f"in {seconds} s"
            return Busy(
                f"the service takes no request right now ({said}); try again {when}",
                status=status,
                request_id=request_id,
                retry_after_seconds=seconds,
            )
    return Refused(
        f"the service failed on the request ({said}); check --url, or ask whoever runs it",
        status=status,
        request_id=request_id,
    )


def no_such_job(response: httpx.Response) -> NotFound | None:
    """Read the 404 of a service that looked for a job; `None` for any other answer, such as 404 for the URL."""
    problem = _problem(response)
    if response.status_code != HTTPStatus.NOT_FOUND or not problem:
        return None
    return NotFound(
        "no such job of yours is waiting or running; it may have ended already, or check the id",
        status=HTTPStatus.NOT_FOUND,
        request_id=_request_id(problem, response),
    )


def _request_id(problem: dict[str, Any], response: httpx.Response) -> str:
    return quote(problem.get("request_id") or response.headers.get("x-request-id", ""))


def _problem(response: httpx.Response) -> dict[str, Any]:
    """Return the RFC 9457 members; none when the answer is none, such as a proxy's page."""
    if response.headers.get("content-type", "").partition(";")[0].strip() != "application/problem+json":
        return {}
    try:
        problem = json.loads(response.content)
    except (ValueError, RecursionError):
        return {}
    return problem if isinstance(problem, dict) else {}


def _field_errors(problem: dict[str, Any]) -> list[FieldError]:
    errors = problem.get("errors")
    return [
        FieldError(quote(error.get("field", "")), quote(error.get("message", "")))
        for error in (errors if isinstance(errors, list) else [])
        if isinstance(error, dict)
    ]


def _retry_after(response: httpx.Response) -> int | None:
    value = response.headers.get("retry-after", "")
    return int(value) if value.isdecimal() and value.isascii() else None
