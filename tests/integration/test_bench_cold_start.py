"""The benchmark of a cold start runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import cold_start, report
from local.server import StartFailed


def test_cold_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every phase and the peer that does not compile have their line, and a place in the file that is kept."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would slow all that is started
    assert cold_start.main(["--rounds=1", "--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "cold_start.json").read_text())
    numbers = kept["numbers"]
    assert list(numbers["phases_s"]) == ["instance", "daemon", "imports", "engine", "ready", "first_token", "visible"]
    lines = {line.split("  ")[0] for line in printed.splitlines()}
    assert lines >= {*numbers["phases_s"], "total", cold_start.OURS, cold_start.EAGER}
    (ours,), (peer,) = (numbers["to_first_token_s"][name] for name in (cold_start.OURS, cold_start.EAGER))
    assert ours == pytest.approx(sum(seconds for (seconds,) in numbers["phases_s"].values()))
    assert numbers["ratios"] == {cold_start.EAGER: [pytest.approx(ours / peer)]}
    assert [chart["x"] for chart in kept["charts"]] == [
        [cold_start.OURS, cold_start.EAGER],
        list(numbers["phases_s"]),
    ]
    assert kept["goals"] == []
    assert "(vllm serve is left out: it would compile" in printed
    assert kept["machine"] == report.machine()


def test_a_peer_that_does_not_start_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log is shown, a note says that it is missing, and the other numbers are there all the same."""
    command = tmp_path / "vllm"
    command.write_text("#!/bin/sh\necho this is no machine for it\nexit 3\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartFailed, match="this is no machine for it"):
        cold_start._serve(tmp_path, "some/model", {}, [])

    phases = dict.fromkeys(cold_start.PHASES, 1.0)
    found = cold_start._result([phases], {cold_start.SERVE: [], cold_start.EAGER: [14.0]}, {})
    assert found.numbers["to_first_token_s"] == {cold_start.OURS: [7.0], cold_start.EAGER: [14.0]}
    assert found.numbers["ratios"] == {cold_start.EAGER: [0.5]}
    assert found.notes == ["vllm serve is left out: it did not start; what it said is above"]
    assert found.goals == []


def test_the_goal_is_a_share_of_the_peer_that_compiles() -> None:
    """Each round is held against the peer's start in the same round."""
    phases = [dict.fromkeys(cold_start.PHASES, seconds) for seconds in (1.0, 2.0)]
    (goal,) = cold_start._result(phases, {cold_start.SERVE: [70.0, 28.0]}, {}).goals
    assert goal.measured == [0.1, 0.5]
    assert goal.is_met
