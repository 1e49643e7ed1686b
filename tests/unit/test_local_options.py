"""Which model runs, where the logs go, and how long the instance takes."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from local import options
from local.hypervisor import Delays
from local.options import BOOT_SECONDS, STOP_SECONDS, Options

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


def read(*words: str) -> Options:
    """Return what a command line asks for."""
    parser = argparse.ArgumentParser()
    Options.add_to(parser)
    return Options(**vars(parser.parse_args(words)))


def test_the_instance_takes_its_time(tmp_path: Path) -> None:
    """It runs from the beginning unless it is to sleep; how long it takes to start and stop can be chosen."""
    plan = read("--tiny").plan(tmp_path)
    assert (plan.asleep, plan.delays) == (False, Delays(BOOT_SECONDS, STOP_SECONDS))
    plan = read("--tiny", "--asleep", "--boot-seconds", "0", "--stop-seconds=7.5").plan(tmp_path)
    assert (plan.asleep, plan.delays) == (True, Delays(0.0, 7.5))


@pytest.mark.parametrize("text", ["-1", "601", "nan", "soon", ""])
def test_what_is_no_time_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The message says what is wanted."""
    with pytest.raises(SystemExit, match="2"):
        read(f"--boot-seconds={text}")
    assert f"argument --boot-seconds: {text!r} is no time; give seconds from 0 to 600" in capsys.readouterr().err
