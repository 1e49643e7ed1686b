"""Who sends a request, by the authorizer's word or by the token itself; and from where it may come."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from ipaddress import ip_network
from typing import Any

import pytest

from router_lambda import jwks
from router_lambda.http import Problem, Request
from router_lambda.identity import Identity, require_address
from router_lambda.settings import LEEWAY_SECONDS, JwtSettings
from tests.router_samples import event
from tests.tokens import ABSENT, JWKS_URL, NOW, SETTINGS, SUB, Issuer, signer

EDGE = Identity(None, lambda: NOW)
"""The router behind an authorizer, with a clock that stands still."""


def request(claims: Any, **headers: str) -> Request:
    """Return a request of which the authorizer found out `claims`."""
    return Request.from_event(event("POST", "/infer", "{}", authorizer={"lambda": claims}, headers=headers))


def refusal(identity: Identity, sent: Request) -> Problem:
    """Return the 401 by which a request is refused; it names the scheme, as RFC 9110 asks."""
    with pytest.raises(Problem) as refused:
        identity.subject(sent)
    assert refused.value.status == 401
    assert refused.value.headers == {"www-authenticate": "Bearer"}
    return refused.value


# By the authorizer


@pytest.mark.parametrize("sub", ["user-1", "é😀", " ", "0", "x" * 10_000])
def test_the_authorizers_word_is_taken(sub: str) -> None:
    """Without an `exp` as well: the authorizer need not hand it on."""
    assert EDGE.subject(request({"sub": sub})) == sub
    assert EDGE.subject(request({"sub": sub, "exp": NOW + 60})) == sub


def test_behind_the_authorizer_the_token_is_not_read() -> None:
    """It has been; a claim that the router reads itself could only differ."""
    assert EDGE.subject(request({"sub": "user-1"}, authorization="Bearer garbage")) == "user-1"
    assert Identity(SETTINGS, lambda: NOW).subject(request({"sub": "user-1"}, authorization="Basic x")) == "user-1"


@pytest.mark.parametrize("form", [float, int, str, lambda exp: f"{exp:.12e}", lambda exp: f" {exp} "])
@pytest.mark.parametrize(("ends_in", "lives"), [(3_600, True), (0, True), (-9, True), (-11, False), (-3_600, False)])
def test_a_token_that_has_ended_since_lets_nobody_in(form: Any, ends_in: int, *, lives: bool) -> None:
    """API Gateway may keep a verdict for longer, and may hand numbers on as text."""
    sent = request({"sub": "user-1", "exp": form(int(NOW) + ends_in)})

    if lives:
        assert EDGE.subject(sent) == "user-1"
    else:
        assert "has expired" in str(refusal(EDGE, sent))


@pytest.mark.parametrize(("late", "lives"), [(0.001, True), (0.0, False), (-0.001, False)])
def test_the_leeway_ends_where_that_of_the_authorizer_ends(late: float, *, lives: bool) -> None:
    """Ten seconds after the end a token is dead, here as there."""
    sent = request({"sub": "user-1", "exp": NOW - LEEWAY_SECONDS + late})

    if lives:
        assert EDGE.subject(sent) == "user-1"
    else:
        refusal(EDGE, sent)


@pytest.mark.parametrize(
    "exp",
    [
        *(
            None,
            "",
            " ",
            "soon",
            "NaN",
            "nan",
            float("nan"),
            "-inf",
            float("-inf"),
            "inf",
            float("inf"),
            "9e999",
            True,
            False,
            [],
            {},
            [NOW + 60],
        ),
        *({"exp": NOW + 60}, "0x7fffffff", "1790003600 s", "2099-01-01T00:00:00Z", -NOW, "-1", 0),
    ],
)
def test_an_end_that_is_no_time_has_passed(exp: object) -> None:
    """Garbage never means for ever."""
    assert "has expired" in str(refusal(EDGE, request({"sub": "user-1", "exp": exp})))


@pytest.mark.parametrize("sub", [ABSENT, None, "", 5, 5.0, True, ["user-1"], {"sub": "user-1"}, b"user-1"])
def test_without_a_sub_nobody_is_known(sub: object) -> None:
    """Missing, empty or of another type: the request is a stranger's, whatever else is claimed."""
    claims = {"exp": NOW + 60, "username": "user-1"} | ({} if sub is ABSENT else {"sub": sub})
    assert "through the gateway" in str(refusal(EDGE, request(claims)))


