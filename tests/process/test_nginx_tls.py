"""The real nginx with the node's configuration: which TLS it speaks, by which certificate, and what renews it."""

from __future__ import annotations

import os
import shlex
import socket
import ssl
import subprocess
import sys

import httpx
import pytest

from ami import openssl
from ami.certificate import own
from ami.pair import OWN, Pair
from tests.process.nginx_world import NginxProcess, running_nginx
from tests.process.stand_in_api import EVENTS, StandInApi
from tests.process.worker_process import ROOT, wait_for

NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
INTERMEDIATE = ("AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305")
"""What Mozilla's intermediate profile has behind ECDHE and the kind of key."""

WEAK = {
    "ssl_protocols TLSv1.2 TLSv1.3;": "ssl_protocols TLSv1 TLSv1.1 TLSv1.2 TLSv1.3;",
    "ssl_ciphers ": "ssl_ciphers ALL:COMPLEMENTOFALL:@SECLEVEL=0:",
}
"""A configuration that speaks more than it should, to see that a test would notice."""


def handshake(nginx: NginxProcess, version: str) -> str:
    """Offer one version of TLS with every cipher that there is; return the one agreed on, or what was said instead."""
    offer = ["-cipher", "ALL:COMPLEMENTOFALL:@SECLEVEL=0", f"-{version}"]
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{nginx.port}", *offer]
    said = subprocess.run(command, input="", capture_output=True, text=True, check=False)
    agreed = [line for line in said.stdout.splitlines() if line.startswith("New, TLS")]
    return agreed[0] if agreed else said.stderr


def ciphers(nginx: NginxProcess) -> set[str]:
    """Return all ciphers of TLS 1.2 that it agrees to."""
    context = ssl.create_default_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_ciphers("ALL:COMPLEMENTOFALL:@SECLEVEL=0")
    agreed = set()
    for name in [each["name"] for each in context.get_ciphers() if each["protocol"] != "TLSv1.3"]:
        context.set_ciphers(f"{name}:@SECLEVEL=0")
        try:
            with socket.create_connection(("127.0.0.1", nginx.port)) as plain, context.wrap_socket(plain) as secure:
                found = secure.cipher()
        except (ssl.SSLError, ConnectionError):
            continue
        assert found is not None
        agreed.add(found[0])
    return agreed


def served(nginx: NginxProcess, verify: ssl.SSLContext) -> str | None:
    """Return the serial number of the certificate that a new connection is shown, `None` if that is not good."""
    with socket.create_connection(("127.0.0.1", nginx.port)) as plain:
        try:
            with verify.wrap_socket(plain, server_hostname="localhost") as secure:
                return str((secure.getpeercert() or {})["serialNumber"])
        except ssl.SSLCertVerificationError:
            return None


def test_nginx_accepts_its_configuration(nginx: NginxProcess) -> None:
    """`nginx -t` has nothing to say but that."""
    said = nginx.call("-t")
    assert said.returncode == 0, said.stderr
    assert "[warn]" not in said.stderr


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_tls_is_refused(nginx: NginxProcess, version: str) -> None:
    """Whatever the client offers with it."""
    assert "alert protocol version" in handshake(nginx, version)


@pytest.mark.parametrize("version", ["tls1", "tls1_1"])
def test_old_tls_would_be_noticed(pair: Pair, version: str) -> None:
    """The client above would speak it."""
    with running_nginx(pair, 1, WEAK) as weak:
        assert handshake(weak, version).startswith("New, TLSv1.0")


@pytest.mark.parametrize("version", ["tls1_2", "tls1_3"])
def test_new_tls_is_spoken(nginx: NginxProcess, version: str) -> None:
    """By both of today's versions."""
    assert handshake(nginx, version).startswith(f"New, TLSv1.{version[-1]}")


@pytest.mark.parametrize("kind", ["ECDSA", "RSA"])
def test_only_intended_ciphers_are_agreed_to(kind: str, pair: Pair) -> None:
    """With a key of ours, and with one of RSA, which ACM may have: forward secrecy and AEAD, and nothing else."""
    with running_nginx(pair if kind == "ECDSA" else rsa_pair(), 1) as nginx:
        assert ciphers(nginx) == {f"ECDHE-{kind}-{rest}" for rest in INTERMEDIATE}


def test_another_cipher_would_be_noticed(pair: Pair) -> None:
    """Such as one without AEAD."""
    with running_nginx(pair, 1, WEAK) as weak:
        assert "ECDHE-ECDSA-AES128-SHA" in ciphers(weak)


def rsa_pair() -> Pair:
    """Make a pair with a key of RSA."""
    command = ["openssl", "genpkey", "-quiet", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
    key = subprocess.run(command, capture_output=True, check=True).stdout
    return Pair.of(OWN, key, openssl.sign(key, NAMES, 1))


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]"])
def test_a_client_verifies_it_by_the_authority(nginx: NginxProcess, host: str) -> None:
    """Under each of its names, over IPv4 and IPv6."""
    assert httpx.get(f"https://{host}:{nginx.port}/", verify=nginx.context()).status_code == 404


def test_another_authority_is_refused(nginx: NginxProcess) -> None:
    """One that a different boot made, although it has the same name; and the machine's own."""
    another = ssl.create_default_context(cadata=own(NAMES).chain[1].decode())
    for verify in (another, ssl.create_default_context()):
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(nginx.url, verify=verify)


def test_another_name_is_refused(nginx: NginxProcess) -> None:
    """The certificate is for this node."""
    with (
        socket.create_connection(("127.0.0.1", nginx.port)) as plain,
        pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"),
    ):
        nginx.context().wrap_socket(plain, server_hostname="gpu.example.com")


def test_a_new_certificate_takes_over_and_no_answer_is_cut(nginx: NginxProcess, api: StandInApi, pair: Pair) -> None:
    """The program itself renews and tells nginx: a stream goes on, a new connection sees the new one."""
    context = nginx.context()
    assert served(nginx, context) == pair.certificate.serial
    with nginx.client() as client, client.stream("POST", "/v1/chat/completions", json={}) as answer:
        events = answer.iter_lines()
        api.next_event.release()
        assert next(events) == "data: 0"
        renew(nginx, TLFIF_CERTIFICATE_NAMES="gpu.example.com")
        renewed = wait_for(lambda: served(nginx, nginx.context()))
        assert renewed != pair.certificate.serial
        wait_for(lambda: served(nginx, context) is None)  # the former authority's word is worth no more
        api.next_event.release(EVENTS - 1)
        assert [line for line in events if line] == [f"data: {number}" for number in range(1, EVENTS)]


def test_a_pair_that_is_none_changes_nothing(nginx: NginxProcess, pair: Pair) -> None:
    """A reload is refused and what was there is served on; a start would fail."""
    (nginx.certificates / "pair.pem").write_bytes(pair.key + own(NAMES).chain[0])
    assert "key values mismatch" in nginx.call("-t").stderr
    assert nginx.call("-s", "reload").returncode == 1
    assert served(nginx, nginx.context()) == pair.certificate.serial


def renew(nginx: NginxProcess, **environment: str) -> None:
    """Run the program as the unit does."""
    then = shlex.join(nginx.command("-s", "reload"))
    command = [sys.executable, "-m", "ami.certificate", "--folder", str(nginx.certificates), "--then", then]
    subprocess.run(command, cwd=ROOT, env=os.environ | environment, check=True)
