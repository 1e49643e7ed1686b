"""Cross-origin requests: pages that a developer serves from his own machine may call, and nobody else's.

API Gateway knows no wildcard for ports, so it is left out of this and the Lambda answers. Without these headers a
browser neither sends a request with a token nor shows the answer to the page.
"""

from __future__ import annotations

import re
from typing import Any, Final

from router_lambda.http import Problem, Request

_ORIGIN: Final = re.compile(r"http://localhost(?::([0-9]{1,5}))?")
_HIGHEST_PORT: Final = 65_535

_PREFLIGHT: Final = {
    "access-control-allow-methods": "GET, POST, OPTIONS",
    "access-control-allow-headers": "authorization, content-type, idempotency-key, traceparent, x-amzn-trace-id",
    "access-control-max-age": "600",
}
_EXPOSED: Final = "location, retry-after, www-authenticate, x-request-id"


def headers(request: Request) -> dict[str, str]:
    """Return what an answer needs for the page that asked to read it; nothing for any other origin."""
    origin = request.headers.get("origin", "")
    if not _is_allowed(origin):
        return {}
    return {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": _EXPOSED,
        "vary": "origin",
    }


def preflight(request: Request) -> dict[str, Any]:
    """Answer `OPTIONS`.

    Raises:
        Problem: 403, the origin is not allowed.
    """
    if not _is_allowed(request.headers.get("origin", "")):
        raise Problem(403, "pages may call from http://localhost or http://localhost:<port> only")
    return {
        "statusCode": 204,
        "headers": dict(_PREFLIGHT),
        "body": "",
        "isBase64Encoded": False,
    }


def _is_allowed(origin: str) -> bool:
    match = _ORIGIN.fullmatch(origin)
    return match is not None and 0 < int(match[1] or 80) <= _HIGHEST_PORT
