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

SCRIPTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in ROOT.rglob("*.sh")
    if not any(part.startswith(".") for part in path.relative_to(ROOT).parts) and "build" not in path.parts
)


def verdict(path: Path) -> str:
    """Return what shellcheck says about a script."""
    done = subprocess.run([SHELLCHECK, path], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode in {0, 1}
    return done.stdout


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_sound(script: str) -> None:
    """With what it sources."""
    assert verdict(ROOT / script) == ""


def test_a_fault_is_found(tmp_path: Path) -> None:
    """The check can fail."""
    path = tmp_path / "bad.sh"
    path.write_text("#!/usr/bin/env bash\nrm -r $1\n")

    assert "SC2086" in verdict(path)


@pytest.mark.parametrize("script", sorted(set(SCRIPTS) - SOURCED))
def test_a_script_stops_at_the_first_failure(script: str) -> None:
    """Of a command, of a part of a pipe, of a variable's name."""
    text = (ROOT / script).read_text(encoding="utf-8")

    assert text.startswith("#!/usr/bin/env bash\n")
    assert "\nset -euo pipefail\n" in text
    assert (ROOT / script).stat().st_mode & 0o111
