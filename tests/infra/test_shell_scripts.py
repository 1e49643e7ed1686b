"""Every shell script of the repository is sound: by shellcheck, and it stops at the first failure."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SOURCED = {"ami/provision/lib.sh"}
"""Run by nobody: whoever sources them has said how to fail."""

GOES_ON = {".ci/lint"}
"""Does not stop at a failure: it reports them all. test_lint.py is about it."""


def scripts() -> list[str]:
    """List them: by suffix, and the programs of .ci and .github by their first line."""
    named = [path for path in ROOT.rglob("*.sh") if path.relative_to(ROOT).parts[0] != "build"]
    hidden = [path for pattern in (".ci/*", ".ci/npm/*", ".github/*") for path in ROOT.glob(pattern) if path.is_file()]
    programs = [path for path in hidden if path.read_bytes().startswith(b"#!/usr/bin/env bash\n")]
    theirs = (".venv", ".venv-tools", "node_modules")
    listed = {path.relative_to(ROOT) for path in (*named, *programs)}
    return sorted(path.as_posix() for path in listed if not set(theirs) & set(path.parts))


SCRIPTS = scripts()


def verdict(path: Path) -> str:
    """Return what shellcheck says about a script."""
    done = subprocess.run([SHELLCHECK, path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode in {0, 1}
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_sound(script: str) -> None:
    """With what it sources."""
    assert verdict(ROOT / script) == ""


def test_every_script_is_read() -> None:
    """Hidden ones too."""
    assert {".ci/lint", ".ci/run", ".ci/setup", ".ci/npm/install", ".github/release.sh", "ami/session.sh"} <= set(
        SCRIPTS
    )


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The check can fail."""
    path = tmp_path / "bad.sh"
    path.write_text("#!/usr/bin/env bash\nrm -r $1\n")

    assert "SC2086" in verdict(path)


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - SOURCED - GOES_ON))
def test_a_script_stops_at_the_first_failure(script: str) -> None:
    """Of a command, of a part of a pipe, of a variable's name."""
    text = (ROOT / script).read_text(encoding="utf-8")

    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert (ROOT / script).stat().st_mode & 0o111
