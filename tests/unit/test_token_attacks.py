"""Tokens that attackers send: none gets in, nothing breaks, nothing of them is logged. Good tokens do get in."""

from __future__ import annotations

import json
import logging
from typing import Any, Final

import pytest

from router_lambda import authorizer
from router_lambda.jwks import KeySet
from router_lambda.tokens import InvalidToken, Verifier, bearer
from tests.attack_tokens import AUTHORIZATIONS, GOOD, GOOD_TOKENS, OURS, SECOND, TOKENS, WEAK
from tests.tokens import JWKS_URL, NOW, SETTINGS, SUB, Clock, Issuer

DENIED: Final = {"isAuthorized": False}


@pytest.fixture
def issuer() -> Issuer:
    """Return an issuer with two good keys, and one too short to be safe."""
    return Issuer(OURS, SECOND, WEAK)


@pytest.fixture
def verifier(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> Verifier:
    """Return a verifier of that issuer's tokens, which the authorizer uses too."""
    verifier = Verifier(SETTINGS, KeySet(JWKS_URL, issuer, Clock()), Clock())
    monkeypatch.setattr(authorizer, "_verifier", lambda: verifier)
    return verifier


def event(authorization: str | None) -> dict[str, Any]:
    """Build the authorizer's event for a value of the `Authorization` header."""
    there = {} if authorization is None else {"authorization": authorization}
    context = {"requestId": "request-1", "http": {"method": "POST", "path": "/infer", "sourceIp": "192.0.2.1"}}
    return {"version": "2.0", "type": "REQUEST", "headers": there, "requestContext": context}


def assert_silent(secret: str, said: str) -> None:
    """Hold that no twelve characters of a token, and nobody's name, were written anywhere."""
    assert SUB not in said
    assert not any(secret[at : at + 12] in said for at in range(min(len(secret), 10_000) - 11))


@pytest.mark.parametrize("token", TOKENS.values(), ids=TOKENS.keys())
def test_no_attack_gets_in(
    token: str,
    verifier: Verifier,
    issuer: Issuer,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No from the verifier and from the authorizer, one line that quotes nothing, and no address asked but our own."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(InvalidToken) as refused:
        verifier.verify(token)
    assert authorizer.handler(event(f"Bearer {token}"), None) == DENIED

    out, err = capsys.readouterr()
    said = out + err + caplog.text
    logged = json.loads(out)
    assert logged.keys() == {"event", "reason", "requestId", "ip"}
    assert (logged["event"], logged["requestId"], logged["ip"]) == ("refused", "request-1", "192.0.2.1")
    assert_silent(token, f"{said}{refused.value}")
    assert set(issuer.fetches) <= {JWKS_URL}


@pytest.mark.parametrize("authorization", AUTHORIZATIONS.values(), ids=AUTHORIZATIONS.keys())
def test_no_header_but_one_bearer_token_gets_in(
    authorization: str | None, verifier: Verifier, issuer: Issuer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A good token in a bad header is none: no other scheme, no list, nothing around it."""
    with pytest.raises(InvalidToken):
        bearer(authorization)
    assert authorizer.handler(event(authorization), None) == DENIED

    out, err = capsys.readouterr()
    assert json.loads(out)["reason"] == "no bearer token"
    assert_silent(GOOD, out + err)
    assert issuer.fetches == []


@pytest.mark.parametrize("token", GOOD_TOKENS.values(), ids=GOOD_TOKENS.keys())
def test_good_tokens_get_in(token: str, verifier: Verifier, capsys: pytest.CaptureFixture[str]) -> None:
    """The controls: were everything refused, the tests above would prove nothing."""
    assert verifier.verify(token).sub == SUB
    answer = authorizer.handler(event(f"Bearer {token}"), None)

    assert answer == {"isAuthorized": True, "context": {"sub": SUB, "exp": int(NOW) + 3_600}}
    assert capsys.readouterr() == ("", "")
