"""HTTP requests as API Gateway's HTTP API hands them to Lambdas (payload format 2.0), and the answers back.

Sources: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html and
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

_ACCOUNT: Final = "000000000000"
_API: Final = "local"
_STAGE: Final = "$default"
_ROUTE_KEY: Final = "$default"
_ROUTE_ARN: Final = f"arn:aws:execute-api:eu-central-1:{_ACCOUNT}:{_API}/{_STAGE}/{_ROUTE_KEY}"

_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/javascript")


@dataclass(frozen=True, slots=True)
class Arrival:
    """What the edge notes of a request as it comes in; every Lambda that sees the request is told the same."""

    id: uuid.UUID = field(default_factory=uuid.uuid4)
    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def request_id(self) -> str:
        """API Gateway's id of the request."""
        return str(self.id)

    @property
    def trace_id(self) -> str:
        """The value of `X-Amzn-Trace-Id` for a request that brings none."""
        return f"Root=1-{int(self.at.timestamp()):08x}-{self.id.hex[:24]}"


def to_event(
    request: Request, arrival: Arrival, body: bytes, *, authorizer: Mapping[str, Any] | None
) -> dict[str, Any]:
    """Build the event of a request; `authorizer` is the context that the authorizer added, `None` if none ran."""
    event = _request(request, arrival) | {"isBase64Encoded": False}
    if authorizer is not None:
        event["requestContext"]["authorizer"] = {"lambda": dict(authorizer)}
    if body:
        event["body"], event["isBase64Encoded"] = _body(body, request.headers.get("content-type"))
    return event


def to_authorizer_event(request: Request, arrival: Arrival) -> dict[str, Any]:
    """Build the event of a REQUEST authorizer whose identity source is the header `Authorization`.

    Raises:
        KeyError: the request has no such header.
    """
    event = _request(request, arrival)
    return event | {"type": "REQUEST", "routeArn": _ROUTE_ARN, "identitySource": [event["headers"]["authorization"]]}


def _request(request: Request, arrival: Arrival) -> dict[str, Any]:
    """Build what is the same for every Lambda: all but the body."""
    path = request.url.path
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": _ROUTE_KEY,
        "rawPath": path,
        "rawQueryString": request.url.query,
        "headers": {"x-amzn-trace-id": arrival.trace_id} | _joined(request.headers.items(), leave_out="cookie"),
        "requestContext": {
            "accountId": _ACCOUNT,
            "apiId": _API,
            "domainName": request.headers.get("host", "localhost"),
            "domainPrefix": "local",
            "http": {
                "method": request.method,
                "path": path,
                "protocol": f"HTTP/{request.scope['http_version']}",
                "sourceIp": request.client.host if request.client else "",
                "userAgent": request.headers.get("user-agent", ""),
            },
            "requestId": arrival.request_id,
            "routeKey": _ROUTE_KEY,
            "stage": _STAGE,
            "time": arrival.at.astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": round(arrival.at.timestamp() * 1000),
        },
    }
    if cookies := [cookie.strip() for line in request.headers.getlist("cookie") for cookie in line.split(";")]:
        event["cookies"] = cookies
    if request.query_params:
        event["queryStringParameters"] = _joined(request.query_params.multi_items())
    return event


def to_response(answer: Mapping[str, Any]) -> Response:
    """Turn the handler's answer into HTTP.

    Raises:
        KeyError, ValueError, AttributeError: it is not of payload format 2.0.
    """
    body = answer.get("body") or ""
    content = base64.b64decode(body, validate=True) if answer.get("isBase64Encoded") else body.encode()
    response = Response(content, int(answer["statusCode"]))
    for name, value in (answer.get("headers") or {}).items():
        response.headers[name] = str(value)
    for cookie in answer.get("cookies") or []:
        response.headers.append("set-cookie", cookie)
    return response


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a Lambda authorizer with simple responses answers; `context` is for the router."""

    is_authorized: bool
    context: Mapping[str, Any]

    @classmethod
    def read(cls, answer: Any) -> Verdict:
        """Read the authorizer's answer.

        Raises:
            ValueError: it is no simple response.
        """
        match answer:
            case {"isAuthorized": bool(is_authorized), **rest} if isinstance(context := rest.get("context", {}), dict):
                return cls(is_authorized, context)
        raise ValueError("an authorizer answers {'isAuthorized': true or false}, with a 'context' if it wants to")


def _joined(pairs: Any, leave_out: str = "") -> dict[str, str]:
    """Join the values of a name that comes more than once by commas."""
    together: dict[str, list[str]] = {}
    for name, value in pairs:
        if name != leave_out:
            together.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in together.items()}


def _body(body: bytes, content_type: str | None) -> tuple[str, bool]:
    """Return the body as an event carries it, and whether that is base64, as for everything but text."""
    media_type = (content_type or "text/plain").split(";")[0].strip().lower()
    if media_type.startswith(_TEXT_TYPES) or media_type.endswith(("+json", "+xml")):
        try:
            return body.decode("utf-8"), False
        except UnicodeDecodeError:
            pass
    return base64.b64encode(body).decode("ascii"), True
