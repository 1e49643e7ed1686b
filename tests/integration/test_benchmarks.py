"""Every benchmark runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report, router
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
