"""The file that nginx reads its key and its certificate from: found whole or not at all, and root's alone."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ami import openssl

OWN: Final = "own"
"""Source of a pair that this machine has made; any other source is the ARN of a certificate."""

PAIR: Final = "pair.pem"
"""Key, certificate and chain. One file, so that no key is ever beside another one's certificate."""

AUTHORITY: Final = "ca.pem"
"""What clients verify by; no secret."""

_SOURCE: Final = b"source: "


class BadPair(Exception):
    """Key, certificate and chain are not of one piece."""


@dataclass(frozen=True)
class Pair:
    """A key and its certificate, with the chain behind it; in PEM."""

    source: str
    key: bytes = field(repr=False)
    chain: tuple[bytes, ...]
    certificate: openssl.Certificate

    @classmethod
    def of(cls, source: str, key: bytes, chain: list[bytes]) -> Pair:
        """Put one together.

        Raises:
            BadPair: its parts do not belong together.
        """
        if len(chain) < 2:  # noqa: PLR2004 - a certificate and who issued it
            raise BadPair("the certificate or its chain is missing")
        try:
            certificate = openssl.read(chain[0])
            if openssl.public_key(key) != certificate.public_key:
                raise BadPair("the key is another certificate's")
            openssl.verify_signatures(chain[0], b"".join(chain[1:]))
        except openssl.OpensslFailed as error:
            raise BadPair(str(error)) from None
        return cls(source, key, tuple(chain), certificate)


def load(folder: Path) -> Pair | None:
    """Read the pair, `None` where there is none.

    Raises:
        BadPair: what is there is none.
    """
    try:
        text = (folder / PAIR).read_bytes()
    except FileNotFoundError:
        return None
    head, _, rest = text.partition(b"\n")
    if not head.startswith(_SOURCE):
        raise BadPair("its first line names no source")
    key, _, chain = rest.partition(b"-----BEGIN CERTIFICATE-----")
    source = head.removeprefix(_SOURCE).decode("ascii", "replace")
    return Pair.of(source, key, openssl.certificates(b"-----BEGIN CERTIFICATE-----" + chain))


def store(folder: Path, pair: Pair) -> None:
    """Put a pair in the place of the one that is there, and what clients need beside it."""
    _replace(folder / AUTHORITY, b"".join(pair.chain[1:]), 0o644)
    _replace(folder / PAIR, b"".join([_SOURCE, pair.source.encode(), b"\n", pair.key, *pair.chain]), 0o600)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Make the folder, and keep all others out of it who ask: a boot and the timer may come at the same time."""
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _replace(path: Path, content: bytes, mode: int) -> None:
    # Whoever was killed while writing has left this file; nobody reads it.
    unfinished = path.with_name(f"{path.name}.new")
    unfinished.unlink(missing_ok=True)
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(descriptor, mode)  # whatever the umask
        file.write(content)
    unfinished.replace(path)
