"""Who sends a request: what the authorizer at the edge found out, or else the token itself."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from functools import cached_property
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from router_lambda.http import Problem, Request
from router_lambda.settings import LEEWAY_SECONDS, JwtSettings, Networks

if TYPE_CHECKING:
    from router_lambda.tokens import Verifier


class Identity:
    """Tells the users apart. `jwt` verifies requests that no authorizer has seen; without it, none of them get in."""

    def __init__(self, jwt: JwtSettings | None, clock: Callable[[], float] = time.time) -> None:
        self._jwt = jwt
        self._clock = clock

    def subject(self, request: Request) -> str:
        """Return the user's `sub`.

        Raises:
            Problem: 401, there is no valid token; 503, the keys to check it cannot be had.
        """
        sub = request.claims.get("sub")
        if not (isinstance(sub, str) and sub):
            return self._verified(request)
        # API Gateway may keep the authorizer's verdict for longer than the token lives.
        if "exp" in request.claims and not self._is_future(request.claims["exp"]):
            raise _unauthorized("the token has expired; get a new one and send the request again")
        return sub

    def _is_future(self, exp: object) -> bool:
        try:
            end = float(str(exp))
        except ValueError:
            return False
        return math.isfinite(end) and self._clock() < end + LEEWAY_SECONDS

    def _verified(self, request: Request) -> str:
        if self._jwt is None:
            raise _unauthorized("send the request through the gateway, with a valid token as Authorization: Bearer")
        # Where an authorizer runs at the edge, python-jose is never needed here and would slow every cold start.
        from router_lambda.jwks import KeysUnavailable  # noqa: PLC0415
        from router_lambda.tokens import InvalidToken, bearer  # noqa: PLC0415

        try:
            return self._verifier.verify(bearer(request.headers.get("authorization"))).sub
        except InvalidToken as error:
            raise _unauthorized(f"send a valid token as Authorization: Bearer; this one is refused: {error}") from None
        except KeysUnavailable:
            detail = "the token cannot be checked now; send the request again after Retry-After seconds"
            raise Problem.try_later(detail) from None

    @cached_property
    def _verifier(self) -> Verifier:
        from router_lambda.jwks import KeySet  # noqa: PLC0415 - see `_verified`
        from router_lambda.tokens import Verifier  # noqa: PLC0415

        assert self._jwt is not None
        return Verifier(self._jwt, KeySet(self._jwt.jwks_url, clock=self._clock), self._clock)


def _unauthorized(detail: str) -> Problem:
    return Problem(401, detail, headers={"www-authenticate": "Bearer"})


def require_address(request: Request, networks: Networks) -> None:
    """Let only `networks` pass.

    Raises:
        Problem: 403, the request comes from elsewhere.
    """
    try:
        source = ip_address(request.source_ip)
    except ValueError:
        source = None
    if isinstance(source, IPv6Address) and source.ipv4_mapped is not None:
        source = source.ipv4_mapped
    if source is None or not any(source in network for network in networks):
        raise Problem(403, "this route answers to the addresses of TLFIF_PING_CIDRS only")
