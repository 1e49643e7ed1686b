"""The benchmarks of the engine run, once and tiny: that they measure is tested here, what they measure is not."""

from __future__ import annotations

import json
from math import isfinite
from pathlib import Path
from typing import Any

import pytest

from benchmarks import engine, report, settings
from benchmarks.endless_model import endless
from local.tiny_model import write_tiny_model


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of what is started: it would slow it down."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def kept(folder: Path, name: str) -> dict[str, Any]:
    """Read a result."""
    result: dict[str, Any] = json.loads((folder / f"{name}.json").read_text())
    return result


def test_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both sides generate every token that was asked for, and stand beside each other."""
    assert engine.main(["--tiny", "--rounds=1", "--jobs=1,16", "--tokens=8", f"--results={tmp_path}"]) == 0

    result, printed = kept(tmp_path, "engine"), capsys.readouterr().out
    assert [row[0] for row in result["tables"][0]["rows"]] == ["tiny, 1 jobs of 8", "tiny, 16 jobs of 8"]
    for case in result["numbers"].values():
        for side in (case["bare"], case["ours"]):
            assert all(
                isfinite(value) and value > 0 for name in ("tokens_per_second", "first_ms_p50") for value in side[name]
            )
        assert case["ours"].keys() >= {"process_us_per_token", "redis_us_per_token", "s3_us_per_token"}
    assert [goal["what"].partition(",")[0] for goal in result["goals"]] == [
        "tokens a second ÷ vLLM alone",
        "first token in S3 after vLLM alone",
        "first token in S3 after vLLM alone",
    ]
    assert all(goal["what"] in printed for goal in result["goals"])
    assert list(result["charts"][0]["series"]) == ["vLLM alone", "Redis to S3"]


def test_a_model_that_cannot_be_loaded_ends_the_benchmark_with_its_log(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is kept."""
    model = write_tiny_model(tmp_path / "broken")
    (model / "model.safetensors").write_bytes(b"nothing")
    assert engine.main([f"--model={model}", "--jobs=1", f"--results={tmp_path / 'results'}"]) == 1
    assert "vLLM alone did not start. Its log ends with:\n" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


def test_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The worker's settings stand beside vLLM's own."""
    assert settings.main(["--tiny", "--rounds=1", "--jobs=1,2", "--tokens=8", f"--results={tmp_path}"]) == 0

    result = kept(tmp_path, "settings")
    assert [row[0] for row in result["tables"][0]["rows"]] == [settings.DEFAULTS, settings.WORKER]
    (goal,) = result["goals"]
    assert goal["at_least"] == 4
    assert goal["measured"][0] > 0
    assert "a second ÷ vLLM's defaults" in capsys.readouterr().out


def test_a_compiled_engine_is_compared_where_it_is_worth_the_minute() -> None:
    """Not with the tiny model."""
    assert [kind.name for kind in settings.kinds(tiny=False)] == [settings.DEFAULTS, settings.WORKER, settings.COMPILED]


def test_an_endless_model_has_another_end(tmp_path: Path) -> None:
    """The weights are those of the original, which stays as it is."""
    model = write_tiny_model(tmp_path / "model")
    before = (model / "config.json").read_text()
    copy = endless(model, tmp_path / "copies" / "model")
    assert (model / "config.json").read_text() == before
    end = json.loads((copy / "generation_config.json").read_text())["eos_token_id"]
    assert end != json.loads(before)["eos_token_id"]
    assert json.loads((copy / "config.json").read_text())["eos_token_id"] == end
    tokens = {each["id"]: each["content"] for each in json.loads((copy / "tokenizer.json").read_text())["added_tokens"]}
    assert json.loads((copy / "tokenizer_config.json").read_text())["eos_token"] == tokens[end]
    assert (copy / "model.safetensors").samefile(model / "model.safetensors")


def test_a_model_without_a_token_to_spare_is_refused(tmp_path: Path) -> None:
    """It names those that it looked for."""
    model = write_tiny_model(tmp_path / "model")
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    (model / "tokenizer.json").write_text(json.dumps(tokenizer | {"added_tokens": []}))
    with pytest.raises(ValueError, match=r"<repo_name>, .* is a special token of model"):
        endless(model, tmp_path / "copy")


def test_the_rounds_of_a_case_are_compared_one_by_one() -> None:
    """The noise of a round is on both sides of its ratio."""
    case = engine.Case("tiny", 16, 8)
    case.bare = {"tokens_per_second": [100.0, 50.0], "first_ms_p50": [10.0, 20.0]}
    case.ours = {"tokens_per_second": [90.0, 50.0], "first_ms_p50": [13.0, 21.0]}
    assert case.ratios() == [0.9, 1.0]
    assert case.later_ms() == [3.0, 1.0]
    assert not report.Goal("ratio", case.ratios(), at_least=0.98).is_met
    assert report.Goal("later", case.later_ms(), at_most=10).is_met
