"""Which Python 3.12 the builder of the Lambda package compiles with; none of these tests needs one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.lambda_world import BUILDER, builder

LIES = "echo 'pyenv: python3.12: command not found' >&2; exit 127"


def program(path: Path, script: str) -> Path:
    """Write an executable shell script."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def python(path: Path, *, is_312: bool) -> Path:
    """Write a program that answers the builder's question as an interpreter would."""
    return program(path, f"echo {is_312} {path}")


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the one folder of the PATH; a shim that runs nothing lies in it."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.delenv("PYTHON312", raising=False)
    program(tmp_path / "bin" / "python3.12", LIES)
    return tmp_path / "bin"


def test_a_python_is_believed_when_it_has_run(path: Path) -> None:
    """The shim named python3.12 is none, the python3 is one."""
    expected = python(path / "python3", is_312=True)

    assert builder().find_python() == expected


def test_the_newest_of_pyenv_is_taken(path: Path, tmp_path: Path) -> None:
    """By number, not by spelling; what pyenv lists of other releases does not count."""
    python(path / "python3", is_312=False)
    roots = tmp_path / "versions"
    for version in ("3.12.9", "3.12.10", "3.13.0"):
        python(roots / version / "bin" / "python3.12", is_312=True)
    list_all = "printf '%s\\n' system 3.12.9 3.12.10 3.13.0"
    program(path / "pyenv", f'if [ "$1" = prefix ]; then echo "{roots}/$2"; else {list_all}; fi')

    assert builder().find_python() == roots / "3.12.10" / "bin" / "python3.12"


def test_the_one_that_is_named_goes_before_all_others(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PYTHON312 is a decision, and a wrong one is refused rather than overruled."""
    python(path / "python3", is_312=True)
    named = python(tmp_path / "named", is_312=True)
    monkeypatch.setenv("PYTHON312", str(named))
    assert builder().find_python() == named

    python(named, is_312=False)
    with pytest.raises(builder().NoPython, match="named, is none"):
        builder().find_python()


def test_without_any_the_builder_says_what_to_do(path: Path, tmp_path: Path) -> None:
    """Exit status 2, and nothing is built."""
    command = [sys.executable, str(BUILDER), "--output", str(tmp_path / "dist")]
    done = subprocess.run(command, env={"PATH": str(path)}, cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 2
    assert done.stdout == ""
    assert "Install it" in done.stderr
    assert "PYTHON312=/path/to/python3.12" in done.stderr
    assert "Traceback" not in done.stderr
    assert not os.path.lexists(tmp_path / "dist")
