"""The page of the benchmarks: made of what they have kept and nothing else; the one in the repository is up to date."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import __main__ as all_of_them
from benchmarks import drawing, page, report

MAKE_IT = "it is not what benchmarks/results say; run: .venv/bin/python -m benchmarks.page"


def keep(folder: Path, name: str, **changed: Any) -> None:
    """Keep a result with one of everything, but for what is changed."""
    fields: dict[str, Any] = {
        "question": "How fast is a|b?",
        "versions": {"python": "3.11.7"},
        "tables": [report.Table("Cells", ["what", "s"], [["one", [1.0, 3.0]], ["two", 7]])],
        "charts": [report.Chart("Bars", "s", ["one", "two"], {"ours": [[1.0, 3.0], [2.0]], "theirs": [[4.0], []]})],
        "goals": [report.Goal("one, s", [1.0, 3.0], at_most=1.5)],
        "notes": ["a note"],
    }
    report.show_and_keep(report.Result(name=name, **fields | changed), folder)


def test_the_page_in_the_repository_is_up_to_date() -> None:
    """Whoever runs a benchmark makes the page, too."""
    assert page.README.read_text("utf-8") == page.render(), MAKE_IT


def test_the_charts_in_the_repository_are_those_of_the_page() -> None:
    """Each is there and shown, and none is left of a benchmark that is gone."""
    files = {file for kept in page.read(report.RESULTS) for file, _ in kept.charts}
    assert {str(file.relative_to(report.RESULTS)) for file in report.RESULTS.rglob("*.svg")} == files, MAKE_IT
    assert all(f"(results/{file})" in page.README.read_text("utf-8") for file in files)


def test_a_section_holds_all_of_a_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Question, machine, versions, tables, charts, notes, and what was found by hand."""
    findings = tmp_path / "findings"
    findings.mkdir()
    (findings / "queue.md").write_text("The profile says so.\n")
    monkeypatch.setattr(page, "FINDINGS", findings)
    keep(tmp_path, "queue")
    text = page.render(tmp_path, tmp_path / "README.md")

    assert "## Queue\n\nHow fast is a\\|b?\n" in text
    assert report.machine_in_words() in text
    assert "python 3.11.7" in text
    assert "**Cells**\n\n| what | s |\n| --- | --: |\n| one | 2.00 (1.00 to 3.00) |\n| two | 7 |\n" in text
    assert "![Bars, s: one, two.](./queue_1.svg)" in text
    assert "- a note\n" in text
    assert text.endswith("\nThe profile says so.\n")


def test_the_summary_says_which_goals_are_missed(tmp_path: Path) -> None:
    """With a way to the section of each, also where its name is of two words."""
    keep(tmp_path, "cold_start")
    text = page.render(tmp_path, tmp_path / "README.md")
    assert "| [Cold start](#cold-start) | one, s | 2.00 (1.00 to 3.00) | ≤ 1.5 | **missed** |\n" in text


def test_the_order_is_that_of_the_page(tmp_path: Path) -> None:
    """What the page does not know comes last, and after it what was measured elsewhere."""
    for name in ("another", "router", "engine"):
        keep(tmp_path, name)
    keep(tmp_path / "gpu" / "tesla-t4", "engine")
    titles = [kept.title for kept in page.read(tmp_path)]
    assert titles == ["Engine", "Router", "Another", "Engine on tesla-t4"]


def test_what_was_measured_on_a_gpu_says_on_which(tmp_path: Path) -> None:
    """Its charts lie beside its numbers, and the summary leads to it."""
    keep(tmp_path / "gpu" / "tesla-t4", "engine")
    (tmp_path / "gpu" / "tesla-t4" / "gpu.txt").write_text("Tesla T4, 580.95.05\n")
    page.write(tmp_path, tmp_path / "README.md")

    text = (tmp_path / "README.md").read_text("utf-8")
    assert f"{report.machine_in_words()}, Tesla T4, 580.95.05; " in text
    assert "(./gpu/tesla-t4/engine_1.svg)" in text
    assert (tmp_path / "gpu" / "tesla-t4" / "engine_1.svg").exists()
    assert "[Engine on tesla-t4](#engine-on-tesla-t4)" in text


