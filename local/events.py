"""HTTP requests as API Gateway's HTTP API hands them to a Lambda (payload format 2.0), and the answers back.

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

_TEXT_TYPES: Final = ("text/", "application/json", "application/xml", "application/javascript")


def to_event(
    request: Request, body: bytes, *, request_id: str, now: datetime, authorizer: Mapping[str, str] | None
) -> dict[str, Any]:
    """Build the event of a request; `authorizer` is what the Lambda authorizer added, `None` if none ran."""
    path = request.url.path
    context: dict[str, Any] = {
        "accountId": "000000000000",
        "apiId": "local",
        "domainName": request.headers.get("host", "localhost"),
        "domainPrefix": "local",
        "http": {
            "method": request.method,
            "path": path,
            "protocol": f"HTTP/{request.scope['http_version']}",
            "sourceIp": request.client.host if request.client else "",
            "userAgent": request.headers.get("user-agent", ""),
        },
        "requestId": request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": now.astimezone(UTC).strftime("%d/%b/%Y:%H:%M:%S +0000"),
        "timeEpoch": round(now.timestamp() * 1000),
    }
    if authorizer is not None:
        context["authorizer"] = {"lambda": dict(authorizer)}
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": request.url.query,
        "headers": _joined(request.headers.items(), leave_out="cookie"),
        "requestContext": context,
        "isBase64Encoded": False,
    }
    if cookies := [cookie.strip() for line in request.headers.getlist("cookie") for cookie in line.split(";")]:
        event["cookies"] = cookies
    if request.query_params:
        event["queryStringParameters"] = _joined(request.query_params.multi_items())
    if body:
        event["body"], event["isBase64Encoded"] = _body(body, request.headers.get("content-type"))
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
