"""The scripts of .ci as modules, for tests; they import each other by their bare names, as when they are run."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from tests.infra.terraform_world import REPOSITORY

FOLDER = REPOSITORY / ".ci"


def load(name: str) -> Any:
    """Return a script as a module; no bytecode of it is left in .ci."""
    written = sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.insert(0, str(FOLDER))
    try:
        module = importlib.import_module(name)
    finally:
        sys.path.remove(str(FOLDER))
        sys.dont_write_bytecode = written
    assert module.__file__ == str(FOLDER / f"{name}.py")
    return module
