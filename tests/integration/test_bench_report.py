"""What a benchmark shows and keeps: its numbers in few digits, its goals, and a file that reads back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import report


def test_percentiles_are_in_order() -> None:
    """Of a hundred and one even samples they are the numbers that their names say."""
    assert report.percentiles(list(range(101))) == {"p50": 50, "p95": 95, "p99": 99}


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0.0, "0"), (0.00123, "0.00123"), (0.0123, "0.012"), (1.234, "1.23"), (12.34, "12.3"), (-1234.5, "-1,234")],
)
def test_a_number_has_three_digits_that_count(value: float, shown: str) -> None:
    """More of them are noise."""
    assert report.number(value) == shown


def test_a_cell_of_rounds_shows_median_and_spread() -> None:
    """One round has no spread, and none has no number."""
    assert [report.cell(each) for each in ([3.0, 1.0, 2.0], (2.0,), [], "x", 7)] == [
        "2.00 (1.00 to 3.00)",
        "2.00",
        "-",
        "x",
        "7",
    ]


def test_a_table_has_straight_columns() -> None:
    """Names to the left, numbers to the right."""
    assert report.table(["name", "n"], [["a", 1.234], ["long name", 10]]).splitlines() == [
        "name          n",
        "---------------",
        "a          1.23",
        "long name    10",
    ]


@pytest.mark.parametrize(
    ("measured", "is_met"), [([1.0, 2.0, 9.0], True), ([1.0, 4.0, 4.0], False), ([0.5, 0.5, 2.0], False)]
)
def test_the_median_decides_about_a_goal(measured: list[float], *, is_met: bool) -> None:
    """A single round that is out of the limits does not count, in whichever direction."""
    goal = report.Goal("any", measured, at_most=3, at_least=1)
    assert goal.is_met is is_met
    assert goal.limit == "≤ 3 and ≥ 1"


def test_a_result_is_printed_and_reads_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The folder is made, and the file holds what the page needs."""
    result = report.Result(
        "any",
        "How fast is any?",
        {"rounds": "2"},
        tables=[report.Table("Cells", ["what", "s"], [["one", [1.0, 3.0]]])],
        charts=[report.Chart("Bars", "s", ["one"], {"a": [[1.0, 3.0]]})],
        goals=[report.Goal("one, s", [1.0, 3.0], at_most=1.5)],
        notes=["a note"],
    )
    file = report.show_and_keep(result, tmp_path / "results")

    printed = capsys.readouterr().out
    assert all(text in printed for text in ("How fast is any?", "2.00 (1.00 to 3.00)", "missed", "(a note)"))
    kept = json.loads(file.read_text("utf-8"))
    assert kept["machine"] == report.machine()
    assert kept["goals"] == [
        {"what": "one, s", "measured": [1.0, 3.0], "at_most": 1.5, "at_least": None, "limit": "≤ 1.5", "is_met": False}
    ]
    assert kept["charts"][0]["series"] == {"a": [[1.0, 3.0]]}
