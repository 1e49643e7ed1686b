"""The version: one file says it, everything else follows, and it is raised everywhere or nowhere."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.infra.ci_scripts import FOLDER, load
from tests.infra.terraform_world import REPOSITORY
from tests.infra.version_world import SMALL, small_project

version = load("version")
NOW = (REPOSITORY / "VERSION").read_text(encoding="utf-8").strip()
CHANGELOG = (REPOSITORY / "CHANGELOG.md").read_text(encoding="utf-8")
TODAY = date(2026, 12, 24)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
"""Of Keep a Changelog 1.1."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project of version 0.8.0 with something unreleased."""
    return small_project(tmp_path)


def texts(root: Path) -> dict[str, str]:
    """Return what all files of a project say."""
    return {path.name: path.read_text() for path in root.rglob("*") if path.is_file() and ".git" not in path.parts}


# Where it stands


def test_all_places_say_the_same() -> None:
    """VERSION, the API's description and the newest part of the changelog."""
    assert version.disagreements(REPOSITORY) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"),
    [
        ("router_lambda/openapi.yaml", "0.8.0", "0.7.0", "router_lambda/openapi.yaml: info.version is 0.7.0"),
        ("router_lambda/openapi.yaml", "  version: 0.8.0\n", "", "router_lambda/openapi.yaml: info.version is None"),
        ("CHANGELOG.md", "[0.8.0]", "[0.8.1]", "CHANGELOG.md: the newest version is 0.8.1, and VERSION 0.8.0"),
        ("CHANGELOG.md", " - 2026-11-26", "", "CHANGELOG.md: the newest version is None"),
    ],
)
def test_a_place_that_was_forgotten_is_named(root: Path, name: str, old: str, new: str, expected: str) -> None:
    """With what it says."""
    path = root / name
    path.write_text(path.read_text().replace(old, new))

    (said,) = version.disagreements(root)
    assert expected in said
    assert version.main(["check"], root) == 1


def test_terraform_reads_the_file() -> None:
    """The image's version and tag, and what the system says of itself, are the file's; no root says one of its own."""
    roots = [*(REPOSITORY / "terraform").glob("*.tf"), *(REPOSITORY / "terraform").glob("*/*.tf")]
    readers = {path for path in roots if re.search(r'file\("[^"]*/VERSION"\)', path.read_text(encoding="utf-8"))}

    assert {path.relative_to(REPOSITORY).as_posix() for path in readers} == {
        "terraform/image/main.tf",
        "terraform/outputs.tf",
    }
    assert [path for path in roots if f'"{NOW}"' in path.read_text(encoding="utf-8")] == []


def test_a_container_would_carry_it() -> None:
    """There is none; whoever writes a Dockerfile gives it the label that registries show."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],  # noqa: S607 - wherever git is
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    ).stdout.splitlines()
    containers = [name for name in listed if re.search(r"(^|/)(Dockerfile|Containerfile)[^/]*$", name)]

    assert [name for name in containers if not labelled((REPOSITORY / name).read_text(encoding="utf-8"))] == []


def labelled(dockerfile: str) -> bool:
    """Tell whether a Dockerfile labels its image with the version that it is given."""
    return bool(re.search(r"^LABEL .*org\.opencontainers\.image\.version=\"?\$\{?VERSION\}?", dockerfile, re.MULTILINE))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM x\nARG VERSION\nLABEL org.opencontainers.image.version=$VERSION\n", True),
        ('FROM x\nLABEL a=b org.opencontainers.image.version="${VERSION}"\n', True),
        ("FROM x\n", False),
        ("FROM x\nLABEL org.opencontainers.image.version=0.8.0\n", False),
    ],
)
def test_a_label_is_found(text: str, expected: bool) -> None:  # noqa: FBT001 - a table's column
    """A number of its own is none."""
    assert labelled(text) is expected


# The changelog


def test_the_changelog_has_the_form() -> None:
    """One part for each version, newest first, each with a day and kinds of changes and something in each."""
    parts = list(version.HEADING.finditer(CHANGELOG))
    names = [part["version"] for part in parts]
    days = [date.fromisoformat(part["date"]) for part in parts[1:]]
    numbers = [version.parse(name) for name in names[1:]]

    assert re.findall(r"^## .*", CHANGELOG, re.MULTILINE) == [part[0] for part in parts]
    assert (names[0], parts[0]["date"]) == ("Unreleased", None)
    assert numbers == sorted(set(numbers), reverse=True)
    assert days == sorted(days, reverse=True)
    for name in names:
        text = version.part_of(CHANGELOG, name)
        assert name == "Unreleased" or text, name
        assert set(re.findall(r"^### (.*)", text, re.MULTILINE)) <= KINDS, name
        assert not re.search(r"^### .*\n\n*(?=###|\Z)", text, re.MULTILINE), name


def test_the_changelog_knows_every_version_there_was() -> None:
    """Each number that VERSION ever had, on no day after it got it, as far as git remembers."""
    shown = subprocess.run(
        ["git", "log", "--reverse", "--format=%ad", "--date=short", "--patch", "--", "VERSION"],  # noqa: S607
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    if shown.returncode or "+0.1.0" not in shown.stdout:
        pytest.skip("not a git checkout with its whole history")
    found = re.findall(r"^(\d{4}-\d\d-\d\d)$|^\+(\d+\.\d+\.\d+)$", shown.stdout, re.MULTILINE)
    days = [day for day, _ in found if day]
    versions = [each for _, each in found if each]

    known = {part["version"]: part["date"] or "" for part in version.HEADING.finditer(CHANGELOG)}
    assert [each for each in versions if each not in known] == []
    # A day of grace, for clocks in other places; earlier it may be, as a change can wait for its merge.
    graces = {each: date.fromisoformat(day) + timedelta(days=1) for each, day in zip(versions, days, strict=True)}
    assert [each for each, grace in graces.items() if date.fromisoformat(known[each]) > grace] == []


@pytest.mark.parametrize(("name", "expected"), [("0.8.0", "### Fixed\n- Another."), ("0.7.0", None)])
def test_the_notes_of_a_version(
    root: Path, name: str, expected: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its part alone; a version that the changelog does not know is refused."""
    code = version.main(["notes", name], root)
    said = capsys.readouterr()

    assert (code, said.out) == ((0, f"{expected}\n") if expected else (1, ""))
    assert expected or "says nothing of 0.7.0; write a part for it" in said.err