def test_a_file_of_another_shape_says_what_to_do(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The page is not half made of it."""
    (tmp_path / "queue.json").write_text(json.dumps({"name": "queue", "numbers": {}}))
    assert page.main([f"--results={tmp_path}", f"--readme={tmp_path / 'README.md'}"]) == 1
    assert "run: make bench ONLY=queue" in capsys.readouterr().err
    assert not (tmp_path / "README.md").exists()


def test_writing_draws_each_chart_and_drops_old_ones(tmp_path: Path) -> None:
    """The same numbers give the same files, so that a change in them is one in the numbers."""
    keep(tmp_path, "queue")
    (tmp_path / "gone_1.svg").write_text("")
    readme = tmp_path / "README.md"
    assert page.main([f"--results={tmp_path}", f"--readme={readme}"]) == 0
    first = (tmp_path / "queue_1.svg").read_bytes()
    assert [file.name for file in tmp_path.glob("*.svg")] == ["queue_1.svg"]

    page.write(tmp_path, readme)
    assert (tmp_path / "queue_1.svg").read_bytes() == first
    assert b"<dc:date>" not in first
    assert b"fill: #ffffff" in first  # on a dark page it would be black on black


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize(
    ("x", "series"),
    [
        (["one", "two"], {"": [[1.0], [2.0]]}),
        (["one"], {"a": [[0.0, 0.0]], "b": [[5.0]]}),
        (["one"], {"a": [[]]}),
        (["a name that is too long for a single line", "two"], {str(n): [[1.0], [1e6]] for n in range(9)}),
    ],
)
def test_odd_charts_are_drawn(tmp_path: Path, x: list[str], series: dict[str, list[list[float]]], *, log: bool) -> None:
    """Zeros, nothing at all, long names, and more series than colours."""
    drawing.draw({"title": "any", "unit": "s", "x": x, "series": series, "log": log}, tmp_path / "any.svg")
    assert (tmp_path / "any.svg").stat().st_size > 1_000


def names(bars: Iterable[drawing.Bar]) -> list[tuple[str, float]]:
    """Return series and place of each bar."""
    return [(bar.series, bar.place) for bar in bars]


def test_bars_stand_in_groups() -> None:
    """A place without measures takes no room, and a name stands beside the middle of its bars."""
    groups, bars = drawing.laid_out(["x", "y"], {"a": [[1.0], [1.0]], "b": [[1.0], []]})
    after = 2 + drawing.GAP
    assert names(bars) == [("a", 0.0), ("b", 1.0), ("a", after)]
    assert groups == [drawing.Group("x", 0.5), drawing.Group("y", after)]


def test_a_single_group_is_named_by_its_series() -> None:
    """So that no legend is needed."""
    groups, bars = drawing.laid_out(["x"], {"a": [[1.0]], "b": [[2.0]]})
    assert names(bars) == [("a", 0.0), ("b", 1.0)]
    assert [group.name for group in groups] == ["a", "b"]


def test_one_that_fails_does_not_stop_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The page is made all the same, and the end says which it was."""
    keep(tmp_path, "router")
    ran: list[tuple[str, list[str]]] = []

    def runs(name: str, flags: list[str]) -> bool:
        ran.append((name, flags))
        return name != "cold_start"

    monkeypatch.setattr(all_of_them, "_runs", runs)
    assert all_of_them.main(["cold_start", "router", "--tiny", f"--results={tmp_path}"]) == 1

    flags = [f"--results={tmp_path}", "--tiny"]
    assert ran == [("cold_start", flags), ("router", flags)]
    assert "failed: cold_start\n" in capsys.readouterr().err
    assert "## Router" in (tmp_path / "README.md").read_text()


def test_a_benchmark_that_fails_is_noticed(capfd: pytest.CaptureFixture[str]) -> None:
    """Each runs in a process of its own."""
    assert all_of_them._runs("report", [])  # does nothing, and well
    assert not all_of_them._runs("that_is_not_there", [])
    assert "failed with 1" in capfd.readouterr().out


@pytest.mark.parametrize("arguments", [["no-such"], ["router", "--tiny"]])
def test_what_makes_no_sense_is_refused(arguments: list[str]) -> None:
    """Unknown names, and tiny numbers among the real ones."""
    with pytest.raises(SystemExit):
        all_of_them.main(arguments)
