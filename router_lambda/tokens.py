"""Decides whose token is let in: the signature first, then what the token claims.

Strict where the standards leave a choice (RFC 7515 JWS, RFC 7519 JWT, RFC 8725 best practices): each token has exactly
one spelling, and whatever is not known is refused. docs/adr/ADR-2026-11-23-lambda-authorizer.md says which tokens.
"""

from __future__ import annotations

import base64
import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from jose import jws
from jose.exceptions import JOSEError

from router_lambda.jwks import KeySet, UnknownKey
from router_lambda.schema import InvalidJob, read_json
from router_lambda.settings import LEEWAY_SECONDS, JwtSettings

MAX_TOKEN_BYTES: Final = 8_192
"""Longest token; API Gateway takes 10,240 bytes of headers together."""

LAST_SECOND: Final = 253_402_300_799
"""The end of the year 9999: no date is written beyond it, and every number up to it is exact in a JSON float."""

_ALGORITHM: Final = "RS256"
_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ"})
_TYPES: Final = ("JWT", "at+jwt")
_PARTS: Final = 3

_BEARER: Final = re.compile(r"(?i:bearer) +([A-Za-z0-9._-]+)", re.ASCII)
_SEGMENT: Final = re.compile(r"[A-Za-z0-9_-]+")
_KID: Final = re.compile(r"[\x20-\x7e]{1,256}")
_SUB: Final = re.compile(r"[\x21-\x7e]{1,128}")


class InvalidToken(Exception):
    """The token lets nobody in. The message names the kind of reason, never anything out of the token."""


@dataclass(frozen=True, slots=True)
class Claims:
    """Who a token speaks for, and the Unix second in which it ends."""

    sub: str
    exp: int


def bearer(header: str | None) -> str:
    """Return the token in the value of an `Authorization` header (RFC 6750, section 2.1).

    Raises:
        InvalidToken: there is none, more than one, or another scheme.
    """
    found = _BEARER.fullmatch(header or "")
    if found is None:
        raise InvalidToken("no bearer token")
    return found[1]


class Verifier:
    """Checks tokens against `settings` and the issuer's `keys`; `clock` gives Unix seconds."""

    def __init__(self, settings: JwtSettings, keys: KeySet, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._keys = keys
        self._clock = clock

    def verify(self, token: str) -> Claims:
        """Return what a token that is let in claims. With `settings.disabled`, every token is the user `local`'s.

        Raises:
            InvalidToken: it is not let in.
            KeysUnavailable: nothing can be said about it; see `KeySet.get`.
        """
        if self._settings.disabled:
            return Claims(sub="local", exp=LAST_SECOND)
        payload = self._signed_payload(token)
        return _accept(_read_object(payload, "payload"), self._settings, self._clock())

    def _signed_payload(self, token: str) -> bytes:
        """Return the payload's bytes once the signature over them is found to be the issuer's."""
        if len(token) > MAX_TOKEN_BYTES:
            raise InvalidToken("too long")
        segments = token.split(".")
        if len(segments) != _PARTS:
            raise InvalidToken("not three segments")
        header, payload, _signature = map(_decode, segments)
        kid = _key_id(_read_object(header, "header"))
        try:
            jws.verify(token, self._keys.get(kid), [_ALGORITHM])
        except UnknownKey:
            raise InvalidToken("unknown key") from None
        except JOSEError:
            raise InvalidToken("wrong signature") from None
        return payload


def _decode(segment: str) -> bytes:
    """Decode base64url in the one spelling that RFC 7515 allows: no padding, no other characters, no stray bits."""
    # One character left over encodes nothing.
    if not _SEGMENT.fullmatch(segment) or len(segment) % 4 == 1:
        raise InvalidToken("not base64url")
    decoded = base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    if base64.urlsafe_b64encode(decoded).rstrip(b"=").decode() != segment:
        raise InvalidToken("not base64url")
    return decoded


def _read_object(text: bytes, what: str) -> dict[str, Any]:
    """Parse one JSON object, nested ones included without a name twice: parsers differ in which of them counts."""
    try:
        parsed = read_json(text)
        json.loads(text.decode("utf-8"), object_pairs_hook=_unique)
    except (InvalidJob, _NamedTwice):
        raise InvalidToken(f"{what} is not plain JSON") from None
    if not isinstance(parsed, dict):
        raise InvalidToken(f"{what} is not a JSON object")
    return parsed


class _NamedTwice(Exception):
    """An object has two members of one name."""


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    together = dict(members)
    if len(together) != len(members):
        raise _NamedTwice
    return together


def _key_id(header: dict[str, Any]) -> str:
    """Return `kid` of a header that asks for nothing but RS256 with one of the issuer's keys."""
    if not header.keys() <= _HEADER_MEMBERS or header.get("typ", "JWT") not in _TYPES:
        raise InvalidToken("header not accepted")
    if header.get("alg") != _ALGORITHM:
        raise InvalidToken("algorithm not accepted")
    kid = header.get("kid")
    if not isinstance(kid, str) or not _KID.fullmatch(kid):
        raise InvalidToken("no key id")
    return kid


def _accept(claims: dict[str, Any], settings: JwtSettings, now: float) -> Claims:
    """Return the claims if they are for us and for now. Names: RFC 7519, section 4.1, and Cognito's own."""
    if claims.get("iss") != settings.issuer:
        raise InvalidToken("wrong issuer")
    _check_audience(claims, settings.audience)
    exp = _seconds(claims, "exp")
    if now >= exp + LEEWAY_SECONDS:
        raise InvalidToken("expired")
    if "nbf" in claims and now < _seconds(claims, "nbf") - LEEWAY_SECONDS:
        raise InvalidToken("not yet valid")
    if "iat" in claims and now < _seconds(claims, "iat") - LEEWAY_SECONDS:
        raise InvalidToken("issued in the future")
    sub = claims.get("sub")
    if not isinstance(sub, str) or not _SUB.fullmatch(sub):
        raise InvalidToken("no subject")
    return Claims(sub=sub, exp=int(exp))


def _check_audience(claims: dict[str, Any], audience: str) -> None:
    """Hold an access token's `client_id`, or an id token's `aud`, against the app client.

    Source: https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-tokens-verifying-a-jwt.html
    """
    match claims.get("token_use"):
        case "access":
            is_ours = claims.get("client_id") == audience
        case "id":
            aud = claims.get("aud")
            several = aud if isinstance(aud, list) and all(isinstance(one, str) for one in aud) else [aud]
            is_ours = audience in several
        case _:
            raise InvalidToken("wrong token use")
    if not is_ours:
        raise InvalidToken("wrong audience")


def _seconds(claims: dict[str, Any], name: str) -> float:
    """Return a NumericDate. JSON has no NaN here, as `read_json` refuses it; Python counts `true` as a number."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > LAST_SECOND:
        raise InvalidToken(f"{name} is not a time")
    return value
