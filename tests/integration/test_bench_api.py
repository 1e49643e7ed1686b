"""The benchmark of the OpenAI API runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import api
from benchmarks.cold_start import EAGER


def test_api(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Ours and the floor are asked in turns, and what was found is kept."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would slow all that is started
    assert api.main(["--rounds=2", "--tiny", f"--results={tmp_path}"]) == 0

    kept = json.loads((tmp_path / "api.json").read_text())
    measures = kept["numbers"]["measures"]
    assert {name: len(cases["1"]["first_ms"]) for name, cases in measures.items()} == {api.OURS: 2, api.FLOOR: 2}
    ours, floor = (measures[name]["1"]["tokens_per_second"] for name in (api.OURS, api.FLOOR))
    assert kept["numbers"]["ratios"][api.FLOOR]["1"] == [pytest.approx(a / b) for a, b in zip(ours, floor, strict=True)]
    assert min(*ours, *floor) > 0
    assert f"{api.FLOOR}, 1 at once" in capsys.readouterr().out


def test_the_peer_stands_beside_the_floor() -> None:
    """Each round is held against the other's in the same round; the goals are about the floor alone."""
    case = {"tokens_per_second": [100.0, 50.0], "first_ms": [10.0, 20.0]}
    half = {"tokens_per_second": [50.0, 50.0], "first_ms": [20.0, 20.0]}
    found = api._result({api.OURS: {1: case}, api.FLOOR: {1: half}, EAGER: {1: case}}, {})

    assert found.numbers["ratios"] == {api.FLOOR: {"1": [2.0, 1.0]}, EAGER: {"1": [1.0, 1.0]}}
    assert [(goal.what, goal.measured, goal.is_met) for goal in found.goals] == [
        (f"tokens/s ÷ {api.FLOOR}, 1 at once", [2.0, 1.0], True),
        (f"first text ÷ {api.FLOOR}, 1 at once", [0.5, 1.0], True),
    ]