def test_the_notes_are_those_of_this_version(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where none is named."""
    assert version.main(["notes"], root) == 0
    assert capsys.readouterr().out == "### Fixed\n- Another.\n"


# To raise it


@pytest.mark.parametrize(
    ("part", "expected"),
    [("patch", "0.8.1"), ("minor", "0.9.0"), ("major", "1.0.0"), ("0.8.10", "0.8.10"), ("2.0.0", "2.0.0")],
)
def test_a_bump_raises_it_everywhere(root: Path, part: str, expected: str) -> None:
    """What was unreleased stands below the new number and the day."""
    assert version.bump(root, part, TODAY) == expected

    assert (root / "VERSION").read_text() == f"{expected}\n"
    assert f"  version: {expected}\n  summary: s\n" in (root / "router_lambda" / "openapi.yaml").read_text()
    after = SMALL.replace("## [Unreleased]\n", f"## [Unreleased]\n\n## [{expected}] - 2026-12-24\n")
    assert (root / "CHANGELOG.md").read_text() == after
    assert version.disagreements(root) == []
    assert version.part_of(after, expected) == "### Added\n- A thing."


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("0.8.0", "0.8.0 is not above 0.8.0"),
        ("0.7.9", "0.7.9 is not above 0.8.0"),
        ("v1.0.0", "raise patch, minor, major or to a version such as 1.2.3, and not v1.0.0"),
        ("1.0", "and not 1.0"),
        ("01.0.0", "and not 01.0.0"),
        ("", "and not "),
    ],
)
def test_a_bump_to_nothing_better_changes_nothing(root: Path, part: str, expected: str) -> None:
    """And says what may be asked for."""
    before = texts(root)

    with pytest.raises(version.VersionFault, match=re.escape(expected)):
        version.bump(root, part, TODAY)
    assert texts(root) == before


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("\n### Added\n- A thing.\n", "", "says nothing below [Unreleased]"),
        ("## [Unreleased]\n\n### Added\n- A thing.\n\n", "", "lacks the line ## [Unreleased]"),
        ("[0.8.0]", "[0.7.0]", "set these right before the version rises"),
    ],
)
def test_a_bump_with_nothing_to_say_changes_nothing(root: Path, old: str, new: str, expected: str) -> None:
    """No version without a word for its users, and none on top of a muddle."""
    (root / "CHANGELOG.md").write_text(SMALL.replace(old, new))
    before = texts(root)

    with pytest.raises(version.VersionFault, match=re.escape(expected)):
        version.bump(root, "minor", TODAY)
    assert texts(root) == before


def test_a_missing_file_is_named(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With how to get it back."""
    (root / "VERSION").unlink()

    assert version.main(["check"], root) == 1
    assert "VERSION is not there; take it from git again" in capsys.readouterr().err


def test_it_runs_by_itself(root: Path) -> None:
    """`make bump` uses any Python, without .venv; the day is today's."""
    shutil.copytree(FOLDER, root / ".ci", ignore=shutil.ignore_patterns("node_modules", "__pycache__"))
    command = [sys.executable, "-I", "-S", str(root / ".ci" / "version.py"), "bump", "minor"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout, done.stderr) == (0, "0.9.0\n", "")
    assert re.search(r"^## \[0\.9\.0\] - 20\d\d-\d\d-\d\d$", (root / "CHANGELOG.md").read_text(), re.MULTILINE)
