"""An issuer of the tests: RSA keys, JWK sets and tokens, good ones and whatever else can be signed."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwk
from jose.backends.base import Key

from router_lambda.jwks import FetchFailed
from router_lambda.settings import JwtSettings

NOW: Final = 1_790_000_000.0
JWKS_URL: Final = "https://issuer.test/pool/.well-known/jwks.json"
ISSUER: Final = "https://issuer.test/pool"
AUDIENCE: Final = "app-client-1"
SUB: Final = "5f0c2b9e-user-1"
SETTINGS: Final = JwtSettings(JWKS_URL, ISSUER, AUDIENCE)

ABSENT: Final = object()
"""Stands for a claim that is to be left out."""


def segment(content: object) -> str:
    """Encode one part of a token: bytes as they are, anything else as JSON."""
    raw = content if isinstance(content, bytes) else json.dumps(content, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def access_claims(**changes: object) -> dict[str, Any]:
    """Return the claims of an access token as Cognito writes it, an hour before its end."""
    claims = {"iss": ISSUER, "sub": SUB, "token_use": "access", "client_id": AUDIENCE, "scope": "openid"}
    return _changed({**claims, "exp": int(NOW) + 3_600, "iat": int(NOW), "jti": "1"}, changes)


def id_claims(**changes: object) -> dict[str, Any]:
    """Return the claims of an id token as Cognito writes it, an hour before its end."""
    claims = {"iss": ISSUER, "sub": SUB, "token_use": "id", "aud": AUDIENCE, "email": "user@example.com"}
    return _changed({**claims, "exp": int(NOW) + 3_600, "iat": int(NOW), "cognito:groups": ["a"]}, changes)


def _changed(claims: Mapping[str, Any], changes: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in {**claims, **changes}.items() if value is not ABSENT}


@dataclass(frozen=True, slots=True)
class Signer:
    """A key of an issuer. `kid` names it in the JWK set and in the tokens that it signs."""

    kid: str
    key: Key

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as Cognito publishes it."""
        public = {name: self.key.public_key().to_dict()[name] for name in ("kty", "n", "e")}
        return {**public, "alg": "RS256", "kid": self.kid, "use": "sig"}

    def sign(self, payload: object, header: object = None) -> str:
        """Sign any payload under any header, by default the right one, with RS256."""
        head = segment({"kid": self.kid, "alg": "RS256"} if header is None else header)
        signed = f"{head}.{segment(payload)}"
        return f"{signed}.{segment(self.key.sign(signed.encode()))}"

    def access(self, **changes: object) -> str:
        """Sign an access token with some claims changed."""
        return self.sign(access_claims(**changes))


@cache
def signer(kid: str = "key-1", bits: int = 2_048) -> Signer:
    """Return the key of that name; it stays the same for the whole run."""
    private = rsa.generate_private_key(65_537, bits)
    pem = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Signer(kid, jwk.construct(pem, "RS256"))


def jwk_set(*entries: Signer | Mapping[str, Any]) -> bytes:
    """Return the document that publishes keys, or entries as they are."""
    return json.dumps({"keys": [one.jwk if isinstance(one, Signer) else one for one in entries]}).encode()


class Issuer:
    """Stands in for the JWKS endpoint as a `fetch`; `document` is what it answers, `None` when it is down."""

    def __init__(self, *signers: Signer) -> None:
        self.document: bytes | None = jwk_set(*signers)
        self.fetches: list[str] = []

    def __call__(self, url: str) -> bytes:
        """Answer, and remember that it was asked."""
        self.fetches.append(url)
        if self.document is None:
            raise FetchFailed("it is down")
        return self.document


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        """Tell the time."""
        return self.now
