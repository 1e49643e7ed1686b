"""Which tokens are let in: the limits of each rule, and what the verifier says. Attacks have a file of their own."""

from __future__ import annotations

import math
import string
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.jwks import KeySet, KeysUnavailable
from router_lambda.tokens import Claims, InvalidToken, Verifier, bearer
from tests.tokens import (
    ABSENT,
    AUDIENCE,
    ISSUER,
    JWKS_URL,
    NOW,
    SETTINGS,
    SUB,
    Clock,
    Issuer,
    access_claims,
    id_claims,
    segment,
    signer,
)

LATER = int(NOW) + 3_600
OURS = signer()


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    """Return an issuer with one key."""
    return Issuer(OURS)


@pytest.fixture
def verifier(issuer: Issuer, clock: Clock) -> Verifier:
    """Return a verifier of that issuer's tokens."""
    return Verifier(SETTINGS, KeySet(JWKS_URL, issuer, clock), clock)


@pytest.mark.parametrize(
    "claims",
    [
        access_claims(),
        access_claims(iat=ABSENT, jti=ABSENT, scope=ABSENT),
        access_claims(aud="somebody-else"),
        id_claims(),
        id_claims(aud=[AUDIENCE]),
        id_claims(aud=["another", AUDIENCE]),
        id_claims(client_id="somebody-else"),
        id_claims(identities=[{"userId": "1"}], address={"formatted": "é 😀"}, email_verified=True),
    ],
)
def test_a_token_for_us_is_let_in(verifier: Verifier, claims: dict[str, Any]) -> None:
    """Access and id tokens, with whatever other claims they bring."""
    assert verifier.verify(OURS.sign(claims)) == Claims(sub=SUB, exp=LATER)


@pytest.mark.parametrize("typ", ["JWT", "at+jwt"])
def test_a_token_may_say_what_it_is(verifier: Verifier, typ: str) -> None:
    """Cognito leaves `typ` out, others do not."""
    token = OURS.sign(access_claims(), {"typ": typ, "alg": "RS256", "kid": OURS.kid})
    assert verifier.verify(token).sub == SUB


def test_the_issuer_may_write_json_as_it_likes(verifier: Verifier) -> None:
    """White space, escapes and the form of a number change nothing."""
    start = f'{{ "sub":"\\u0035", "iss":"{ISSUER}",\n"token_use":"access"'
    payload = f'{start},\t"client_id":"{AUDIENCE}","exp":{LATER}.0 }}'
    assert verifier.verify(OURS.sign(payload.encode())).sub == "5"


@pytest.mark.parametrize(
    ("claims", "good", "bad"),
    [
        (access_claims(exp=int(NOW)), NOW + 9.9, NOW + 10),
        (access_claims(exp=NOW + 0.5), NOW + 10.4, NOW + 10.5),
        (access_claims(nbf=int(NOW)), NOW - 10, NOW - 10.1),
        (access_claims(iat=int(NOW)), NOW - 10, NOW - 10.1),
    ],
    ids=["exp", "exp-fraction", "nbf", "iat"],
)
def test_clocks_may_differ_by_ten_seconds(
    verifier: Verifier, clock: Clock, claims: dict[str, Any], good: float, bad: float
) -> None:
    """Up to the leeway a token is good, beyond it is not; `exp` comes out as a whole second."""
    if "nbf" in claims:
        del claims["iat"]
    token = OURS.sign(claims)
    clock.now = good
    assert verifier.verify(token).exp == math.floor(claims["exp"])
    clock.now = bad
    with pytest.raises(InvalidToken, match=r"expired|not yet valid|issued in the future"):
        verifier.verify(token)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"iss": "https://other.test/pool"}, "wrong issuer"),
        ({"token_use": "refresh"}, "wrong token use"),
        ({"client_id": "other"}, "wrong audience"),
        ({"exp": int(NOW) - 60}, "expired"),
        ({"exp": "1"}, "exp is not a time"),
        ({"exp": 253_402_300_800}, "exp is not a time"),
        ({"iat": None}, "iat is not a time"),
        ({"nbf": LATER}, "not yet valid"),
        ({"iat": LATER}, "issued in the future"),
        ({"sub": ""}, "no subject"),
    ],
)
def test_the_reason_is_named(verifier: Verifier, changes: dict[str, object], reason: str) -> None:
    """An operator learns the kind of fault, and nothing that was in the token."""
    with pytest.raises(InvalidToken) as refused:
        verifier.verify(OURS.access(**changes))
    assert str(refused.value) == reason


