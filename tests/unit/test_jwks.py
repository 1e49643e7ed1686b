"""The issuer's keys: which are taken, how long they are kept, and when they are fetched again."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from router_lambda.jwks import FetchFailed, KeySet, KeysUnavailable, UnknownKey, fetch_over_http
from tests.tokens import JWKS_URL, NOW, Clock, Issuer, jwk_set, signer

ONE, TWO = "key-1", "key-2"


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def issuer() -> Issuer:
    """Return an issuer with one key."""
    return Issuer(signer(ONE))


@pytest.fixture
def keys(issuer: Issuer, clock: Clock) -> KeySet:
    """Return that issuer's keys, none fetched so far."""
    return KeySet(JWKS_URL, issuer, clock)


# Keeping and fetching


def test_a_key_is_fetched_and_made_once(keys: KeySet, issuer: Issuer) -> None:
    """The second time, the same object comes back without a request."""
    key = keys.get(ONE)

    assert key.to_dict()["n"] == signer(ONE).jwk["n"]
    assert keys.get(ONE) is key
    assert issuer.fetches == [JWKS_URL]


def test_a_set_is_kept_for_ten_minutes(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """At 600 s it is fetched again, not before."""
    keys.get(ONE)
    clock.now = NOW + 599.9
    keys.get(ONE)
    assert len(issuer.fetches) == 1

    clock.now = NOW + 600
    keys.get(ONE)
    assert len(issuer.fetches) == 2


def test_an_unchanged_key_stays_the_same_object(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """Over a refresh only what changed is made anew, even under a name that was there before."""
    issuer.document = jwk_set(signer(ONE), signer(TWO))
    one, two = keys.get(ONE), keys.get(TWO)
    issuer.document = jwk_set(signer(ONE), signer("other").jwk | {"kid": TWO})
    clock.now += 600

    assert keys.get(ONE) is one
    assert keys.get(TWO) is not two
    assert keys.get(TWO).to_dict()["n"] == signer("other").jwk["n"]


def test_an_unknown_key_is_asked_for_once_a_minute(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """Tokens with made-up ids cause one request a minute, however many come."""
    keys.get(ONE)
    for second in range(121):
        clock.now = NOW + second
        with pytest.raises(UnknownKey):
            keys.get(f"made-up-{second}")

    assert len(issuer.fetches) == 3
    keys.get(ONE)
    assert len(issuer.fetches) == 3


def test_a_new_key_is_found(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """Rotation: the first token of a new key brings the new set, and its 600 s begin then."""
    keys.get(ONE)
    issuer.document = jwk_set(signer(ONE), signer(TWO))
    clock.now = NOW + 60

    assert keys.get(TWO).to_dict()["n"] == signer(TWO).jwk["n"]
    clock.now = NOW + 659
    keys.get(ONE)
    assert len(issuer.fetches) == 2


def test_a_key_that_was_withdrawn_is_gone(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """What the issuer takes back opens nothing any more."""
    keys.get(ONE)
    issuer.document = jwk_set(signer(TWO))
    clock.now = NOW + 600

    with pytest.raises(UnknownKey):
        keys.get(ONE)
    keys.get(TWO)


def test_old_keys_are_served_while_the_issuer_is_down(
    keys: KeySet, issuer: Issuer, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """For hours if need be, with one attempt and one line a minute; an unknown key stays unknown."""
    key = keys.get(ONE)
    issuer.document = None
    for second in range(600, 7_200, 5):
        clock.now = NOW + second
        assert keys.get(ONE) is key
        with pytest.raises(UnknownKey):
            keys.get(TWO)

    assert len(issuer.fetches) == 1 + (7_200 - 600) // 60
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert lines == [{"event": "keys not fetched", "reason": "it is down", "keysAtHand": 1}] * 110


def test_the_issuer_is_found_back(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """After an outage a good fetch counts as any other."""
    keys.get(ONE)
    issuer.document = None
    clock.now = NOW + 600
    keys.get(ONE)
    issuer.document = jwk_set(signer(ONE))
    clock.now = NOW + 660
    keys.get(ONE)
    clock.now = NOW + 1_259
    keys.get(ONE)

    assert len(issuer.fetches) == 3


def test_without_any_key_it_is_tried_each_second(keys: KeySet, issuer: Issuer, clock: Clock) -> None:
    """The message says where to look; as soon as the issuer answers, all is well."""
    issuer.document = None
    for tenths in range(11):
        clock.now = NOW + tenths / 10
        with pytest.raises(KeysUnavailable, match=rf"{JWKS_URL}: it is down; check TLFIF_JWKS_URL"):
            keys.get(ONE)
    assert len(issuer.fetches) == 2

    issuer.document = jwk_set(signer(ONE))
    clock.now = NOW + 2
    keys.get(ONE)


@pytest.mark.parametrize("is_down", [False, True])
def test_a_clock_that_is_set_back_makes_the_set_old(
    keys: KeySet, issuer: Issuer, clock: Clock, *, is_down: bool
) -> None:
    """Nothing holds then, neither the age nor the minute; and once the clock is there again, nothing is young by it."""
    keys.get(ONE)
    good, issuer.document = issuer.document, None if is_down else issuer.document
    clock.now = NOW - 3_000
    keys.get(ONE)
    keys.get(ONE)
    assert len(issuer.fetches) == 2

    issuer.document = good
    clock.now = NOW + 1
    keys.get(ONE)
    assert len(issuer.fetches) == 3


def test_a_fetch_that_breaks_is_an_attempt_too(clock: Clock) -> None:
    """An error that nobody foresaw comes out, and the next attempt waits as after any other."""
    asked = []

    def fetch(url: str) -> bytes:
        asked.append(url)
        raise ZeroDivisionError

    keys = KeySet(JWKS_URL, fetch, clock)
    with pytest.raises(ZeroDivisionError):
        keys.get(ONE)
    with pytest.raises(KeysUnavailable):
        keys.get(ONE)
    assert len(asked) == 1


# Threads


class Gate:
    """A fetch that waits until it is let go."""

    def __init__(self, issuer: Issuer) -> None:
        self.issuer = issuer
        self.entered = threading.Event()
        self.open = threading.Event()

    def __call__(self, url: str) -> bytes:
        """Answer as the issuer does, later."""
        self.entered.set()
        assert self.open.wait(10)
        return self.issuer(url)


def test_threads_share_the_first_fetch(issuer: Issuer, clock: Clock) -> None:
    """Eight at once: one request, one key object."""
    gate = Gate(issuer)
    keys = KeySet(JWKS_URL, gate, clock)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(keys.get, ONE) for _ in range(8)]
        assert gate.entered.wait(10)
        gate.open.set()
        assert len({id(one.result(10)) for one in found}) == 1

    assert len(issuer.fetches) == 1


def test_threads_share_the_first_failure(issuer: Issuer, clock: Clock) -> None:
    """Eight at once with the issuer down: one request, and none of them waits for eight."""
    issuer.document = None
    gate = Gate(issuer)
    keys = KeySet(JWKS_URL, gate, clock)
    with ThreadPoolExecutor(8) as pool:
        found = [pool.submit(keys.get, ONE) for _ in range(8)]
        assert gate.entered.wait(10)
        clock.now = NOW + 3
        gate.open.set()
        assert all(isinstance(one.exception(10), KeysUnavailable) for one in found)

    assert len(issuer.fetches) == 1


def test_a_slow_fetch_holds_up_nobody_whose_key_is_there(issuer: Issuer, clock: Clock) -> None:
    """While one thread refreshes, the others go on with the old set, without waiting and without a second fetch."""
    gate = Gate(issuer)
    gate.open.set()
    keys = KeySet(JWKS_URL, gate, clock)
    key = keys.get(ONE)
    gate.open.clear()
    gate.entered.clear()
    clock.now = NOW + 600
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(keys.get, ONE)
        assert gate.entered.wait(10)
        quick = pool.submit(keys.get, ONE)
        assert quick.result(10) is key
        assert not slow.done()
        gate.open.set()
        slow.result(10)

    assert len(issuer.fetches) == 2


# What counts as a key, and as a set


def changed(**changes: object) -> dict[str, Any]:
    """Return a good entry with changes, under a name of its own; `...` stands for nothing."""
    entry = signer(TWO).jwk | changes
    return {name: value for name, value in entry.items() if value is not ...}


@pytest.mark.parametrize("entry", [changed(use=...), changed(alg=...), changed(x5t="x", n2=[1])])
def test_optional_members_may_be_missing_or_more(issuer: Issuer, keys: KeySet, entry: dict[str, Any]) -> None:
    """RFC 7517 asks for neither `use` nor `alg`, and tells readers to ignore what they do not know."""
    issuer.document = jwk_set(entry)
    assert keys.get(TWO).to_dict()["n"] == entry["n"]


@pytest.mark.parametrize(
    "entry",
    [
        *(changed(kty=value) for value in (..., "EC", "oct", "rsa", None, ["RSA"])),
        *(changed(use=value) for value in ("enc", "", None, ["sig"])),
        *(changed(alg=value) for value in ("RS384", "HS256", "none", None, ["RS256"])),
        *(changed(kid=value) for value in (..., None, 5, ["key-2"])),
        *(changed(n=value) for value in (..., None, 5, "", "é", "AQAB")),
        *(changed(e=value) for value in (..., None, 5, "", "é", "AQ", "Ag")),
        changed(n=signer("weak", 1_024).jwk["n"]),
        changed(n=signer("nearly", 2_040).jwk["n"]),
        changed(d="AQAB"),
        *(None, 5, "key-2", []),
    ],
    ids=lambda entry: json.dumps(entry)[:60] if not isinstance(entry, dict) else None,
)
def test_other_entries_are_skipped(issuer: Issuer, keys: KeySet, entry: Any) -> None:
    """An entry that is no key for us is as if it were not there; the ones beside it count."""
    issuer.document = json.dumps({"keys": [entry, signer(ONE).jwk]}).encode()

    with pytest.raises(UnknownKey):
        keys.get(TWO)
    keys.get(ONE)


@pytest.mark.parametrize("order", [1, -1])
def test_two_keys_of_one_name_are_none(issuer: Issuer, keys: KeySet, order: int) -> None:
    """Whichever comes first: neither counts."""
    issuer.document = jwk_set(signer(ONE), *[changed(), signer("other").jwk | {"kid": TWO}][::order])

    with pytest.raises(UnknownKey):
        keys.get(TWO)
    keys.get(ONE)


def test_a_name_may_also_be_that_of_an_encryption_key(issuer: Issuer, keys: KeySet) -> None:
    """An entry that is skipped anyway takes nothing away from the one that is not."""
    issuer.document = jwk_set(changed(use="enc"), changed())
    keys.get(TWO)


NO_SETS = {
    "empty": b"",
    "html": b"<!DOCTYPE html><title>Sign in</title>",
    "not-utf8": json.dumps({"keys": [signer(ONE).jwk]}).encode("utf-16"),
    "list": json.dumps([signer(ONE).jwk]).encode(),
    "one-key": json.dumps(signer(ONE).jwk).encode(),
    "no-list": json.dumps({"keys": {ONE: signer(ONE).jwk}}).encode(),
    "no-keys": b'{"keys": []}',
    "no-usable-key": jwk_set(changed(use="enc")),
    "nested": b'{"keys": ' + b"[" * 60_000,
    "huge-number": b'{"keys": [], "x": ' + b"9" * 5_000 + b"}",
    "too-long": jwk_set(signer(ONE)) + b" " * 65_536,
}


@pytest.mark.parametrize("document", NO_SETS.values(), ids=NO_SETS.keys())
def test_what_is_no_set_of_keys_is_a_failed_fetch(
    keys: KeySet, issuer: Issuer, clock: Clock, document: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """The keys at hand stay, and the log says why without quoting the document."""
    key = keys.get(ONE)
    issuer.document = document
    clock.now = NOW + 600

    assert keys.get(ONE) is key
    logged = json.loads(capsys.readouterr().out)
    assert logged["reason"].startswith("the document ")
    assert "Sign in" not in logged["reason"]


def test_a_document_may_be_as_long_as_64_kib(keys: KeySet, issuer: Issuer) -> None:
    """The limit itself is allowed."""
    assert issuer.document is not None
    issuer.document = issuer.document.ljust(65_536)
    keys.get(ONE)


@pytest.mark.parametrize(
    "url", ["https://", "https:///jwks.json", "https://host:port/", "https://host:99999/", "https://[/"]
)
def test_an_address_that_is_none_is_a_failed_fetch(url: str) -> None:
    """A slip in a setting shows as what it is, and reaches no network."""
    with pytest.raises(FetchFailed, match="https://host/path"):
        fetch_over_http(url)
