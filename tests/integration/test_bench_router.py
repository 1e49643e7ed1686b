"""The benchmark of the router runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report, router
from tests.integration.lambda_world import runtime


def test_router(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every route has its line, a floor beside it, and a place in the file that is kept."""
    runtime()  # or skip
    assert router.main(["--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "router.json").read_text())
    warm = kept["numbers"]["warm_ms"]
    routes = {"POST /infer", "POST /stop", "GET /queue-health", "GET /ping"}
    assert warm.keys() == routes | {"GET /ping by awslambdaric", "POST /infer by awslambdaric"}
    assert all(name in printed for name in warm)
    assert all(len(each["handler"]["p50"]) == 1 and each["handler"]["p50"][0] > 0 for each in warm.values())
    assert [name for name, each in warm.items() if each["floor"]["p50"] == []] == ["GET /ping"]
    assert kept["numbers"]["cold_import_cpu_ms"].keys() == {"redis-py", "the handler"}
    assert [len(table["rows"]) for table in kept["tables"]] == [len(warm), 2]
    assert kept["charts"][0]["x"] == list(warm)
    assert [goal["limit"] for goal in kept["goals"]] == ["≤ 60", "≤ 60"]
    assert kept["machine"] == report.machine()


def test_without_lambdas_python_it_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It measures the package that is deployed, and that takes Python 3.12."""
    monkeypatch.setenv("PYTHON312", "/bin/false")
    assert router.main([]) == 2
    assert "PYTHON312" in capsys.readouterr().err


def test_percentiles_are_those_of_each_round() -> None:
    """Calls of one round do not reach into the next; of no calls there are no percentiles."""
    assert router._percentiles_ms([0.001, 0.001, 0.002, 0.002], rounds=2)["p95"] == [1.0, 2.0]
    assert router._percentiles_ms([], rounds=2) == {"p50": [], "p95": [], "p99": []}
