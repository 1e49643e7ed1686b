"""A certificate out of AWS Certificate Manager, an emulated one: fetched, renewed there, refused, and away."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import pytest

from ami import openssl
from ami.acm import export
from ami.certificate import Wanted, main, own, see_to
from ami.pair import OWN, PAIR, load
from local.child import spawn, stop
from local.ports import LOOPBACK, free_ports
from tests.process.worker_process import ROOT, wait_for

REGION = "eu-central-1"
DOMAIN = frozenset({"gpu.example.com"})
NAMES = frozenset({"localhost"})
DAY = 86_400

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")


class Manager:
    """The emulated ACM, and somebody who issues certificates in it."""

    def __init__(self, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self._url = url
        self._monkeypatch = monkeypatch
        self._client: Any = boto3.client("acm", REGION, endpoint_url=url)
        self.answer()

    def issue(self, arn: str | None = None, days: int = 30) -> str:
        """Issue a certificate that can be exported, for an ARN that is there already or for a new one."""
        key = openssl.new_key()
        certificate, authority = openssl.sign(key, DOMAIN, days)
        named = {"CertificateArn": arn} if arn else {}
        made: str = self._client.import_certificate(
            Certificate=certificate, PrivateKey=key, CertificateChain=authority, **named
        )["CertificateArn"]
        return made

    def request(self, exportable: str) -> str:
        """Ask for a certificate as one asks AWS; moto signs it by itself and not by the chain that it gives."""
        made = self._client.request_certificate(DomainName="gpu.example.com", Options={"Export": exportable})
        return str(made["CertificateArn"])

    def answer(self) -> None:
        """Be where the program looks for it, as it looks for AWS."""
        self._monkeypatch.setenv("AWS_ENDPOINT_URL_ACM", self._url)

    def stop(self) -> None:
        """Be away from now on."""
        self._monkeypatch.setenv("AWS_ENDPOINT_URL_ACM", f"http://{LOOPBACK}:1")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Yield the address of an emulated ACM."""
    (port,) = free_ports(1)
    log = tmp_path_factory.mktemp("acm") / "log"
    command = [sys.executable, "-m", "tests.integration.acm_server", LOOPBACK, str(port)]
    child = spawn(command, log=log, folder=ROOT)

    def answers() -> bool:
        assert child.poll() is None, log.read_text()
        with socket.socket() as client:
            return client.connect_ex((LOOPBACK, port)) == 0

    wait_for(answers)
    yield f"http://{LOOPBACK}:{port}"
    stop(child)


@pytest.fixture
def acm(server: str, monkeypatch: pytest.MonkeyPatch) -> Manager:
    """Return it as a test uses it."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    return Manager(server, monkeypatch)


def see(folder: Path, arn: str, now: float | None = None) -> tuple[bool, bool]:
    """See to the pair; tell whether it changed, and whether it is the wanted one."""
    return see_to(folder, Wanted(arn, NAMES), time.time() if now is None else now, export)


def source(folder: Path) -> str:
    """Return where the pair is from."""
    pair = load(folder)
    assert pair is not None
    return pair.source


def test_it_is_fetched_with_its_key(acm: Manager, tmp_path: Path) -> None:
    """A server can use it; the next run asks nobody."""
    arn = acm.issue()
    assert see(tmp_path, arn) == (True, True)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tmp_path / PAIR)
    pair = load(tmp_path)
    assert pair is not None
    assert (pair.source, pair.certificate.names) == (arn, DOMAIN)
    assert b"ENCRYPTED" not in (tmp_path / PAIR).read_bytes()
    acm.stop()
    assert see(tmp_path, arn) == (False, True)


def test_the_passphrase_is_nobody_s_to_see(
    acm: Manager, tmp_path: Path, openssl_calls: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not in an argument, not in the environment, not in a file."""
    monkeypatch.setattr("secrets.token_urlsafe", lambda _count: "the-passphrase")
    assert see(tmp_path / "tls", acm.issue()) == (True, True)
    assert "-passin" in openssl_calls.read_text()
    for path in [openssl_calls, *(tmp_path / "tls").iterdir()]:
        assert b"the-passphrase" not in path.read_bytes()


def test_what_acm_has_renewed_is_fetched(acm: Manager, tmp_path: Path) -> None:
    """Asked for when it is due; until ACM has another one, nothing changes."""
    arn = acm.issue(days=30)
    see(tmp_path, arn)
    first = (tmp_path / PAIR).read_bytes()
    assert see(tmp_path, arn, time.time() + 25 * DAY) == (False, True)
    assert (tmp_path / PAIR).read_bytes() == first
    acm.issue(arn, days=60)
    assert see(tmp_path, arn, time.time() + 25 * DAY) == (True, True)
    assert (tmp_path / PAIR).read_bytes() != first


def test_another_one_takes_over(acm: Manager, tmp_path: Path) -> None:
    """From ours to ACM's, to another of ACM's, and back to ours."""
    see_to(tmp_path, Wanted(OWN, NAMES), time.time(), export)
    for wanted in (acm.issue(), acm.issue(), OWN):
        assert see(tmp_path, wanted) == (True, True)
        assert source(tmp_path) == wanted


