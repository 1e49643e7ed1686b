"""The check that a change which users can notice raises the version."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from tests.infra.ci_scripts import load
from tests.infra.version_world import small_project

version = load("version")
TODAY = date(2026, 12, 24)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Return a project of version 0.8.0 with something unreleased."""
    return small_project(tmp_path)


@pytest.mark.parametrize(
    "name", ["worker/queue.py", "router_lambda/openapi.yaml", "terraform/main.tf", "ami/pins.env", "requirements.lock"]
)
def test_a_change_that_is_noticed(name: str) -> None:
    """By users or by whoever runs the system."""
    assert version.noticed([name]) == [name]


@pytest.mark.parametrize(
    "name",
    [
        *("docs/deploy.md", "tests/unit/test_job.py", "terraform/README.md", "terraform/image/tests/image.tftest.hcl"),
        *(".github/workflows/ci.yml", ".ci/lint", "Makefile", "benchmarks/router.py", "CHANGELOG.md"),
    ],
)
def test_a_change_that_is_not(name: str) -> None:
    """Words, tests and what builds."""
    assert version.noticed([name]) == []


Commit = Callable[[dict[str, str]], None]


@pytest.fixture
def commit(root: Path) -> Commit:
    """Return what writes files and commits them; the first commit has the whole project, and a branch `base`."""

    def git(*words: str) -> None:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]
        subprocess.run(["git", *who, *words], cwd=root, check=True, capture_output=True)  # noqa: S607

    def write(files: dict[str, str]) -> None:
        for name, text in files.items():
            (root / name).parent.mkdir(exist_ok=True)
            (root / name).write_text(text)
        git("add", "--all")
        git("commit", "--message", "any")

    git("init", "--initial-branch", "work")
    write({"worker/a.py": "1"})
    git("branch", "base")
    return write


def test_nothing_changed(root: Path, commit: Commit) -> None:
    """So nothing has to rise."""
    assert version.main(["check", "--base", "base"], root) == 0


def test_a_test_changed(root: Path, commit: Commit) -> None:
    """Nobody notices."""
    commit({"tests/a.py": "2", "docs/a.md": "2"})
    assert version.lacking(root, "base") is None


def test_code_changed_and_the_version_did_not(root: Path, commit: Commit, capsys: pytest.CaptureFixture[str]) -> None:
    """It says which code and what to run, also when it is not committed yet."""
    commit({"worker/a.py": "2"})
    (root / "worker" / "a.py").write_text("3")
    (root / "router_lambda" / "openapi.yaml").write_text("info:\n  version: 0.8.0\n")

    assert version.main(["check", "--base", "base"], root) == 1
    said = capsys.readouterr().err
    assert "VERSION is still 0.8.0 as in base, but router_lambda/openapi.yaml and 1 more changed" in said
    assert "run: make bump PART=patch" in said


def test_code_changed_and_so_did_the_version(root: Path, commit: Commit) -> None:
    """As it should."""
    commit({"worker/a.py": "2"})
    version.bump(root, "patch", TODAY)

    assert version.main(["check", "--base", "base"], root) == 0


def test_a_version_never_falls(root: Path, commit: Commit) -> None:
    """Also where nothing else changed, as on a branch that lags behind."""
    commit({"VERSION": "0.7.9\n"})

    assert "versions only rise. Merge base first" in str(version.lacking(root, "base"))


def test_what_others_changed_is_theirs(root: Path, commit: Commit) -> None:
    """A branch is compared with where it began."""

    def git(*words: str) -> None:
        subprocess.run(["git", *words], cwd=root, check=True, capture_output=True)  # noqa: S607

    commit({"docs/a.md": "2"})
    git("branch", "mine")
    git("checkout", "base")
    commit({"worker/b.py": "2"})
    git("checkout", "mine")

    assert version.lacking(root, "base") is None


def test_a_base_that_git_does_not_know(root: Path, commit: Commit, capsys: pytest.CaptureFixture[str]) -> None:
    """As in a shallow clone."""
    assert version.main(["check", "--base", "origin/main"], root) == 1
    assert "fetch the whole history" in capsys.readouterr().err
