"""Every benchmark runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from benchmarks import cold_start, report, router
from local.server import StartFailed
from tests.integration.lambda_world import runtime


def test_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every route has its line, a floor beside it, and a place in the file that is kept."""
    runtime()  # or skip
    assert router.main(["--calls=5", "--rounds=1", "--starts=1", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "router.json").read_text())
    routes = {"POST /infer", "POST /stop", "GET /queue-health", "GET /ping"}
    assert kept["warm"].keys() == routes | {"GET /ping by awslambdaric", "POST /infer by awslambdaric"}
    assert all(name in printed for name in kept["warm"])
    assert all(each["handler_ms"]["p50"] > 0 for each in kept["warm"].values())
    assert [name for name, each in kept["warm"].items() if each["floor_ms"] is None] == ["GET /ping"]
    assert kept["cold_import_cpu_ms"].keys() == {"redis-py", "the handler"}
    assert kept["machine"] == report.machine()


def test_without_lambdas_python_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It measures the package that is deployed, and that takes Python 3.12."""
    monkeypatch.setenv("PYTHON312", "/bin/false")
    assert router.main([]) == 2
    assert "PYTHON312" in capsys.readouterr().err


def test_cold_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every phase and the peer that does not compile have their line, and a place in the file that is kept."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would slow all that is started
    assert cold_start.main(["--rounds=1", "--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "cold_start.json").read_text())
    assert list(kept["phases_s"]) == ["instance", "daemon", "imports", "engine", "ready", "first_token", "visible"]
    lines = {line.split("  ")[0] for line in printed.splitlines()}
    assert lines >= {*kept["phases_s"], "total", cold_start.OURS, cold_start.EAGER}
    (ours,), (peer,) = kept["to_first_token_s"][cold_start.OURS], kept["to_first_token_s"][cold_start.EAGER]
    assert ours == pytest.approx(sum(seconds for (seconds,) in kept["phases_s"].values()))
    assert kept["ratios"] == {cold_start.EAGER: [pytest.approx(ours / peer)]}
    assert "(vllm serve is left out: it would compile" in printed
    assert kept["machine"] == report.machine()


def test_a_peer_that_does_not_start_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its log is shown, the table says that it is missing, and the other numbers are there all the same."""
    command = tmp_path / "vllm"
    command.write_text("#!/bin/sh\necho this is no machine for it\nexit 3\n")
    command.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(StartFailed, match="this is no machine for it"):
        cold_start._serve(tmp_path, "some/model", {}, [])

    kept = cold_start._show([dict.fromkeys(cold_start.PHASES, 1.0)], {"vllm serve": [], cold_start.EAGER: [14.0]})
    assert kept["to_first_token_s"] == {cold_start.OURS: [7.0], cold_start.EAGER: [14.0]}
    assert kept["ratios"] == {cold_start.EAGER: [0.5]}
    assert "(vllm serve is left out: it did not start; what it said is above)" in capsys.readouterr().out


def test_percentiles_are_in_order() -> None:
    """Of a hundred and one even samples they are the numbers that their names say."""
    assert report.percentiles(list(range(101))) == {"p50": 50, "p95": 95, "p99": 99}


def test_a_table_has_straight_columns() -> None:
    """Names to the left, numbers to the right, with two digits where they are not whole."""
    assert report.table(["name", "n"], [["a", 1.234], ["long name", 10]]).splitlines() == [
        "name          n",
        "---------------",
        "a          1.23",
        "long name    10",
    ]
