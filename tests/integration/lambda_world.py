"""Lambda's Python, its runtime and the builder of the package, for tests that run functions for real."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from local.lambda_runtime import Runtime, install_runtime

REPOSITORY = Path(__file__).parents[2]
BUILDER = REPOSITORY / ".ci" / "lambda_package.py"


@cache
def builder() -> Any:
    """Return the script that builds the package, as a module."""
    spec = importlib.util.spec_from_file_location("lambda_package", BUILDER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def runtime() -> Runtime:
    """Return what Lambda provides; skip where this machine has no Python 3.12."""
    try:
        python = builder().find_python()
    except builder().NoPython as missing:
        pytest.skip(str(missing))
    return install_runtime(python, REPOSITORY / "requirements.lock", REPOSITORY / "build" / "lambda-runtime")


def build(sources: Path, **environment: str) -> str:
    """Build the packages of a copy from inside it, into its `dist`, and return what was printed."""
    command = [sys.executable, str(BUILDER.relative_to(REPOSITORY))]
    return subprocess.run(
        command,
        cwd=sources,
        env=os.environ | {"SOURCE_DATE_EPOCH": ""} | environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
