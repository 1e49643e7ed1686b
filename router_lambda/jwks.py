"""The issuer's signing keys: fetched when they are needed, kept for a while, and kept longer while nobody answers.

Source of the format: RFC 7517 (JWK set), RFC 7518, section 6.3 (RSA keys).
"""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import urlsplit

from jose import jwk
from jose.backends.base import Key
from jose.exceptions import JOSEError

from router_lambda import logs, web

MAX_AGE_SECONDS: Final = 600
"""Longest time that a fetched set counts as current."""

ATTEMPT_GAP_SECONDS: Final = 60
"""Shortest time between two attempts to fetch: tokens with made-up key ids must not become requests to the issuer."""

FIRST_ATTEMPT_GAP_SECONDS: Final = 1
"""The same while there is no key at all and nobody can be let in."""

MAX_DOCUMENT_BYTES: Final = 65_536
MIN_MODULUS_BITS: Final = 2_048

STEP_TIMEOUT_SECONDS: Final = 2.0
"""Longest wait for a connection, for a TLS handshake and for any one piece of the answer."""

DEADLINE_SECONDS: Final = 3.0
"""Longest time for all of a fetch, name lookup included: a server that drips stays below any other limit."""


class UnknownKey(Exception):
    """The issuer publishes no usable key with this id."""


class KeysUnavailable(Exception):
    """There is no key to check any token with, because none could be fetched. The message says what to look at."""


class FetchFailed(Exception):
    """The document could not be had or is no set of signing keys. The message quotes nothing of it."""


