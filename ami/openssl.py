"""The openssl program, fed from memory: no key and no passphrase is in a file, in an argument or in the environment."""

from __future__ import annotations

import os
import re
import ssl
import subprocess
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

_SECONDS: Final = 30
# openssl req wants a section of names even when -subj has them.
_REQUEST: Final = b"[req]\ndistinguished_name = none\n[none]\n"
_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)


class OpensslFailed(Exception):
    """The openssl program is missing, or refused what it was given."""


@dataclass(frozen=True)
class Certificate:
    """What a certificate says of itself; times are in seconds since 1970, names those of subjectAltName."""

    serial: str
    not_before: float
    not_after: float
    names: frozenset[str]
    public_key: bytes


def _run(*arguments: str, **inputs: bytes) -> bytes:
    """Run openssl; `{name}` in an argument becomes the path of an unnamed file in memory with that input."""
    with ExitStack() as files:
        paths, descriptors = {}, []
        for name, content in inputs.items():
            descriptor = os.memfd_create(name)
            files.callback(os.close, descriptor)
            os.write(descriptor, content)
            os.lseek(descriptor, 0, os.SEEK_SET)
            descriptors.append(descriptor)
            paths[name] = f"/proc/self/fd/{descriptor}"
        command = ["openssl", *(each.format(**paths) for each in arguments)]
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                pass_fds=descriptors,
                timeout=_SECONDS,
                check=False,
            )
        except FileNotFoundError:
            raise OpensslFailed("there is no openssl program; install the package openssl") from None
        except subprocess.TimeoutExpired:
            raise OpensslFailed(f"openssl {arguments[0]} took longer than {_SECONDS} s; run this again") from None
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().splitlines() or ["without a word"]
        raise OpensslFailed(f"openssl {arguments[0]}: {said[-1]}")
    return done.stdout


def new_key() -> bytes:
    """Make a private key on P-256."""
    return _run("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


def sign(key: bytes, names: frozenset[str], days: int) -> list[bytes]:
    """Sign a certificate for `key` by an authority that is made for it, and whose own key is forgotten at once.

    Returns:
        The certificate and the authority's, in PEM.
    """
    authority_key = new_key()
    # The authority's life is a day longer: a certificate must not outlive its issuer, not by a second.
    ours = ("req", "-new", "-x509", "-config", "{config}", "-key", "{key}")
    authority = _run(
        *(*ours, "-subj", "/CN=tl-fif authority of one boot", "-days", str(days + 1)),
        *("-addext", "basicConstraints = critical, CA:TRUE, pathlen:0", "-addext", "keyUsage = critical, keyCertSign"),
        key=authority_key,
        config=_REQUEST,
    )
    certificate = _run(
        *(*ours, "-CA", "{authority}", "-CAkey", "{authority_key}", "-subj", "/CN=tl-fif node", "-days", str(days)),
        *("-addext", "basicConstraints = critical, CA:FALSE", "-addext", "keyUsage = critical, digitalSignature"),
        *("-addext", "extendedKeyUsage = serverAuth", "-addext", f"subjectAltName = {_alternatives(names)}"),
        key=key,
        config=_REQUEST,
        authority=authority,
        authority_key=authority_key,
    )
    return [certificate, authority]


def decrypted(key: bytes, passphrase: bytes) -> bytes:
    """Return a private key without its passphrase."""
    return _run("pkey", "-in", "{key}", "-passin", "file:{passphrase}", key=key, passphrase=passphrase)


def public_key(key: bytes) -> bytes:
    """Return the public half of a private key without a passphrase."""
    # An encrypted key must not make openssl ask a terminal.
    return _run("pkey", "-in", "{key}", "-pubout", "-passin", "pass:", key=key)


def read(certificate: bytes) -> Certificate:
    """Read a certificate in PEM."""
    wanted = ("-serial", "-startdate", "-enddate", "-ext", "subjectAltName")
    said = _run("x509", "-in", "{pem}", "-noout", *wanted, pem=certificate).decode()
    facts = dict(re.findall(r"^(serial|notBefore|notAfter)=(.+)$", said, re.MULTILINE))
    return Certificate(
        serial=facts["serial"],
        not_before=float(ssl.cert_time_to_seconds(facts["notBefore"])),
        not_after=float(ssl.cert_time_to_seconds(facts["notAfter"])),
        names=frozenset(
            str(ip_address(name)) if kind == "IP Address" else name
            for kind, name in re.findall(r"(DNS|IP Address):([^\s,]+)", said)
        ),
        public_key=_run("x509", "-in", "{pem}", "-noout", "-pubkey", pem=certificate),
    )


def verify_signatures(certificate: bytes, chain: bytes) -> None:
    """See that a certificate was issued by one of the chain; dates are for those who know the time.

    Raises:
        OpensslFailed: it was not.
    """
    _run("verify", "-no_check_time", "-partial_chain", "-trusted", "{chain}", "{pem}", chain=chain, pem=certificate)


def certificates(pem: bytes) -> list[bytes]:
    """Cut a file into the certificates that are in it."""
    return _PEM.findall(pem)


def _alternatives(names: frozenset[str]) -> str:
    return ", ".join(sorted(f"{'IP' if _is_address(name) else 'DNS'}:{name}" for name in names))


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
