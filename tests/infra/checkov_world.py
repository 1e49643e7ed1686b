"""checkov for tests: in an environment of its own, made once, because its pins clash with ours."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from tests.infra.terraform_world import FOLDER, REPOSITORY

LOCK: Final = REPOSITORY / ".ci" / "checkov.txt"
CONFIGURATION: Final = FOLDER / "checkov.yaml"
_CACHE: Final = REPOSITORY / "build" / "checkov"


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


@cache
def program() -> Path:
    """Return checkov's path; install it first where the locked versions are not there.

    Raises:
        RuntimeError: pip failed; the message is pip's.
    """
    folder = _CACHE / hashlib.sha256(LOCK.read_bytes() + sys.version.encode()).hexdigest()[:16]
    mark = folder / "ready"  # a folder without it was left in the middle
    if not mark.exists():
        pip = ["pip", "--python", str(folder), "install", "--quiet", "--no-input", "--no-deps", "--require-hashes"]
        for command in (["venv", "--clear", str(folder)], [*pip, "-r", str(LOCK)]):
            done = _run(sys.executable, "-m", *command)
            if done.returncode:
                raise RuntimeError(f"checkov could not be installed; pip said:\n{done.stderr.strip()}")
        mark.touch()
    return folder / "bin" / "checkov"


def failures(plan: Mapping[str, Any], *options: str) -> dict[str, set[str]]:
    """Return what checkov finds in a plan: check to addresses."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(plan, file)
        file.flush()
        command = ["--framework", "terraform_plan", "--skip-download", "--quiet", "--compact", "--output", "json"]
        done = _run(str(program()), "-f", file.name, *command, *options)
    report = json.loads(done.stdout)
    found: dict[str, set[str]] = {}
    for each in report.get("results", {}).get("failed_checks", []):
        found.setdefault(each["check_id"], set()).add(each["resource"])
    return found
