"""The program that sees to nginx's certificate, with the real openssl: ours, what it finds, and who else comes."""

from __future__ import annotations

import logging
import os
import re
import shutil
import ssl
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ami.certificate import DAYS, Wanted, main, own, see_to
from ami.pair import AUTHORITY, OWN, PAIR, load

ROOT = Path(__file__).parents[2]
DAY = 86_400
WANTED = Wanted(OWN, frozenset({"localhost", "127.0.0.1", "::1", "node"}))

pytestmark = pytest.mark.skipif(not shutil.which("openssl"), reason="the openssl program is not installed")


def no_acm(arn: str) -> tuple[bytes, list[bytes]]:
    """Nobody asks ACM here."""
    raise AssertionError(arn)


def see(folder: Path, now: float | None = None, wanted: Wanted = WANTED) -> bool:
    """See to the pair and tell whether it changed."""
    changed, granted = see_to(folder, wanted, time.time() if now is None else now, no_acm)
    assert granted
    return changed


def serial(folder: Path) -> str:
    """Return the certificate's number."""
    pair = load(folder)
    assert pair is not None
    return pair.certificate.serial


# Ours


def test_a_boot_makes_a_pair_that_a_server_can_use(tmp_path: Path) -> None:
    """And clients verify by what is beside it; the key is root's."""
    folder = tmp_path / "tls"
    assert see(folder)

    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(folder / PAIR)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "node"]
    said = subprocess.run([*command, "-CAfile", folder / AUTHORITY, folder / PAIR], capture_output=True, check=False)
    assert said.returncode == 0, said.stderr
    pair = load(folder)
    assert pair is not None
    assert pair.certificate.names == WANTED.names
    assert pair.certificate.not_after == pytest.approx(time.time() + DAYS * DAY, abs=60)
    assert stat.S_IMODE((folder / PAIR).stat().st_mode) == 0o600
    assert stat.S_IMODE((folder / AUTHORITY).stat().st_mode) == 0o644


def test_no_other_key_is_left_anywhere(tmp_path: Path) -> None:
    """That of the authority is forgotten: nobody can make another certificate in its name."""
    see(tmp_path)
    assert sum(path.read_bytes().count(b"PRIVATE KEY-----\n") for path in tmp_path.iterdir()) == 2  # begin and end
    assert b"PRIVATE" not in (tmp_path / AUTHORITY).read_bytes()


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    """Not a byte, and not the time of the file."""
    see(tmp_path)
    before = (tmp_path / PAIR).stat()
    assert not see(tmp_path)
    after = (tmp_path / PAIR).stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_it_is_renewed_in_time(tmp_path: Path) -> None:
    """With less than a third of its life left, or when the clock has gone back behind its beginning."""
    see(tmp_path)
    first = serial(tmp_path)
    assert not see(tmp_path, time.time() + DAYS * DAY * 0.66)
    assert see(tmp_path, time.time() + DAYS * DAY * 0.67)
    second = serial(tmp_path)
    assert see(tmp_path, time.time() - 60)
    assert len({first, second, serial(tmp_path)}) == 3


def test_other_names_make_another_one(tmp_path: Path) -> None:
    """Such as the load balancer's, once it is set."""
    see(tmp_path)
    assert see(tmp_path, wanted=Wanted(OWN, WANTED.names | {"gpu.example.com"}))


# What it finds


def test_what_is_no_pair_is_replaced(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Cut off anywhere, empty, or of two halves that do not belong together; and it says so."""
    see(tmp_path)
    whole = (tmp_path / PAIR).read_bytes()
    key_end = whole.index(b"-----END PRIVATE")
    strange = own(WANTED.names)
    broken = [
        *(whole[:length] for length in (0, 5, key_end, whole.index(b"-----END CERT"), whole.rindex(b"-----BEGIN"))),
        b"source: own\n" + strange.key + whole[whole.index(b"-----BEGIN CERT") :],  # another key
        whole[: whole.rindex(b"-----BEGIN")] + strange.chain[1],  # another authority, of the same name
        b"\xff" * 2000,
    ]
    for content in broken:
        caplog.clear()
        (tmp_path / PAIR).write_bytes(content)
        assert see(tmp_path)
        assert "is no pair" in caplog.text
        assert not see(tmp_path)


def test_an_unfinished_file_is_in_nobody_s_way(tmp_path: Path) -> None:
    """Of one who was killed while writing it."""
    (tmp_path / f"{PAIR}.new").write_bytes(b"half")
    assert see(tmp_path)
    assert not list(tmp_path.glob("*.new"))


# Who else comes


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start the program."""
    command = [sys.executable, "-m", "ami.certificate", "--folder", str(folder), *arguments]
    return subprocess.Popen(command, cwd=ROOT, env=os.environ | environment, stderr=subprocess.PIPE, text=True)


def test_of_many_at_once_one_makes_it(tmp_path: Path) -> None:
    """A boot, the timer, and somebody by hand; nginx is told once."""
    told = tmp_path / "told"
    starts = [run(tmp_path / "tls", "--then", f"sh -c 'echo once >> {told}'") for _ in range(6)]
    said = [start.communicate(timeout=60)[1] for start in starts]
    assert {start.returncode for start in starts} == {0}
    assert sum("because there is none" in each for each in said) == 1
    assert told.read_text() == "once\n"


def test_no_openssl_is_said(tmp_path: Path) -> None:
    """And what to install."""
    start = run(tmp_path, PATH=str(tmp_path))
    assert "install the package openssl" in start.communicate(timeout=60)[1]
    assert start.returncode == 1


def test_nginx_that_cannot_be_told_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The certificate is there, and who does not hear of it has to be told by hand."""
    assert main(["--folder", str(tmp_path), "--then", "false"]) == 1
    assert "systemctl reload nginx" in caplog.text
    assert main(["--folder", str(tmp_path), "--then", "false"]) == 0


def test_a_folder_that_cannot_be_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In one line, without a trace."""
    (tmp_path / "file").write_text("")
    assert main(["--folder", str(tmp_path / "file" / "tls")]) == 1
    assert "Not a directory" in caplog.text


def test_no_secret_is_in_an_argument_or_in_the_environment(openssl_calls: Path) -> None:
    """Everybody on the machine could read it there; nor is there a file that an argument names."""
    pair = own(WANTED.names)
    text = openssl_calls.read_text()
    assert text.count("genpkey") == 2
    assert text.count("/proc/self/fd/") > 5
    assert pair.key.splitlines()[1].decode() not in text
    assert "PRIVATE KEY" not in text
    assert not re.search(r"\.(key|pem)\b", text)


def test_nothing_of_a_key_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not even by those who print the pair."""
    with caplog.at_level(logging.DEBUG):
        see(tmp_path)
    pair = load(tmp_path)
    assert pair is not None
    secret = pair.key.splitlines()[1].decode()
    assert secret not in caplog.text + repr(pair)
