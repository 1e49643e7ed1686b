"""The page of licences and the bills of materials: whole, current, and what the metadata says."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from tests.infra.ci_scripts import load

licences = load("licences")
locks = load("locks")
sbom = load("sbom")
ROWS = licences.read()
NVIDIA = "LicenseRef-NVIDIA-Proprietary"


def test_the_page_names_what_the_locks_name() -> None:
    """In the same versions, in the same locks; else: make licences."""
    stands = {(row.name, row.version, lock) for row in ROWS for lock in row.locks.split(", ")}

    assert stands == {(pin.name, pin.version, str(lock)) for lock in locks.LOCKS for pin in lock.pins()}


def test_the_page_is_what_the_script_writes() -> None:
    """Nobody wrote into it by hand."""
    assert licences.render(ROWS) == licences.PAGE.read_text(encoding="utf-8")


def test_the_page_has_what_is_installed_to_say() -> None:
    """The terms of each package here, read anew from its metadata."""
    here = {pin.name: pin.version for pin in locks.EVERYTHING.pins()}
    differing = {}
    for row in ROWS:
        if here.get(row.name) == row.version:
            given = metadata.metadata(row.name)
            fields: dict[str, Any] = {"name": row.name, "version": row.version}
            fields |= {"license_expression": given["License-Expression"], "license": given["License"]}
            fields["classifier"] = given.get_all("Classifier") or []
            terms = licences.terms_of(fields)
            if terms != row.terms:
                differing[row.name] = (terms, row.terms)

    assert len(here) > 200
    assert differing == {}


def test_all_terms_are_judged_and_fit_their_place() -> None:
    """None is of a kind that nobody looked at."""
    assert licences.faults(ROWS) == []


@pytest.mark.parametrize(
    ("terms", "lock", "expected"),
    [
        ("AGPL-3.0-only", "requirements.lock", "judge it, and name it"),
        ("MIT AND GPL-2.0-only", ".ci/checkov.txt", "judge it, and name it"),
        (NVIDIA, ".ci/lambda.lock, requirements.lock", "the Lambda packages may be handed on"),
    ],
)
def test_terms_that_do_not_fit_are_named(terms: str, lock: str, expected: str) -> None:
    """With the package."""
    (said,) = licences.faults([licences.Terms("a", "1", terms, lock)])
    assert said.startswith(f"a 1 is under {terms}")
    assert expected in said


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("MIT OR Apache-2.0", "permissive"),
        ("BSD-2-Clause AND Apache-2.0 WITH LLVM-exception", "permissive"),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", "weak copyleft"),
        (f"MPL-2.0 AND {NVIDIA}", "proprietary"),
        (f"{NVIDIA} AND GPL-3.0-only", "other"),
        ("MIT-0-and-more", "other"),
    ],
)
def test_the_strictest_part_counts(expression: str, expected: str) -> None:
    """Whatever joins the parts."""
    assert licences.kind(expression) == expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"license_expression": "MIT OR Apache-2.0", "license": "BSD"}, "MIT OR Apache-2.0"),
        ({"license": "BSD-3-Clause"}, "BSD-3-Clause"),
        ({"license": "Apache License\n        Version 2.0, January 2004"}, "Apache-2.0"),
        ({"license": "  MIT License\n\nCopyright"}, "MIT"),
        ({"license": "BSD-derived (http://example.org)"}, "LicenseRef-BSD"),
        ({"license": NVIDIA, "classifier": ["License :: Other/Proprietary License"]}, NVIDIA),
        (
            {
                "license": "Dual License",
                "classifier": [f"License :: OSI Approved :: {each} License" for each in ("MIT", "BSD", "Any")],
            },
            "LicenseRef-BSD AND MIT",
        ),
        ({"name": "Quack_Kernels"}, "Apache-2.0"),
    ],
)
def test_terms_are_read_from_where_they_stand(fields: dict[str, Any], expected: str) -> None:
    """An expression first, then the field, then the classifiers."""
    assert licences.terms_of({"name": "a", "version": "1", **fields}) == expected


@pytest.mark.parametrize("fields", [{}, {"license": "UNKNOWN"}, {"license": "ask me"}, {"license": "Foo-1.0"}])
def test_terms_that_stand_nowhere_are_missed(fields: dict[str, str]) -> None:
    """And it is said where to write what was found in the wheel."""
    with pytest.raises(
        ValueError, match=r"a 1 does not say its terms; read them in its wheel and add it to NOT_STATED"
    ):
        licences.terms_of({"name": "a", "version": "1", **fields})


# The bills of materials


@pytest.fixture(scope="module")
def bills(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return what `make sbom` writes, by lock."""
    folder = tmp_path_factory.mktemp("dist")
    assert sbom.main(["--output", str(folder)]) == 0
    return {str(lock): (folder / f"{lock.what}.cdx.json").read_text() for lock in locks.LOCKS}


@pytest.mark.parametrize("lock", locks.LOCKS, ids=str)
def test_a_bill_is_cyclonedx(bills: dict[str, str], lock: Any) -> None:
    """By the strict schema of its specification; a fault in it is found."""
    strict = JsonStrictValidator(SchemaVersion.V1_6)

    assert strict.validate_str(bills[str(lock)]) is None
    assert strict.validate_str(bills[str(lock)].replace('"SHA-256"', '"SHA-257"')) is not None


@pytest.mark.parametrize("lock", locks.LOCKS, ids=str)
def test_a_bill_names_each_file_and_its_terms(bills: dict[str, str], lock: Any) -> None:
    """As the lock and the page have them, for this version."""
    found = json.loads(bills[str(lock)])
    terms = sbom.known(ROWS)

    assert [
        (each["name"], each["version"], [h["content"] for h in each["hashes"]]) for each in found["components"]
    ] == [(pin.name, pin.version, list(pin.hashes)) for pin in lock.pins()]
    assert [each["licenses"][0]["expression"] for each in found["components"]] == [
        terms[pin.name, pin.version] for pin in lock.pins()
    ]
    assert found["metadata"]["component"]["version"] == (locks.ROOT / "VERSION").read_text(encoding="utf-8").strip()


def test_two_bills_are_the_same_bytes(bills: dict[str, str], tmp_path: Path) -> None:
    """And two locks' differ in their serial number."""
    sbom.main(["--output", str(tmp_path)])

    assert {str(lock): (tmp_path / f"{lock.what}.cdx.json").read_text() for lock in locks.LOCKS} == bills
    assert len({json.loads(text)["serialNumber"] for text in bills.values()}) == len(locks.LOCKS)


def test_a_bill_needs_the_terms_of_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A lock that is newer than the page is said, and nothing is written."""
    monkeypatch.setattr(sbom, "read", lambda: ROWS[1:])

    assert sbom.main(["--output", str(tmp_path)]) == 1
    assert f"does not have {ROWS[0].name}=={ROWS[0].version}; run: make licences" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
