"""The issuer's JWKS endpoint over real HTTP: how often it is asked, and what becomes of answers that are none."""

from __future__ import annotations

import contextlib
import http.server
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from router_lambda import authorizer, jwks
from router_lambda.jwks import FetchFailed, KeySet, KeysUnavailable, fetch_over_http
from router_lambda.tokens import InvalidToken, Verifier
from tests.tokens import AUDIENCE, ISSUER, NOW, SETTINGS, SUB, Clock, jwk_set, signer

ONE, TWO = signer("key-1"), signer("key-2")
Answer = Callable[[BaseHTTPRequestHandler], None]


def plain(body: bytes, status: int = 200, **headers: str) -> Answer:
    """Return an answer of this body."""

    def send(request: BaseHTTPRequestHandler) -> None:
        request.send_response(status)
        for name, value in ({"content-length": str(len(body))} | headers).items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()
        request.wfile.write(body)

    return send


class Endpoint(http.server.ThreadingHTTPServer):
    """An HTTP server on loopback that gives the `answer` of the moment and lists the paths it was asked for."""

    daemon_threads = True

    def __init__(self) -> None:
        self.answer: Answer = plain(jwk_set(ONE))
        self.asked: list[str] = []
        self.over = threading.Event()
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                endpoint.asked.append(self.path)
                # Clients that leave are what these tests are about.
                with contextlib.suppress(OSError):
                    endpoint.answer(self)

            def log_message(self, *_: Any) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: clients that turn away from a certificate are what some tests are about."""

    @property
    def url(self) -> str:
        """Where the keys are."""
        return f"http://127.0.0.1:{self.server_port}/pool/.well-known/jwks.json"

    def drip(self, piece: bytes) -> Answer:
        """Return an answer that sends a piece each 50 ms, for as long as somebody listens."""

        def send(request: BaseHTTPRequestHandler) -> None:
            while not self.over.wait(0.05):
                request.wfile.write(piece)
                request.wfile.flush()

        return send


@contextlib.contextmanager
def running(endpoint: Endpoint) -> Iterator[Endpoint]:
    """Serve until the end of the block."""
    thread = threading.Thread(target=endpoint.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield endpoint
    finally:
        endpoint.over.set()
        endpoint.shutdown()
        thread.join()
        endpoint.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """Yield an endpoint that publishes one key."""
    with running(Endpoint()) as endpoint:
        yield endpoint


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def verifier(endpoint: Endpoint, clock: Clock) -> Verifier:
    """Return a verifier with that endpoint's keys."""
    return Verifier(SETTINGS, KeySet(endpoint.url, clock=clock), clock)


# How often it is asked


def test_a_hundred_tokens_are_one_request(endpoint: Endpoint, verifier: Verifier) -> None:
    """The first token fetches the keys, which serve all the others."""
    for number in range(101):
        assert verifier.verify(ONE.access(jti=str(number))).sub == SUB
    assert endpoint.asked == ["/pool/.well-known/jwks.json"]


def test_a_rotated_key_is_picked_up(endpoint: Endpoint, verifier: Verifier, clock: Clock) -> None:
    """A token of the new key brings it; once the old one is withdrawn, its tokens end within ten minutes."""
    verifier.verify(ONE.access())
    endpoint.answer = plain(jwk_set(ONE, TWO))
    clock.now = NOW + 60
    verifier.verify(TWO.access())
    verifier.verify(ONE.access())
    endpoint.answer = plain(jwk_set(TWO))
    clock.now = NOW + 660

    with pytest.raises(InvalidToken, match="unknown key"):
        verifier.verify(ONE.access())
    verifier.verify(TWO.access())
    assert len(endpoint.asked) == 3


def test_made_up_keys_cost_a_request_a_minute(endpoint: Endpoint, verifier: Verifier, clock: Clock) -> None:
    """However many tokens with unknown key ids come."""
    verifier.verify(ONE.access())
    for second in range(125):
        clock.now = NOW + second
        with pytest.raises(InvalidToken, match="unknown key"):
            verifier.verify(TWO.access())
    assert len(endpoint.asked) == 3


