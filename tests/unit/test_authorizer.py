"""The authorizer Lambda: its answers, the events that it takes, and what it keeps between them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from router_lambda import authorizer
from router_lambda.jwks import KeySet, KeysUnavailable
from router_lambda.settings import RouterConfigError
from router_lambda.tokens import Verifier
from tests.tokens import AUDIENCE, ISSUER, JWKS_URL, NOW, SETTINGS, SUB, Clock, Issuer, signer

GOOD = f"Bearer {signer().access()}"
ALLOWED = {"isAuthorized": True, "context": {"sub": SUB, "exp": int(NOW) + 3_600}}
DENIED = {"isAuthorized": False}
ODD: list[Any] = [None, [], "x", 5]


@pytest.fixture
def issuer() -> Issuer:
    """Return an issuer with one key."""
    return Issuer(signer())


@pytest.fixture
def _verifier(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    verifier = Verifier(SETTINGS, KeySet(JWKS_URL, issuer, Clock()), Clock())
    monkeypatch.setattr(authorizer, "_verifier", lambda: verifier)


@pytest.fixture
def _built_anew() -> Iterator[None]:
    authorizer._verifier.cache_clear()
    yield
    authorizer._verifier.cache_clear()


@pytest.mark.usefixtures("_verifier")
@pytest.mark.parametrize(
    "event",
    [
        {"headers": {"authorization": GOOD}},
        {"headers": {"Authorization": GOOD}},
        {"headers": {"AUTHORIZATION": GOOD}},
        {"headers": {"x": "y", "authorization": GOOD}, "identitySource": ["Bearer other"]},
        {"headers": {"x": "y"}, "identitySource": [GOOD]},
        {"headers": None, "identitySource": [GOOD]},
        {"identitySource": [GOOD]},
    ],
)
def test_the_token_is_found(event: dict[str, Any]) -> None:
    """In the header, whatever its case, or else at the identity source; the answer is what API Gateway takes."""
    answer = authorizer.handler(event, None)

    assert answer == ALLOWED
    assert json.loads(json.dumps(answer)) == answer


@pytest.mark.usefixtures("_verifier")
@pytest.mark.parametrize(
    "event",
    [
        *(None, [], "", 5, {}, {"headers": {}}, {"headers": []}, {"headers": [GOOD]}, {"headers": GOOD}),
        *({"headers": {"authorization": value}} for value in (None, 5, [GOOD], {"a": GOOD}, "", b"x")),
        *({"identitySource": value} for value in (None, [], [None], [[GOOD]], GOOD, {"0": GOOD})),
        {"headers": {5: GOOD}},
        {"headers": {"authorization": ""}, "identitySource": [GOOD]},
        {"headers": {"authorization": "Basic x"}, "identitySource": [GOOD]},
        {"headers": {"Authorization": GOOD, "authorization": GOOD}},
        {"headers": {"x-authorization": GOOD, "proxy-authorization": GOOD}},
        {"multiValueHeaders": {"authorization": [GOOD]}},
        {"queryStringParameters": {"access_token": GOOD}},
        {"cookies": [f"authorization={GOOD}"]},
        *({"requestContext": value} for value in ODD),
        *({"requestContext": {"http": value, "requestId": {"a": value}}} for value in ODD),
        {"requestContext": {"requestId": object(), "http": {"sourceIp": object()}}},
    ],
)
def test_an_event_without_one_token_in_its_place_is_a_no(event: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever the event looks like: no exception, one line."""
    assert authorizer.handler(event, None) == DENIED
    logged = json.loads(capsys.readouterr().out)
    assert logged == {"event": "refused", "reason": "no bearer token", "requestId": None, "ip": None}


@pytest.mark.usefixtures("_verifier")
def test_a_refusal_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """It names reason, request and address, and nobody."""
    context = {"requestId": "request-1", "http": {"sourceIp": "2001:db8::1"}}
    token = signer().access(exp=1)
    event = {"headers": {"authorization": f"Bearer {token}"}, "requestContext": context}

    assert authorizer.handler(event, None) == DENIED
    logged = json.loads(capsys.readouterr().out)
    assert logged == {"event": "refused", "reason": "expired", "requestId": "request-1", "ip": "2001:db8::1"}


@pytest.mark.usefixtures("_verifier")
def test_without_any_key_there_is_no_answer(issuer: Issuer) -> None:
    """API Gateway turns the exception into a 500: a 403 would send good users to log in again."""
    issuer.document = None
    with pytest.raises(KeysUnavailable, match="no signing key could be fetched"):
        authorizer.handler({"headers": {"authorization": GOOD}}, None)


@pytest.mark.usefixtures("_verifier")
def test_a_bad_header_is_a_no_even_without_keys(issuer: Issuer) -> None:
    """What no key could make good needs none."""
    issuer.document = None
    assert authorizer.handler({"headers": {"authorization": "Bearer x"}}, None) == DENIED


@pytest.mark.usefixtures("_built_anew")
def test_the_settings_are_read_once_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails while one is missing, naming it, and keeps what it built afterwards."""
    environment = {"TLFIF_JWKS_URL": "http://127.0.0.1:1/", "TLFIF_JWT_ISSUER": ISSUER, "TLFIF_JWT_AUDIENCE": AUDIENCE}
    for name in (*environment, "TL_DISABLE_JWT"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RouterConfigError, match="TLFIF_JWT_ISSUER"):
        authorizer.handler({}, None)

    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert authorizer.handler({}, None) == DENIED
    verifier = authorizer._verifier()
    monkeypatch.delenv("TLFIF_JWT_ISSUER")
    assert authorizer.handler({}, None) == DENIED
    assert authorizer._verifier() is verifier


@pytest.mark.usefixtures("_built_anew")
def test_when_disabled_any_token_is_let_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the local stack, as the user `local`; inside a Lambda the setting is refused."""
    monkeypatch.setenv("TL_DISABLE_JWT", "1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9000")
    monkeypatch.delenv("AWS_LAMBDA_FUNCTION_NAME", raising=False)
    answer = authorizer.handler({"headers": {"authorization": "Bearer x"}}, None)
    assert answer["context"]["sub"] == "local"

    authorizer._verifier.cache_clear()
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "authorizer")
    with pytest.raises(RouterConfigError, match="unset TL_DISABLE_JWT"):
        authorizer.handler({"headers": {"authorization": "Bearer x"}}, None)
