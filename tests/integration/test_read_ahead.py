"""The weights are read while the worker goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from worker import gpu


def test_somebody_else_reads_the_weights_to_their_end(tmp_path: Path) -> None:
    """One file after the other, whatever they are called, and nobody waits for it."""
    names = [tmp_path / name for name in ("model 1.safetensors", "model-2.safetensors")]
    for name in names:
        os.mkfifo(name)
    began = time.monotonic()
    gpu.read_ahead(tmp_path)
    assert time.monotonic() - began < 5  # these would keep whoever reads them waiting for ever
    for name in names:
        with name.open("wb") as pipe:  # waits for a reader
            pipe.write(bytes(100_000))  # more than a pipe holds