def test_old_keys_serve_while_the_endpoint_is_down(clock: Clock) -> None:
    """Also when nobody listens there any more."""
    with running(Endpoint()) as endpoint:
        verifier = Verifier(SETTINGS, KeySet(endpoint.url, clock=clock), clock)
        verifier.verify(ONE.access())

    clock.now = NOW + 900
    assert verifier.verify(ONE.access()).sub == SUB


def test_a_verifier_that_starts_while_it_is_down_cannot_tell(clock: Clock) -> None:
    """No key was ever there: neither in nor out."""
    with running(Endpoint()) as endpoint:
        url = endpoint.url
    with pytest.raises(KeysUnavailable, match="ConnectionRefusedError"):
        Verifier(SETTINGS, KeySet(url, clock=clock), clock).verify(ONE.access())


def test_the_authorizer_fetches_by_its_environment(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """From the variables to the answer, on the real clock."""
    monkeypatch.delenv("TL_DISABLE_JWT", raising=False)
    monkeypatch.setenv("TLFIF_JWKS_URL", endpoint.url)
    monkeypatch.setenv("TLFIF_JWT_ISSUER", ISSUER)
    monkeypatch.setenv("TLFIF_JWT_AUDIENCE", AUDIENCE)
    authorizer._verifier.cache_clear()
    exp = int(time.time()) + 60
    try:
        answers = [
            authorizer.handler({"headers": {"authorization": f"Bearer {one.access(exp=exp, iat=exp - 60)}"}}, None)
            for one in (ONE, TWO)
        ]
    finally:
        authorizer._verifier.cache_clear()

    assert answers == [{"isAuthorized": True, "context": {"sub": SUB, "exp": exp}}, {"isAuthorized": False}]
    assert len(endpoint.asked) == 1


# Answers that are none


def test_path_and_query_are_asked_for(endpoint: Endpoint) -> None:
    """As they stand in the address."""
    assert fetch_over_http(f"{endpoint.url}?a=b&c") == jwk_set(ONE)
    assert fetch_over_http(endpoint.url.split("/pool")[0]) == jwk_set(ONE)
    assert endpoint.asked == ["/pool/.well-known/jwks.json?a=b&c", "/"]


@pytest.mark.parametrize("status", [201, 204, 304, 400, 401, 403, 404, 429, 500, 503])
def test_only_200_brings_keys(endpoint: Endpoint, status: int) -> None:
    """Whatever the body holds."""
    endpoint.answer = plain(jwk_set(ONE), status)
    with pytest.raises(FetchFailed, match=f"the answer was {status}"):
        fetch_over_http(endpoint.url)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(endpoint: Endpoint, status: int) -> None:
    """Keys come from the address that the operator set."""
    with running(Endpoint()) as elsewhere:
        endpoint.answer = plain(jwk_set(ONE), status, location=elsewhere.url)
        with pytest.raises(FetchFailed, match=f"the answer was {status}"):
            fetch_over_http(endpoint.url)
        assert elsewhere.asked == []


def chunked_without_end(request: BaseHTTPRequestHandler) -> None:
    """Send more than anybody wants."""
    request.protocol_version = "HTTP/1.1"
    plain(b"", content_length="", transfer_encoding="chunked")(request)
    while True:
        request.wfile.write(b"400\r\n" + b" " * 1_024 + b"\r\n")


BAD_ANSWERS = {
    "html": plain(b"<!DOCTYPE html><title>Sign in</title>", content_type="text/html"),
    "huge": plain(b" " * 10_000_000),
    "huge-by-its-length": plain(jwk_set(ONE), content_length="99999999999"),
    "without-end": chunked_without_end,
    "cut": plain(jwk_set(ONE)[:-20], content_length=str(len(jwk_set(ONE)))),
    "no-http": lambda request: request.wfile.write(b"SSH-2.0-OpenSSH_9.2\r\n") and None,
    "nothing": lambda request: None,
    "long-header": lambda request: request.wfile.write(b"HTTP/1.0 200 OK\r\nx: " + b"x" * 100_000) and None,
    "many-headers": lambda request: request.wfile.write(b"HTTP/1.0 200 OK\r\n" + b"x: y\r\n" * 200 + b"\r\n") and None,
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS.keys())
def test_an_answer_that_is_no_key_set_changes_nothing(
    endpoint: Endpoint, verifier: Verifier, clock: Clock, answer: Answer
) -> None:
    """The keys at hand stay good; the next attempt a minute later brings new ones."""
    verifier.verify(ONE.access())
    endpoint.answer = answer
    clock.now = NOW + 600
    verifier.verify(ONE.access())
    with pytest.raises(InvalidToken, match="unknown key"):
        verifier.verify(TWO.access())
    endpoint.answer = plain(jwk_set(TWO))
    clock.now = NOW + 660
    verifier.verify(TWO.access())
    assert len(endpoint.asked) == 3


def test_no_more_is_read_than_tells_that_it_is_too_much(endpoint: Endpoint) -> None:
    """One byte over the limit, which `KeySet` refuses."""
    endpoint.answer = plain(b" " * 10_000_000)
    assert len(fetch_over_http(endpoint.url)) == 65_537


def test_a_connection_that_comes_too_late_is_not_used(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody would cut it any more: whoever waited for it has gone."""
    monkeypatch.setattr(jwks, "DEADLINE_SECONDS", -1)
    late = jwks._Exchange(endpoint.url)
    late.run()

    assert str(late.outcome) == "connected too late"
    assert endpoint.asked == []


def test_a_user_waits_no_longer_than_three_seconds() -> None:
    """The limits that the next test makes shorter; an authorizer may take ten."""
    assert jwks.STEP_TIMEOUT_SECONDS <= 2
    assert jwks.DEADLINE_SECONDS <= 3


@pytest.mark.parametrize("slow", ["silent", "header", "body"])
def test_a_slow_answer_is_given_up(endpoint: Endpoint, monkeypatch: pytest.MonkeyPatch, slow: str) -> None:
    """Also one that never pauses: it drips. Nothing of the attempt stays behind."""
    monkeypatch.setattr(jwks, "STEP_TIMEOUT_SECONDS", 0.4)
    monkeypatch.setattr(jwks, "DEADLINE_SECONDS", 0.6)
    start = b"HTTP/1.0 200 OK\r\ncontent-length: 60000\r\n\r\n"

    def drip_body(request: BaseHTTPRequestHandler) -> None:
        request.wfile.write(start)
        endpoint.drip(b" ")(request)

    def silent(_request: BaseHTTPRequestHandler) -> None:
        endpoint.over.wait(10)

    endpoint.answer = {"silent": silent, "header": endpoint.drip(b"x"), "body": drip_body}[slow]
    began = time.monotonic()
    with pytest.raises(FetchFailed, match="TimeoutError" if slow == "silent" else "no whole answer within 0.6 s"):
        fetch_over_http(endpoint.url)

    assert time.monotonic() - began < 1.2
    for thread in threading.enumerate():
        if thread.name == "jwks-fetch":
            thread.join(5)
            assert not thread.is_alive()


# TLS


def certificate(folder: Path) -> Path:
    """Write a certificate for `localhost` that no authority signed, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM))
    return path


@pytest.fixture
def tls(endpoint: Endpoint, tmp_path: Path) -> Path:
    """Make the endpoint speak TLS; return its certificate."""
    path = certificate(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(path)
    # Shakes hands in the request's own thread, where a client that turns away ends that request alone.
    endpoint.socket = context.wrap_socket(endpoint.socket, server_side=True, do_handshake_on_connect=False)
    return path


@pytest.mark.parametrize(
    ("host", "trusted", "gets_in"),
    [("localhost", True, True), ("localhost", False, False), ("127.0.0.1", True, False)],
    ids=["right", "unknown-authority", "wrong-name"],
)
def test_the_certificate_is_checked(
    endpoint: Endpoint, tls: Path, monkeypatch: pytest.MonkeyPatch, host: str, *, trusted: bool, gets_in: bool
) -> None:
    """Its authority and its name: whoever sits between must not hand out keys."""
    if trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(tls))
    url = f"https://{host}:{endpoint.server_port}/jwks.json"
    if gets_in:
        assert fetch_over_http(url) == jwk_set(ONE)
    else:
        with pytest.raises(FetchFailed, match="SSLCertVerificationError"):
            fetch_over_http(url)
        assert endpoint.asked == []
