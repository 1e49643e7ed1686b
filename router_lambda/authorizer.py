"""The authorizer Lambda: tells API Gateway whether a request's token lets it in.

Source of the shapes (REQUEST authorizer, payload format 2.0, simple responses):
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-lambda-authorizer.html
"""

from __future__ import annotations

import os
from functools import cache
from typing import Any

from router_lambda import logs
from router_lambda.jwks import KeySet
from router_lambda.settings import JwtSettings
from router_lambda.tokens import InvalidToken, Verifier, bearer


def handler(event: Any, _context: object) -> dict[str, Any]:
    """Lambda's entry point: let a request in with its `sub` and `exp`, or not. API Gateway makes a no into a 403.

    A token that is bad is a no, and so is an event of any other shape.

    Raises:
        KeysUnavailable: no key has ever been fetched and none can be. API Gateway makes this into a 500, rightly: the
            token may be good, and a 403 would send its user to log in again and again.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    verifier = _verifier()
    try:
        claims = verifier.verify(bearer(_authorization(event)))
    except InvalidToken as refusal:
        context = _member(event, "requestContext")
        ip = _text(_member(_member(context, "http"), "sourceIp"))
        logs.line(event="refused", reason=str(refusal), requestId=_text(_member(context, "requestId")), ip=ip)
        return {"isAuthorized": False}
    return {"isAuthorized": True, "context": {"sub": claims.sub, "exp": claims.exp}}


@cache
def _verifier() -> Verifier:
    settings = JwtSettings.from_environment(os.environ)
    return Verifier(settings, KeySet(settings.jwks_url))


def _authorization(event: Any) -> str | None:
    """Return the header's value, else what API Gateway found at the identity source.

    Several spellings of the header come out joined by commas, as API Gateway joins them, and `bearer` refuses that.
    """
    headers = _member(event, "headers")
    if isinstance(headers, dict):
        values = [value for name, value in headers.items() if str(name).lower() == "authorization"]
        if values:
            return ",".join(map(str, values))
    sources = _member(event, "identitySource")
    return _text(sources[0]) if isinstance(sources, list) and sources else None


def _member(parent: Any, name: str) -> Any:
    return parent.get(name) if isinstance(parent, dict) else None


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) else None