@pytest.mark.parametrize("sub", ["a" * 128, "!", "~", "".join(map(chr, range(0x21, 0x7F)))])
def test_a_subject_may_be_any_printable_ascii(verifier: Verifier, sub: str) -> None:
    """Up to 128 characters: it becomes part of Redis keys and log lines."""
    assert verifier.verify(OURS.access(sub=sub)).sub == sub


@pytest.mark.parametrize("sub", [ABSENT, None, 5, True, [SUB], "", "a" * 129, "a b", "a\n", "\x7f", "é", "\ud800"])
def test_any_other_subject_is_refused(verifier: Verifier, sub: object) -> None:
    """No subject is cut or escaped into another one."""
    with pytest.raises(InvalidToken, match="no subject"):
        verifier.verify(OURS.access(sub=sub))


def test_a_token_may_be_8_kib_long(verifier: Verifier) -> None:
    """The limit itself is allowed, one character more is not."""
    bare = len(OURS.access(fill=""))
    fill = "x" * ((8_192 - bare) * 3 // 4)
    sizes = {len(token): token for token in (OURS.access(fill=fill + "x" * more) for more in range(-4, 5))}
    longest = max(size for size in sizes if size <= 8_192)

    assert longest >= 8_191
    verifier.verify(sizes[longest])
    with pytest.raises(InvalidToken, match="too long"):
        verifier.verify(sizes[min(size for size in sizes if size > 8_192)])


def test_a_key_id_may_be_256_characters_long(clock: Clock) -> None:
    """It is looked up as it is, whatever it looks like."""
    odd = replace(OURS, kid="../ ' OR 1=1;".ljust(256, "~"))
    verifier = Verifier(SETTINGS, KeySet(JWKS_URL, Issuer(odd), clock), clock)
    assert verifier.verify(odd.access()).sub == SUB


def test_a_forged_token_learns_nothing_about_its_claims(verifier: Verifier) -> None:
    """The signature comes first: expired or not, the answer is the same."""
    for exp in (0, LATER):
        forged = OURS.access(exp=exp)[:-8] + "AAAAAAAA"
        with pytest.raises(InvalidToken, match="wrong signature"):
            verifier.verify(forged)


def test_a_malformed_header_asks_the_issuer_nothing(verifier: Verifier, issuer: Issuer) -> None:
    """Only a token that could be good costs a request."""
    headers: list[dict[str, Any]] = [
        {"alg": "none"},
        {"alg": "HS256"},
        {"kid": 5},
        {"kid": "\0"},
        {"kid": "k" * 257},
        {"jku": JWKS_URL},
    ]
    for token in ("a.b.c", *(OURS.sign({}, {"alg": "RS256", "kid": "new"} | header) for header in headers)):
        with pytest.raises(InvalidToken):
            verifier.verify(token)
    assert issuer.fetches == []


def test_without_keys_nothing_is_said_about_a_token(verifier: Verifier, issuer: Issuer) -> None:
    """Neither in nor out: the caller has to say that it cannot tell."""
    issuer.document = None
    with pytest.raises(KeysUnavailable, match="TLFIF_JWKS_URL"):
        verifier.verify(OURS.access())


@pytest.mark.parametrize("token", ["", "x", "a.b.c"])
def test_when_disabled_everybody_is_the_local_user(token: str, clock: Clock, issuer: Issuer) -> None:
    """The local stack without an issuer."""
    verifier = Verifier(replace(SETTINGS, disabled=True), KeySet("", issuer, clock), clock)
    claims = verifier.verify(token)

    assert claims.sub == "local"
    assert claims.exp > NOW + 10 * 365 * 86_400
    assert issuer.fetches == []


def test_claims_cannot_be_changed() -> None:
    """Who somebody is stays what was verified."""
    with pytest.raises(FrozenInstanceError):
        Claims(sub="a", exp=1).sub = "b"  # type: ignore[misc]


# The Authorization header


@pytest.mark.parametrize("header", ["Bearer a.b.c", "bearer a.b.c", "BEARER a.b.c", "Bearer   a.b.c"])
def test_a_bearer_token_is_found(header: str) -> None:
    """The scheme's case does not matter (RFC 9110), nor how many spaces follow it."""
    assert bearer(header) == "a.b.c"


@pytest.mark.parametrize(
    "header",
    [
        *(None, "", " ", "Bearer", "Bearer ", "Bearera.b.c", "a.b.c", "Token a.b.c", "Bearer\ta.b.c", "Bearer:a.b.c"),
        *(" Bearer a.b.c", "Bearer a.b.c ", "Bearer a.b.c\n", "Bearer a.b.c, Bearer d.e.f", "Bearer a.b.c d.e.f"),
        *("Bearer é", "Bearer a.b.c\x00", "Bearer a/b", "Bearer a+b", "Bearer a=", "Bearer a~b", "Bearer \uff41"),
        "Bearer \u0662",
        "\u212aearer a.b.c",
    ],
)
def test_anything_else_holds_no_token(header: str | None) -> None:
    """Exactly one, of the characters that a JWT has; the message repeats nothing."""
    with pytest.raises(InvalidToken) as refused:
        bearer(header)
    assert str(refused.value) == "no bearer token"


# Whatever comes in


@pytest.fixture(scope="module")
def steady() -> Verifier:
    """Return a verifier that many examples share."""
    return Verifier(SETTINGS, KeySet(JWKS_URL, Issuer(OURS), Clock()), Clock())


ALPHABET = string.ascii_letters + string.digits + "-_"
GOOD = OURS.access()


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """Draw a good token with a few characters changed, put in or left out."""
    token = GOOD
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(token)))
        length = draw(st.integers(0, 3))
        new = draw(st.text(st.sampled_from(ALPHABET + ".=+/ \n") | st.characters(), max_size=3))
        token = token[:at] + new + token[at + length :]
    return token