@pytest.mark.parametrize(
    "authorizer",
    [None, {}, {"lambda": None}, {"lambda": "user-1"}, {"sub": "user-1"}, {"jwt": {"claims": {"sub": "a"}}}],
)
def test_without_an_authorizers_word_nobody_is_known(authorizer: object) -> None:
    """Also where another kind of authorizer left one: this router is not deployed behind it."""
    sent = Request.from_event(event("POST", "/infer", "{}", authorizer=authorizer, headers={"sub": "user-1"}))
    refusal(EDGE, sent)


def test_without_settings_a_good_token_does_not_help() -> None:
    """No key is there to check it with."""
    refusal(EDGE, request(None, authorization=f"Bearer {signer().access()}"))


# By the token itself


@pytest.fixture
def issuer(monkeypatch: pytest.MonkeyPatch) -> Issuer:
    """Return the issuer that answers in place of the network."""
    made = Issuer(signer())
    monkeypatch.setattr(jwks, "fetch_over_http", made)
    return made


def fresh(**changes: object) -> str:
    """Sign a token that lives while the test runs."""
    now = int(time.time())
    return signer().access(**{"exp": now + 600, "iat": now} | changes)


def test_a_direct_callers_token_is_verified(issuer: Issuer) -> None:
    """Once the keys are there they stay."""
    identity = Identity(SETTINGS)
    sent = request(None, authorization=f"Bearer {fresh()}")

    assert [identity.subject(sent) for _ in range(3)] == [SUB] * 3
    assert issuer.fetches == [JWKS_URL]


@pytest.mark.parametrize("claims", [{"sub": ""}, {"sub": None, "exp": NOW + 60}, {"sub": ["user-1"]}])
def test_claims_without_a_user_leave_the_word_to_the_token(issuer: Issuer, claims: dict[str, Any]) -> None:
    """And its `sub` counts, not theirs."""
    assert Identity(SETTINGS).subject(request(claims, Authorization=f"Bearer {fresh()}")) == SUB


def test_an_expired_verdict_is_not_mended_by_a_good_token(issuer: Issuer) -> None:
    """The authorizer has spoken: this request has one end, and it has passed."""
    identity = Identity(SETTINGS)
    sent = request({"sub": "user-1", "exp": 1}, authorization=f"Bearer {fresh()}")

    assert "has expired" in str(refusal(identity, sent))
    assert issuer.fetches == []


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        *((None, "no bearer token"), ("", "no bearer token"), ("Basic dXNlcg==", "no bearer token")),
        *(("Bearer", "no bearer token"), ("Bearer a b", "no bearer token"), ("Bearer garbage", "not three segments")),
    ],
)
def test_a_header_without_a_token_is_refused_without_a_fetch(issuer: Issuer, header: str | None, reason: str) -> None:
    """No key could make it good; the answer says what to send."""
    refused = refusal(Identity(SETTINGS), request(None, **({} if header is None else {"authorization": header})))

    assert str(refused) == f"send a valid token as Authorization: Bearer; this one is refused: {reason}"
    assert issuer.fetches == []


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        *(({"exp": 1}, "expired"), ({"iss": "https://other.test"}, "wrong issuer"), ({"sub": ""}, "no subject")),
        *(({"client_id": "other"}, "wrong audience"), ({"nbf": 4_000_000_000}, "not yet valid")),
    ],
)
def test_a_token_that_is_not_let_in_is_refused(issuer: Issuer, changes: dict[str, Any], reason: str) -> None:
    """401 with the kind of reason and nothing out of the token."""
    token = fresh(**changes)
    refused = refusal(Identity(SETTINGS), request(None, authorization=f"Bearer {token}"))

    assert str(refused).endswith(f": {reason}")
    assert not any(part in str(refused) for part in token.split("."))


def test_a_strangers_signature_is_refused(issuer: Issuer) -> None:
    """The right name on the wrong key."""
    stranger = signer("stranger")
    forged = stranger.sign({"sub": SUB}, {"kid": signer().kid, "alg": "RS256"})
    assert str(refusal(Identity(SETTINGS), request(None, authorization=f"Bearer {forged}"))).endswith("wrong signature")


def test_without_keys_the_answer_is_to_try_again(issuer: Issuer) -> None:
    """503: the token may be good, and a 401 would send its user to log in."""
    issuer.document = None
    with pytest.raises(Problem, match="Retry-After") as later:
        Identity(SETTINGS).subject(request(None, authorization=f"Bearer {fresh()}"))

    assert later.value.status == 503
    assert int(later.value.headers["retry-after"]) > 0
    assert "issuer.test" not in str(later.value)


