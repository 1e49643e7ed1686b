"""Requests and answers in the shape of API Gateway's HTTP API (payload format 2.0)."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from router_lambda.job import FieldError, InvalidJob

TRY_AGAIN_SECONDS: Final = 5
"""When to come back if what is away may be there again at any moment."""

TITLES: Final = {
    400: "Bad Request",
    401: "Unauthorized",
    402: "Payment Required",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    429: "Too Many Requests",
    503: "Service Unavailable",
}
"""Error statuses of the routes. Not by `http.HTTPStatus`, whose import takes a Lambda 6 ms."""


class Problem(Exception):
    """Ends a request with an error answer. `detail` tells the client what to do; it is shown as it is."""

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        errors: list[FieldError] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.headers = headers or {}
        self.errors = errors

    @classmethod
    def try_later(cls, detail: str, seconds: int = TRY_AGAIN_SECONDS) -> Problem:
        """Return a 503 that says in how many seconds it is worth another try."""
        return cls(503, detail, headers={"retry-after": str(seconds)})

    def answer(self, request_id: str) -> dict[str, Any]:
        """Build the answer as RFC 9457 has it; `errors` names the bad fields of a 400."""
        content: dict[str, Any] = {
            "type": "about:blank",
            "title": TITLES[self.status],
            "status": self.status,
            "detail": str(self),
            "request_id": request_id,
        }
        if self.errors is not None:
            content["errors"] = [asdict(error) for error in self.errors]
        return answer(self.status, content, {"content-type": "application/problem+json", **self.headers})


@dataclass(frozen=True, slots=True)
class Request:
    """What the routes need of an event. `claims` are what the authorizer found in the token, if one ran."""

    method: str
    path: str
    headers: Mapping[str, str]
    source_ip: str
    request_id: str
    claims: Mapping[str, Any]
    raw_body: str
    is_base64: bool

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Request:
        """Read an event; header names become lower case and a stage's name goes from the path."""
        context = event["requestContext"]
        claims = (context.get("authorizer") or {}).get("lambda")
        return cls(
            method=context["http"]["method"].upper(),
            path=_path(event["rawPath"], context.get("stage", "$default")),
            headers={name.lower(): value for name, value in (event.get("headers") or {}).items()},
            source_ip=context["http"].get("sourceIp", ""),
            request_id=context.get("requestId", ""),
            claims=claims if isinstance(claims, dict) else {},
            raw_body=event.get("body") or "",
            is_base64=bool(event.get("isBase64Encoded")),
        )

    @property
    def body(self) -> bytes:
        """The body as it was sent.

        Raises:
            InvalidJob: it claims to be base64 and is not.
        """
        if not self.is_base64:
            return self.raw_body.encode("utf-8", "surrogatepass")
        try:
            return base64.b64decode(self.raw_body, validate=True)
        except ValueError:  # binascii.Error is one, and characters outside ASCII raise a plain one
            raise InvalidJob([FieldError("body", "is not the base64 it claims to be")]) from None


def _path(raw_path: str, stage: str) -> str:
    """Return the path without the stage, which API Gateway puts before it unless it is the default one."""
    within = raw_path.removeprefix(f"/{stage}")
    return within if within.startswith("/") and stage != "$default" else raw_path


def answer(status: int, content: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Build an answer with a JSON body."""
    return {
        "statusCode": status,
        "headers": {"content-type": "application/json", **(headers or {})},
        "body": json.dumps(content),
        "isBase64Encoded": False,
    }
