"""Which model runs, and where the logs go."""

from __future__ import annotations

from pathlib import Path

import pytest

from local import options
from local.options import Options

CONVERTED: list[Path] = []


@pytest.fixture(autouse=True)
def models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stand in for the conversions, which have tests of their own."""
    monkeypatch.delenv("TLFIF_MODEL", raising=False)
    monkeypatch.setattr(options, "default_model", lambda: Path("/models/default.gguf"))
    monkeypatch.setattr(options, "converted", CONVERTED.append)
    CONVERTED.clear()


def model(folder: Path, *, tiny: bool = False) -> str:
    """Return the model of a plan."""
    return Options(tiny=tiny, log_dir=None).plan(folder).model


def test_default_model(tmp_path: Path) -> None:
    """Without a wish it is the bundled chat model."""
    assert model(tmp_path) == "/models/default.gguf"
    assert [Path("/models/default.gguf")] == CONVERTED


def test_tiny_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--tiny` is obeyed even where TLFIF_MODEL is set."""
    monkeypatch.setenv("TLFIF_MODEL", "/cache/other")
    assert (Path(model(tmp_path, tiny=True)) / "config.json").exists()


def test_gguf_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A GGUF file is converted before anything starts; the worker gets its name and finds it in the cache."""
    (tmp_path / "mine.Q4.gguf").touch()
    monkeypatch.setenv("TLFIF_MODEL", str(tmp_path / "mine.Q4.gguf"))
    assert model(tmp_path) == str(tmp_path / "mine.Q4.gguf")
    assert [tmp_path / "mine.Q4.gguf"] == CONVERTED


def test_relative_folder_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The worker runs in another working directory and still finds it."""
    (tmp_path / "mine").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TLFIF_MODEL", "./mine")
    assert model(tmp_path) == str(tmp_path / "mine")


def test_hub_id_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no file is left to vLLM."""
    monkeypatch.setenv("TLFIF_MODEL", "HuggingFaceTB/SmolLM2-135M-Instruct")
    assert model(tmp_path) == "HuggingFaceTB/SmolLM2-135M-Instruct"


def test_log_folder_is_made(tmp_path: Path) -> None:
    """`--log-dir` may name a folder that is not there yet."""
    logs = tmp_path / "a" / "b"
    assert Options(tiny=True, log_dir=logs).plan(tmp_path).logs == logs
    assert logs.is_dir()