def test_one_clock_tells_the_time_to_both_ways() -> None:
    """A token is as old for a direct caller as for one behind the authorizer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jwks, "fetch_over_http", Issuer(signer()))
        assert (
            Identity(SETTINGS, lambda: NOW).subject(request(None, authorization=f"Bearer {signer().access()}")) == SUB
        )


def test_when_disabled_any_bearer_token_is_the_local_user() -> None:
    """But there has to be one, so that the demo's requests look like real ones."""
    identity = Identity(JwtSettings("", "", "", disabled=True))

    assert identity.subject(request(None, authorization="Bearer anything")) == "local"
    refusal(identity, request(None))


def test_no_refusal_shows_the_token(issuer: Issuer) -> None:
    """Neither as a whole nor in parts, whatever is wrong with it."""
    for token in ("hunter2", "hunter2.hunter2.hunter2", base64.urlsafe_b64encode(b"hunter2" * 2_000).decode()):
        refused = refusal(Identity(SETTINGS), request(None, authorization=f"Bearer {token}"))
        assert "hunter2" not in f"{refused} {refused.headers} {refused.__cause__}"


# By address

NETWORKS = tuple(map(ip_network, ("10.20.0.0/22", "192.0.2.7/32", "2001:db8::/32")))


def from_address(address: object, **headers: str) -> Request:
    """Return a request from there."""
    sent = event("GET", "/ping", headers=headers)
    sent["requestContext"]["http"]["sourceIp"] = address
    return Request.from_event(sent)


@pytest.mark.parametrize(
    "address",
    [
        *("10.20.0.0", "10.20.3.255", "192.0.2.7", "2001:db8::", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff"),
        *("2001:DB8::1", "::ffff:10.20.0.1", "::ffff:c000:207"),
    ],
)
def test_an_address_inside_passes(address: str) -> None:
    """First and last of a network, in any spelling; an IPv4 address mapped into IPv6 is the IPv4 address."""
    require_address(from_address(address), NETWORKS)


@pytest.mark.parametrize(
    "address",
    [
        *("10.19.255.255", "10.20.4.0", "192.0.2.6", "192.0.2.8", "127.0.0.1", "0.0.0.0", "::", "::1", "2001:db9::"),  # noqa: S104 - no socket is bound
        *("::10.20.0.1", "::ffff:10.20.4.0", "64:ff9b::10.20.0.1", "2002:0a14:0001::1"),
        *("", " ", "unknown", "localhost", "10.20.0", "10.20.0.1/32", "10.20.0.1:80", "[2001:db8::1]", "010.20.0.1"),
        *(" 10.20.0.1", "10.20.0.1 ", "10.20.0.1,10.20.0.1", "٢.20.0.1", None),
    ],
)
def test_any_other_address_is_refused(address: str | None) -> None:
    """403, and so for one that is none: what cannot be read is not inside."""
    with pytest.raises(Problem, match="TLFIF_PING_CIDRS") as refused:
        require_address(from_address(address), NETWORKS)
    assert refused.value.status == 403


@pytest.mark.parametrize("name", ["x-forwarded-for", "forwarded", "x-real-ip", "true-client-ip", "sourceIp"])
def test_no_header_moves_a_request(name: str) -> None:
    """Anybody can write one: it neither lets in nor keeps out."""
    with pytest.raises(Problem):
        require_address(from_address("203.0.113.9", **{name: "10.20.0.1"}), NETWORKS)
    require_address(from_address("10.20.0.1", **{name: "203.0.113.9"}), NETWORKS)


@pytest.mark.parametrize("networks", [(), [ip_network("0.0.0.0/0")]])
def test_a_family_without_a_network_is_outside(networks: Sequence[Any]) -> None:
    """All of IPv4 is none of IPv6, and without any network nobody passes."""
    with pytest.raises(Problem):
        require_address(from_address("2001:db8::1"), tuple(networks))


def test_an_event_without_an_address_is_refused() -> None:
    """As `aws lambda invoke` may send it."""
    sent = event("GET", "/ping")
    del sent["requestContext"]["http"]["sourceIp"]
    with pytest.raises(Problem):
        require_address(Request.from_event(sent), NETWORKS)
