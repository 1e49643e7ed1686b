"""Requests and answers in the shape of API Gateway's HTTP API (payload format 2.0)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from http import HTTPStatus
from typing import Any

from router_lambda.job import FieldError, InvalidJob


@dataclass(frozen=True, slots=True)
class Request:
    """What the routes need of an event. `subject` is the authorizer's `sub`; without one, it is `None`."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    request_id: str
    subject: str | None

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Request:
        """Read an event; header names become lower case.

        Raises:
            InvalidJob: the body claims to be base64 and is not.
        """
        context = event["requestContext"]
        subject = ((context.get("authorizer") or {}).get("lambda") or {}).get("sub")
        return cls(
            method=context["http"]["method"].upper(),
            path=event["rawPath"],
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            body=_body(event),
            request_id=context.get("requestId", ""),
            subject=subject if subject and isinstance(subject, str) else None,
        )


def _body(event: Mapping[str, Any]) -> bytes:
    body = event.get("body") or ""
    if not event.get("isBase64Encoded"):
        return str(body).encode("utf-8", "surrogatepass")
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:  # binascii.Error is one, and characters outside ASCII raise a plain one
        raise InvalidJob([FieldError("body", "is not the base64 it claims to be")]) from None


def answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Build an answer with a JSON body."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", **(headers or {})},
        "body": json.dumps(content),
        "isBase64Encoded": False,
    }


def problem(
    status: HTTPStatus,
    detail: str,
    request_id: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[FieldError] | None = None,
) -> dict[str, Any]:
    """Build an error answer as RFC 9457 has it; `errors` names the bad fields of a 400."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": status.phrase,
        "status": status.value,
        "detail": detail,
        "request_id": request_id,
    }
    if errors is not None:
        content["errors"] = [asdict(error) for error in errors]
    return answer(status, content, {"content-type": "application/problem+json", **(headers or {})})