def test_without_acm_the_earlier_one_stays(acm: Manager, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Until its end; it is said each time, and each time tried."""
    arn = acm.issue(days=30)
    see(tmp_path, arn)
    acm.stop()
    assert see(tmp_path, arn, time.time() + 25 * DAY) == (False, False)
    assert source(tmp_path) == arn
    assert f"the one from {arn} stays" in caplog.text
    assert "ACM does not answer" in caplog.text
    assert see(tmp_path, arn, time.time() + 31 * DAY) == (True, False)
    assert source(tmp_path) == OWN


def test_without_acm_at_a_boot_ours_stands_in(acm: Manager, tmp_path: Path) -> None:
    """So that nginx starts; when ACM answers again, its certificate takes over."""
    arn = acm.issue()
    acm.stop()
    assert see(tmp_path, arn) == (True, False)
    assert source(tmp_path) == OWN
    assert see(tmp_path, arn) == (False, False)  # the one that stands in stays
    acm.answer()
    assert see(tmp_path, arn) == (True, True)
    assert source(tmp_path) == arn


def assert_said(folder: Path, caplog: pytest.LogCaptureFixture, arn: str, text: str) -> None:
    """See that it cannot be had, that the message says why, and that nginx can start."""
    assert see(folder, arn) == (True, False)
    assert text in caplog.text
    assert source(folder) == OWN


def test_one_that_cannot_be_exported(acm: Manager, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As all that were asked for without the option."""
    assert_said(tmp_path, caplog, acm.request("DISABLED"), "ask for one with Options={Export=ENABLED}")


def test_one_that_is_not_there(acm: Manager, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """As after a change of regions."""
    arn = f"arn:aws:acm:{REGION}:123456789012:certificate/1-2"
    assert_said(tmp_path, caplog, arn, "aws acm list-certificates")


@pytest.mark.parametrize("arn", ["gpu.example.com", "arn:aws:iam::123456789012:server-certificate/x"])
def test_what_is_no_arn(tmp_path: Path, caplog: pytest.LogCaptureFixture, arn: str) -> None:
    """It says what one looks like."""
    assert_said(tmp_path, caplog, arn, "arn:aws:acm:REGION:ACCOUNT:certificate/ID")


def test_one_whose_chain_is_another_s(acm: Manager, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """No client would believe it."""
    assert_said(tmp_path, caplog, acm.request("ENABLED"), "openssl verify")


def test_one_that_is_over(acm: Manager, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Or has not begun, by a clock that is wrong."""
    arn = acm.issue(days=30)
    for now in (time.time() + 31 * DAY, time.time() - DAY):
        caplog.clear()
        see(tmp_path, arn, now)
        assert "renew it in ACM or set the clock" in caplog.text
        assert source(tmp_path) == OWN


class Answers(BaseHTTPRequestHandler):
    """An ACM with one answer."""

    answer: tuple[int, dict[str, Any]]

    def do_POST(self) -> None:
        """Give it."""
        status, content = self.answer
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Answers]]:
    """Yield an ACM that can be told what to answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with HTTPServer(("127.0.0.1", 0), Answers) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_ACM", f"http://127.0.0.1:{server.server_port}")
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield Answers
        server.shutdown()


def test_a_role_without_the_right(answers: type[Answers], tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """It says which right."""
    answers.answer = 400, {"__type": "AccessDeniedException", "message": "User: x is not authorized"}
    arn = f"arn:aws:acm:{REGION}:123456789012:certificate/1-2"
    assert_said(tmp_path, caplog, arn, "allow the instance's role acm:ExportCertificate")


@pytest.mark.parametrize("key", ["another's", "garbage", "not encrypted"])
def test_a_key_that_does_not_fit(
    answers: type[Answers], tmp_path: Path, caplog: pytest.LogCaptureFixture, key: str
) -> None:
    """One that cannot be read, or another certificate's; one without a passphrase is taken if it is the right one."""
    pair = own(DOMAIN)
    keys = {"another's": own(DOMAIN).key, "garbage": b"key", "not encrypted": pair.key}
    certificate, authority = (each.decode() for each in pair.chain)
    answers.answer = 200, {"Certificate": certificate, "CertificateChain": authority, "PrivateKey": keys[key].decode()}
    arn = f"arn:aws:acm:{REGION}:123456789012:certificate/1-2"
    assert see(tmp_path, arn) == (True, key == "not encrypted")
    said = {"another's": "the key is another certificate's", "garbage": "cannot be read", "not encrypted": ""}
    assert said[key] in caplog.text


def test_the_exit_code_says_whether_it_is_the_wanted_one(
    acm: Manager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that `systemctl --failed` shows what cannot be had."""
    monkeypatch.setenv("TLFIF_CERTIFICATE_ARN", acm.issue())
    assert main(["--folder", str(tmp_path / "1")]) == 0
    monkeypatch.setenv("TLFIF_CERTIFICATE_ARN", f"arn:aws:acm:{REGION}:123456789012:certificate/none")
    assert main(["--folder", str(tmp_path / "2")]) == 1
    assert source(tmp_path / "2") == OWN
