"""The audit: what pip-audit says is judged, and its silence is never taken for good news."""

from __future__ import annotations

import json
import re
import sys
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from tests.infra.ci_scripts import load

audit = load("audit")
locks = load("locks")
TODAY = date(2026, 12, 24)

ANSWERING = """
import json, re, sys
names = [line.strip().split("==") for line in open(sys.argv[sys.argv.index("--requirement") + 1])]
assert {"--no-deps", "--disable-pip"} <= set(sys.argv)
vulnerable, answer = json.loads(VULNERABLE), []
for name, version in names:
    answer.append({"name": name, "version": version, "vulns": vulnerable.get(name, [])})
print(json.dumps({"dependencies": answer, "fixes": []}))
sys.exit(any(each["vulns"] for each in answer))
"""
"""Stands in for pip-audit, with its exit codes."""

SKIPPING = """
import json
print(json.dumps({"dependencies": [{"name": "a", "skip_reason": "Dependency not found on PyPI"}], "fixes": []}))
"""


def command(source: str) -> list[str]:
    """Return what is run in place of pip-audit."""
    return [sys.executable, "-c", source]


def knowing(**vulnerable: list[dict[str, Any]]) -> list[str]:
    """Return a pip-audit that knows of these weaknesses."""
    return command(ANSWERING.replace("VULNERABLE", repr(json.dumps(vulnerable))))


def advisory(name: str, *aliases: str, fixed: str | None = None) -> dict[str, Any]:
    """Return a weakness as pip-audit prints it."""
    return {"id": name, "aliases": list(aliases), "fix_versions": [fixed] if fixed else [], "description": "any"}


@pytest.fixture
def acceptances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of what is accepted, empty."""
    path = tmp_path / "advisories.toml"
    path.touch()
    monkeypatch.setattr(audit, "ACCEPTED", path)
    return path


def accept(path: Path, name: str, package: str, until: str = "2026-12-24") -> None:
    """Accept a weakness."""
    path.write_text(f'[[accepted]]\nid = "{name}"\npackage = "{package}"\nwhy = "nobody calls it"\nuntil = {until}\n')


def test_nothing_is_known(acceptances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every version of every lock was asked for."""
    assert audit.main([], knowing(), TODAY) == 0

    asked = {str(pin) for lock in locks.LOCKS for pin in lock.pins()}
    assert capsys.readouterr().out == f"audit: {len(asked)} versions, 0 advisories, 0 to act on\n"


def test_a_weakness_fails_and_says_where_it_is(acceptances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In each lock, under each name, and what mends it."""
    assert audit.main([], knowing(h11=[advisory("PYSEC-1", "GHSA-x", "CVE-1", fixed="9.9")]), TODAY) == 1

    said = capsys.readouterr().out
    assert "requirements.lock, ami/requirements.lock, .ci/tools.lock: h11==" in said
    assert "PYSEC-1 = CVE-1 = GHSA-x; fixed in 9.9. Raise it (make lock)" in said
    assert "1 advisories, 1 to act on" in said


def test_a_weakness_that_nothing_fixes(acceptances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """It says so, too."""
    assert audit.main([], knowing(redis=[advisory("PYSEC-1")]), TODAY) == 1
    assert ".ci/lambda.lock: redis==" in (said := capsys.readouterr().out)
    assert "no version fixes it yet" in said


def test_a_weakness_of_checkov_alone_fails_nothing(acceptances: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its versions are its authors' choice."""
    assert audit.main([], knowing(checkov=[advisory("PYSEC-1")]), TODAY) == 0
    assert "audit: warning: .ci/checkov.txt: checkov==" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_an_accepted_weakness_passes(acceptances: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """By whichever of its names, to the last day, and with the reason."""
    accept(acceptances, name, "h11")

    assert audit.main([], knowing(h11=[advisory("PYSEC-1", "CVE-1")]), TODAY) == 0
    assert re.search("accepted until 2026-12-24: h11==.*: nobody calls it", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("acceptance", "expected"),
    [
        (("PYSEC-1", "h11", "2026-12-23"), "It was accepted until 2026-12-23; look again"),
        (("PYSEC-2", "h11", "2027-12-23"), "PYSEC-2 of h11 is no longer found; take it out of advisories.toml"),
        (("PYSEC-1", "anyio", "2027-12-23"), "or accept it with a reason in advisories.toml"),
    ],
)
def test_an_acceptance_that_does_not_hold(
    acceptances: Path, acceptance: tuple[str, str, str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ran out, is for nothing, or is for another package."""
    accept(acceptances, *acceptance)

    assert audit.main([], knowing(h11=[advisory("PYSEC-1")]), TODAY) == 1
    assert expected in capsys.readouterr().out


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (SKIPPING, "nobody told about a and 0 more of 1 packages"),
        ("import sys; sys.exit('Max retries exceeded')", "pip-audit gave no answer; it said: Max retries exceeded"),
        ("print('{}')", "pip-audit gave no answer; it said: exit 0"),
    ],
)
def test_silence_is_no_good_news(source: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """pip-audit itself succeeds where the registry knows no package at all."""
    assert audit.main([], command(source), TODAY) == 1
    assert capsys.readouterr().err.startswith(f"audit: failed: {expected}. Try again")
    assert audit.main(["--offline-ok"], command(source), TODAY) == 0
    assert capsys.readouterr().err.startswith(f"audit: warning: {expected}. Try again")


def test_offline_ok_forgives_no_weakness(acceptances: Path) -> None:
    """Once somebody told."""
    assert audit.main(["--offline-ok"], knowing(h11=[advisory("PYSEC-1")]), TODAY) == 1


@pytest.mark.parametrize(
    "text",
    [
        '[[accepted]]\nid = "a"\npackage = "b"\nuntil = 2027-01-01\n',
        '[[accepted]]\nid = "a"\npackage = "b"\nwhy = "c"\nuntil = "soon"\n',
        '[[accepted]]\nid = "a"\npackage = "b"\nwhy = "c"\nuntil = 2027-01-01\nby = "d"\n',
    ],
)
def test_an_acceptance_says_why_and_until_when(acceptances: Path, text: str) -> None:
    """And nothing that nobody reads."""
    acceptances.write_text(text)
    with pytest.raises(ValueError, match="write id, package, why and until"):
        audit.accepted(acceptances)


def test_what_is_accepted_can_be_read() -> None:
    """For packages that a lock has."""
    names = {pin.name for lock in locks.LOCKS for pin in lock.pins()}
    assert {each.package for each in audit.accepted(audit.ACCEPTED)} <= names