class KeySet:
    """The keys at `url`, for any number of threads.

    `fetch` returns the document's bytes or raises `FetchFailed`; `clock` gives Unix seconds. When a fetch fails, the
    keys of the last good one go on being served.
    """

    def __init__(
        self, url: str, fetch: Callable[[str], bytes] | None = None, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url
        self._fetch = fetch or fetch_over_http
        self._clock = clock
        self._fetching = threading.Lock()
        # Replaced as a whole, never changed: threads read it without a lock.
        self._keys: dict[str, tuple[dict[str, Any], Key]] = {}
        self._fetched_at = self._tried_at = float("-inf")
        self._failure = ""

    def get(self, kid: str) -> Key:
        """Return the key with this id, fetching the set if the id is unknown or the set is old.

        One thread fetches at a time. Those whose key is at hand meanwhile take it as it is, the others wait.

        Raises:
            UnknownKey: there are keys, but none with this id.
            KeysUnavailable: there are none at all.
        """
        if self._is_due(kid) and self._fetching.acquire(blocking=kid not in self._keys):
            try:
                if self._is_due(kid):  # or another thread did it while this one waited
                    self._refresh()
            finally:
                self._fetching.release()
        keys = self._keys
        if not keys:
            raise KeysUnavailable(
                f"no signing key could be fetched from {self._url}: {self._failure}; check TLFIF_JWKS_URL and whether"
                " the function reaches that address"
            )
        if kid not in keys:
            raise UnknownKey
        return keys[kid][1]

    def _is_due(self, kid: str) -> bool:
        """Tell whether to fetch now. A time before the last one means that the clock was set back: nothing holds."""
        now = self._clock()
        is_current = kid in self._keys and 0 <= now - self._fetched_at < MAX_AGE_SECONDS
        gap = ATTEMPT_GAP_SECONDS if self._keys else FIRST_ATTEMPT_GAP_SECONDS
        return not is_current and not 0 <= now - self._tried_at < gap

    def _refresh(self) -> None:
        began = self._clock()
        try:
            self._keys = self._construct(_read(self._fetch(self._url)))
            self._fetched_at = began
        except FetchFailed as error:
            self._failure = str(error)
            logs.line(event="keys not fetched", reason=self._failure, keysAtHand=len(self._keys))
            if began < self._fetched_at:  # a clock that was set back would find old keys current once it gets there
                self._fetched_at = float("-inf")
        finally:
            # The end, so that threads that waited for a failure do not each go through it again.
            self._tried_at = self._clock()

    def _construct(self, entries: list[dict[str, Any]]) -> dict[str, tuple[dict[str, Any], Key]]:
        """Make the keys; one whose entry is as before stays the object that it was.

        Raises:
            FetchFailed: there is not one.
        """
        keys = {}
        for entry in entries:
            known = self._keys.get(entry["kid"])
            if known is not None and known[0] == entry:
                keys[entry["kid"]] = known
            else:
                try:
                    public = {member: entry[member] for member in ("kty", "n", "e")}
                    keys[entry["kid"]] = (entry, jwk.construct(public, "RS256"))
                except (JOSEError, ValueError):  # an exponent of 1, an even modulus
                    continue
        if not keys:
            raise FetchFailed("the document holds no RSA key for RS256 signatures")
        return keys


def _read(document: bytes) -> list[dict[str, Any]]:
    """Return the entries of a JWK set that may become keys.

    Two of them with one id are both left out: which of them a token means would hang on their order, and whoever
    manages to add an entry to the set must not replace a key by it.

    Raises:
        FetchFailed: it is no JWK set.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise FetchFailed(f"the document is longer than {MAX_DOCUMENT_BYTES} bytes")
    try:
        content = json.loads(document.decode("utf-8"))
    except (ValueError, RecursionError):
        raise FetchFailed("the document is not JSON") from None
    entries = content.get("keys") if isinstance(content, dict) else None
    if not isinstance(entries, list):
        raise FetchFailed("the document is not a JWK set")
    usable = [entry for entry in entries if isinstance(entry, dict) and _is_usable(entry)]
    times = Counter(entry["kid"] for entry in usable)
    return [entry for entry in usable if times[entry["kid"]] == 1]


def _is_usable(entry: dict[str, Any]) -> bool:
    """Tell whether an entry is the public half of an RSA key, made to sign with RS256 and long enough."""
    return (
        entry.get("kty") == "RSA"
        and all(isinstance(entry.get(member), str) for member in ("kid", "n", "e"))
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", "RS256") == "RS256"
        and "d" not in entry  # a private key that lies open signs for everybody
        and _modulus_bits(entry["n"]) >= MIN_MODULUS_BITS
    )


def _modulus_bits(encoded: str) -> int:
    try:
        return int.from_bytes(base64.urlsafe_b64decode(encoded + "=="), "big").bit_length()
    except ValueError:
        return 0


def fetch_over_http(url: str) -> bytes:
    """Return what lies at an `https` address (`http` is for loopback; settings.py sees to that).

    Takes `DEADLINE_SECONDS` at most. Follows no redirect: only the operator says where keys come from.

    Raises:
        FetchFailed: no connection, a wrong certificate, no 200, too long a document, or too slow.
    """
    exchange = _Exchange(url)
    # Sockets bound each wait alone, and name lookups nothing at all; a thread can be left behind.
    thread = threading.Thread(target=exchange.run, name="jwks-fetch", daemon=True)
    thread.start()
    thread.join(DEADLINE_SECONDS)
    if exchange.outcome is None:
        exchange.cut()
        raise FetchFailed(f"no whole answer within {DEADLINE_SECONDS:g} s")
    if isinstance(exchange.outcome, FetchFailed):
        raise exchange.outcome
    return exchange.outcome


class _Exchange:
    """One request and its answer, in a thread of its own. `outcome` is there when it is over."""

    def __init__(self, url: str) -> None:
        """Prepare the request.

        Raises:
            FetchFailed: `url` is no address.
        """
        from http.client import HTTPException  # noqa: PLC0415 - most invocations never fetch; it loads all of `email`

        self.outcome: bytes | FetchFailed | None = None
        self._deadline = time.monotonic() + DEADLINE_SECONDS
        self._socket: socket.socket | None = None
        try:
            parts = urlsplit(url)
            self._target = web.target(parts)
            self._connection = web.connection(parts, STEP_TIMEOUT_SECONDS)
        except (ValueError, HTTPException):
            raise FetchFailed("TLFIF_JWKS_URL is no address of the form https://host/path") from None
        self._errors = (OSError, ValueError, HTTPException)

    def run(self) -> None:
        """Go through with it."""
        try:
            self.outcome = self._read()
        except FetchFailed as error:
            self.outcome = error
        except self._errors as error:
            self.outcome = FetchFailed(f"{type(error).__name__} while fetching")
        finally:
            self._connection.close()

    def cut(self) -> None:
        """Cut the connection under a thread that nobody waits for, so that it ends too."""
        if self._socket is not None:
            with contextlib.suppress(OSError):  # it is gone already
                # Not SSLSocket.shutdown: it takes the TLS layer away under the reading thread.
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _read(self) -> bytes:
        self._connection.connect()
        # Kept here too: http.client forgets it with the head of an answer that ends by closing.
        self._socket = self._connection.sock
        if time.monotonic() > self._deadline:  # `cut` came before there was anything to cut
            raise FetchFailed("connected too late")
        self._connection.request("GET", self._target, headers={"accept": "application/json"})
        with self._connection.getresponse() as response:
            if response.status != 200:  # noqa: PLR2004 - HTTP's own name for it is no clearer
                raise FetchFailed(f"the answer was {response.status}")
            return response.read(MAX_DOCUMENT_BYTES + 1)
