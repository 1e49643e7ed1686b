"""Ask whether any version that is locked has a known weakness, by pip-audit and the advisories of PyPI (`make audit`).

Exit 0: none, or none that is not accepted in .ci/advisories.toml. Exit 1: one, or nobody could be asked; with
`--offline-ok` the latter is a warning.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Final

from locks import CHECKOV, LOCKS, ROOT, Lock, Pin

ACCEPTED: Final = ROOT / ".ci" / "advisories.toml"
COMMAND: Final = (sys.executable, "-m", "pip_audit")

ADVISORY_ALONE: Final = (CHECKOV,)
"""What is found in these alone is said and fails nothing: others choose the versions, and it runs offline, in an
environment of its own, over our own files."""


class Unreachable(Exception):
    """The advisories could not be asked; the message says what was tried."""


@dataclass(frozen=True, slots=True)
class Weakness:
    """A published advisory about a version that is locked."""

    pin: str
    name: str
    id: str
    aliases: tuple[str, ...]
    fixed_in: tuple[str, ...]

    def __str__(self) -> str:
        fix = f"fixed in {', '.join(self.fixed_in)}" if self.fixed_in else "no version fixes it yet"
        return f"{self.pin}: {' = '.join([self.id, *self.aliases])}; {fix}"


@dataclass(frozen=True, slots=True)
class Acceptance:
    """A weakness that does not matter here, for a reason and for a time."""

    id: str
    package: str
    why: str
    until: date

    def covers(self, weakness: Weakness) -> bool:
        """Tell whether it speaks of this weakness."""
        return self.package == weakness.name and self.id in {weakness.id, *weakness.aliases}


def accepted(path: Path) -> list[Acceptance]:
    """Read what is accepted.

    Raises:
        ValueError: an entry lacks a field or has one that nobody reads.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8")).get("accepted", [])
    for entry in entries:
        if entry.keys() != {"id", "package", "why", "until"} or not isinstance(entry["until"], date):
            raise ValueError(f"write id, package, why and until (a day) for each entry of {path.name}; this is {entry}")
    return [Acceptance(**entry) for entry in entries]


def ask(pins: Iterable[Pin], command: Sequence[str] = COMMAND) -> list[Weakness]:
    """Return what is known of these versions.

    Raises:
        Unreachable: of one of them at least nothing could be learnt.
    """
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as wanted:
        wanted.write("\n".join(sorted({str(pin) for pin in pins})))
        wanted.flush()
        options = [
            "--requirement",
            wanted.name,
            "--no-deps",
            "--disable-pip",
            "--format=json",
            "--progress-spinner=off",
        ]
        done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    try:
        answers: list[dict[str, Any]] = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError):
        words = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise Unreachable(f"pip-audit gave no answer; it said: {words[-1]}") from None
    # pip-audit calls it no failure when the registry does not know a package, as one without advisories never does.
    if skipped := [answer["name"] for answer in answers if "skip_reason" in answer]:
        raise Unreachable(f"nobody told about {skipped[0]} and {len(skipped) - 1} more of {len(answers)} packages")
    return [
        Weakness(f"{answer['name']}=={answer['version']}", answer["name"], each["id"], *_details(each))
        for answer in answers
        for each in answer["vulns"]
    ]


def _details(vulnerability: dict[str, Any]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return tuple(sorted(vulnerability["aliases"])), tuple(vulnerability["fix_versions"])


def verdict(
    found: dict[str, list[Lock]], weaknesses: list[Weakness], known: list[Acceptance], today: date
) -> list[str]:
    """Say all that is wrong, none when nothing is; `found` maps pins to the locks that have them."""
    faults = []
    for weakness in weaknesses:
        locks, where = found[weakness.pin], ", ".join(map(str, found[weakness.pin]))
        acceptance = next((each for each in known if each.covers(weakness)), None)
        if set(locks) <= set(ADVISORY_ALONE):
            print(f"audit: warning: {where}: {weakness}")
        elif acceptance is None:
            faults.append(f"{where}: {weakness}. Raise it (make lock), or accept it with a reason in {ACCEPTED.name}")
        elif acceptance.until < today:
            faults.append(f"{where}: {weakness}. It was accepted until {acceptance.until}; look again")
        else:
            print(f"audit: accepted until {acceptance.until}: {weakness}: {acceptance.why}")
    unused = [each for each in known if not any(map(each.covers, weaknesses))]
    return faults + [
        f"{each.id} of {each.package} is no longer found; take it out of {ACCEPTED.name}" for each in unused
    ]


def main(arguments: list[str], command: Sequence[str] = COMMAND, today: date | None = None) -> int:
    """Ask for every lock."""
    parser = argparse.ArgumentParser(description="Ask whether a locked version has a known weakness.")
    parser.add_argument("--offline-ok", action="store_true", help="only warn when the advisories cannot be reached")
    options = parser.parse_args(arguments)
    found: dict[str, list[Lock]] = {}
    for lock in LOCKS:
        for pin in lock.pins():
            found.setdefault(str(pin), []).append(lock)
    try:
        # On its own, because its versions are others.
        groups = [[pin for lock in LOCKS if lock is not CHECKOV for pin in lock.pins()], CHECKOV.pins()]
        weaknesses = [weakness for group in groups for weakness in ask(group, command)]
    except Unreachable as silence:
        word = "warning" if options.offline_ok else "failed"
        print(f"audit: {word}: {silence}. Try again where PyPI's advisories can be reached", file=sys.stderr)
        return 0 if options.offline_ok else 1
    faults = verdict(found, weaknesses, accepted(ACCEPTED), today or datetime.now(UTC).date())
    print(*faults, sep="\n", end="\n" if faults else "")
    print(f"audit: {len(found)} versions, {len(weaknesses)} advisories, {len(faults)} to act on")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
