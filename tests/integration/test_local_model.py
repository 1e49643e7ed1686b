"""The real conversion of a GGUF file, and what becomes of it when things go wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from local.model import default_model
from tests.process.local_world import REPOSITORY, wait_until
from worker.errors import SettingsError
from worker.gguf import converted


def test_default_model_is_complete() -> None:
    """It has float16 weights that claim no quantisation, the tokenizer and the chat template."""
    folder = converted(default_model())
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float16")
    assert "quantization_config" not in config
    assert {"model.safetensors", "tokenizer.json", "chat_template.jinja"} <= {file.name for file in folder.iterdir()}


def test_broken_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """What is no GGUF is refused by name, with the reader's own words, and leaves nothing to be used."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(1_000))
    with pytest.raises(SettingsError, match=r"broken\.gguf cannot be converted to safetensors: \w+"):
        converted(broken)
    assert "the conversion ended with exit code 1" in caplog.text
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_dir() and file.name.startswith("broken")]


def test_conversion_ends_with_whoever_asked(tmp_path: Path) -> None:
    """Killed with -9 in the middle, the process that asked takes the converting one along."""
    asks = "from local.model import default_model; from worker.gguf import converted; converted(default_model())"
    environment = os.environ | {"XDG_CACHE_HOME": str(tmp_path)}
    with subprocess.Popen([sys.executable, "-c", asks], cwd=REPOSITORY, env=environment) as asking:
        tree = psutil.Process(asking.pid)
        wait_until(tree.children, "the conversion runs")
        (conversion,) = tree.children()
        asking.kill()
    wait_until(lambda: not conversion.is_running(), "the conversion has ended")