@given(token=mutated())
def test_no_mutation_of_a_token_is_let_in(steady: Verifier, token: str) -> None:
    """One spelling of a token is good, and no other; nothing but `InvalidToken` comes out."""
    if token == GOOD:
        assert steady.verify(token).sub == SUB
    else:
        with pytest.raises(InvalidToken):
            steady.verify(token)


@given(at=st.integers(0, len(GOOD) - 1), new=st.sampled_from(ALPHABET))
def test_no_other_letter_fits_anywhere(steady: Verifier, at: int, new: str) -> None:
    """Not even the last one, whose low bits encode nothing."""
    token = GOOD[:at] + new + GOOD[at + 1 :]
    if token != GOOD:
        with pytest.raises(InvalidToken):
            steady.verify(token)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(name=st.sampled_from(["iss", "sub", "token_use", "client_id", "exp", "nbf", "iat"]), value=JSON)
def test_no_claim_breaks_the_verifier(steady: Verifier, name: str, value: object) -> None:
    """Signed as it should be, a claim may hold anything: the answer is yes or no."""
    try:
        claims = steady.verify(OURS.access(**{name: value}))
    except InvalidToken:
        return
    assert isinstance(claims.sub, str)
    assert isinstance(claims.exp, int)


@given(header=JSON | st.dictionaries(st.sampled_from(["alg", "kid", "typ", "jwk"]), JSON), payload=JSON)
def test_no_header_breaks_the_verifier(steady: Verifier, header: object, payload: object) -> None:
    """A header that hypothesis makes up is no good, whatever its type."""
    with pytest.raises(InvalidToken):
        steady.verify(f"{segment(header)}.{segment(payload)}.{GOOD.split('.')[2]}")


@given(token=st.text() | st.text(ALPHABET + ".", max_size=64))
def test_no_text_is_a_token(steady: Verifier, token: str) -> None:
    """Not by chance either."""
    with pytest.raises(InvalidToken):
        steady.verify(token)
