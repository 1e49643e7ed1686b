"""`python -m ami.certificate`: sees that nginx has a certificate that is good for a while, and says what it did.

Without settings the certificate is one of our own: made at each boot together with its authority, in memory alone. With
`TLFIF_CERTIFICATE_ARN` it comes out of AWS Certificate Manager. The exit code is 1 when what was asked for could not be
had; then an earlier certificate, or one of our own, stands in, so that nginx starts, and the next call tries again.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from ami import openssl
from ami.pair import OWN, BadPair, Pair, alone, load, store

FOLDER: Final = Path("/run/tl-fif-tls")
"""In memory: /run is a tmpfs."""

DAYS: Final = 14
"""Life of our own. A boot makes a new one, and the timer when an instance runs for so long."""

PART_LEFT: Final = 1 / 3
"""Part of its life that a certificate has left when it is renewed."""

_EVERYWHERE: Final = ("localhost", "127.0.0.1", "::1")
_HOST: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?:\.[A-Za-z0-9-]{1,63})*")

Make = Callable[[str], tuple[bytes, list[bytes]]]

log = logging.getLogger("certificate")


@dataclass(frozen=True)
class Wanted:
    """The certificate that this machine should have: where it is from, and for which names if we make it."""

    source: str
    names: frozenset[str]

    @classmethod
    def from_environment(cls, environment: Mapping[str, str], host: str) -> Wanted:
        """Read `TLFIF_CERTIFICATE_ARN`, and `TLFIF_CERTIFICATE_NAMES` with commas between; `host` is this machine."""
        asked = environment.get("TLFIF_CERTIFICATE_NAMES", "").split(",")
        names = {name: _name(name) for name in (*_EVERYWHERE, host, *map(str.strip, asked)) if name}
        bad = sorted(name for name, good in names.items() if good is None)
        if bad:
            log.warning("no names for a certificate, left out: %s; write host names or addresses", ", ".join(bad))
        return cls(environment.get("TLFIF_CERTIFICATE_ARN") or OWN, frozenset(filter(None, names.values())))


def worn(certificate: openssl.Certificate, now: float) -> str | None:
    """Say why a certificate is due by its dates, `None` while it is not."""
    if now < certificate.not_before:
        return f"it begins at {_date(certificate.not_before)}, and the clock says {_date(now)}"
    if now >= certificate.not_after:
        return f"it ended at {_date(certificate.not_after)}"
    life = certificate.not_after - certificate.not_before
    if certificate.not_after - now < life * PART_LEFT:
        return f"it ends at {_date(certificate.not_after)}"
    return None


def due(pair: Pair | None, wanted: Wanted, now: float) -> str | None:
    """Say why there has to be another pair, `None` while there has not."""
    if pair is None:
        return "there is none"
    if pair.source != wanted.source:
        return f"it is from {pair.source}"
    if pair.source == OWN and pair.certificate.names != wanted.names:
        return f"it is for {_list(pair.certificate.names)}"
    return worn(pair.certificate, now)


def stands_in(pair: Pair | None, now: float) -> bool:
    """Tell whether a pair will do while the wanted one cannot be had: until its end, or till ours is due anyway."""
    if pair is None:
        return False
    return worn(pair.certificate, now) is None if pair.source == OWN else now < pair.certificate.not_after


def own(names: frozenset[str]) -> Pair:
    """Make a pair here."""
    key = openssl.new_key()
    return Pair.of(OWN, key, openssl.sign(key, names, DAYS))


def exported(arn: str, export: Make, now: float) -> Pair:
    """Fetch a pair and see that it is good today.

    Raises:
        BadPair: it is not.
    """
    pair = Pair.of(arn, *export(arn))
    if not pair.certificate.not_before <= now < pair.certificate.not_after:
        dates = f"{_date(pair.certificate.not_before)} to {_date(pair.certificate.not_after)}"
        raise BadPair(f"it is good from {dates}, and the clock says {_date(now)}; renew it in ACM or set the clock")
    return pair


def see_to(folder: Path, wanted: Wanted, now: float, export: Make) -> tuple[bool, bool]:
    """Leave a pair in the folder; tell whether it is another one than before, and whether it is the wanted one."""
    with alone(folder):
        try:
            before = load(folder)
        except BadPair as error:
            log.warning("what is in %s is no pair: %s; it is replaced", folder, error)
            before = None
        reason = due(before, wanted, now)
        if reason is None:
            return False, True
        pair, granted = _replacement(before, wanted, now, export)
        if before is not None and pair.certificate.serial == before.certificate.serial:
            return False, granted
        store(folder, pair)
        until, names = _date(pair.certificate.not_after), _list(pair.certificate.names)
        log.info("another one, because %s: from %s, for %s, until %s", reason, pair.source, names, until)
        return True, granted


def _replacement(before: Pair | None, wanted: Wanted, now: float, export: Make) -> tuple[Pair, bool]:
    if wanted.source == OWN:
        return own(wanted.names), True
    # Reading botocore takes a machine that has just booted a second, and our own way does without.
    from ami.acm import ExportFailed  # noqa: PLC0415

    try:
        return exported(wanted.source, export, now), True
    except (ExportFailed, BadPair) as error:
        log.error("no certificate from ACM: %s", error)
    if before is not None and stands_in(before, now):
        log.warning("the one from %s stays, until %s", before.source, _date(before.certificate.not_after))
        return before, False
    return own(wanted.names), False


def _export(arn: str) -> tuple[bytes, list[bytes]]:
    from ami.acm import export  # noqa: PLC0415 - as above

    return export(arn)


def main(arguments: Sequence[str]) -> int:
    """Do it once."""
    logging.basicConfig(format="%(name)s: %(message)s")
    log.setLevel(logging.INFO)  # botocore has much to say that nobody asked
    parser = argparse.ArgumentParser(prog="python -m ami.certificate", description=__doc__.split("\n")[0])
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where the pair is, in memory (%(default)s)")
    parser.add_argument("--then", default="", metavar="COMMAND", help="what is run after a change; it tells nginx")
    asked = parser.parse_args(arguments)
    wanted = Wanted.from_environment(os.environ, os.uname().nodename)
    try:
        changed, granted = see_to(asked.folder, wanted, time.time(), _export)
    except (openssl.OpensslFailed, OSError) as error:
        log.error("%s", error)
        return 1
    if changed and asked.then and subprocess.run(shlex.split(asked.then), check=False).returncode:
        log.error("nginx does not know of it yet: %s failed; run: systemctl reload nginx", asked.then)
        return 1
    return 0 if granted else 1


def _name(text: str) -> str | None:
    """Return a host name or an address as certificates have it, `None` for anything else."""
    try:
        return str(ip_address(text))
    except ValueError:
        return text if _HOST.fullmatch(text) else None


def _list(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
