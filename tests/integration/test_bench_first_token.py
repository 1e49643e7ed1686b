"""The benchmark of the first token runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from benchmarks import first_token, report
from benchmarks.first_token_looks import PHASES, Case, Look, Seen, Waiting, look_seconds, replayed, waited
from local.server import StartFailed

REPLY = Seen(
    posted=100.0,
    answered=100.010,
    queued=100.005,
    taken=100.006,
    said=100.056,
    stored=100.060,
    visible=100.074,
    looks=[Look(100.010, 0.002, found=False), Look(100.072, 0.002, found=True), Look(100.124, 0.002, found=False)],
)
"""A reply that was stored 50 ms after the answer, and found by the second look."""


def test_first_token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every phase, every number of clients and every way of waiting has its row, and what was seen is kept."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would slow all that is started
    assert first_token.main(["--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "first_token.json").read_text())
    assert [len(table["rows"]) for table in kept["tables"]] == [2, 5, 2, 2, len(first_token.WAITINGS)]
    assert all(table["title"] in printed for table in kept["tables"])
    assert [row[0] for row in kept["tables"][1]["rows"]] == list(PHASES)
    assert [chart["x"] for chart in kept["charts"]] == [["1 client", "2 clients"], list(PHASES)]
    assert [goal["limit"] for goal in kept["goals"]] == ["≤ 60", "≤ 25"]
    for name, replies in (("1 client", 2), ("2 clients", 4)):
        (of_round,) = kept["numbers"][name]["replies"]
        assert len(of_round) == replies
        for seen in of_round:
            moments = [seen[moment] for moment in ("posted", "queued", "taken", "said", "stored")]
            assert moments == sorted(moments)
            assert seen["posted"] < seen["answered"] < seen["visible"]
            assert seen["said"] < seen["visible"]
            assert any(look["found"] for look in seen["looks"])
        assert all(math.isfinite(ms) and ms > 0 for ms in kept["numbers"][name]["floor_ms"][0])
    assert kept["machine"] == report.machine()


def test_a_system_that_does_not_start_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends with 1 and the last words of the log."""

    def fails(*_: object, **__: object) -> None:
        raise StartFailed("no such model")

    monkeypatch.setattr(first_token, "running", fails)
    assert first_token.main(["--tiny", f"--results={tmp_path}"]) == 1
    assert "no such model" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_phases_make_up_the_whole_wait() -> None:
    """Each moment ends one phase and begins the next."""
    assert REPLY.phases_ms == pytest.approx({"router": 5, "queue": 1, "engine": 50, "S3": 4, "look": 14})
    assert sum(REPLY.phases_ms.values()) == pytest.approx(REPLY.visible_ms)
    assert REPLY.looks_until_visible == 2


def test_a_case_compares_round_by_round() -> None:
    """The median wait of a round by the median of the floor in the same round; a wave has one reply of each client."""
    case = Case(1, replies=[[REPLY], [REPLY, REPLY]], floor_ms=[[37.0], [74.0, 74.0]])
    assert case.ratios() == pytest.approx([2, 1])
    assert len(case.all()) == 3
    assert (case.name, case.waves) == ("1 client", 32)
    assert (Case(16).name, Case(16).waves, Case(50).waves) == ("16 clients", 2, 1)


@pytest.mark.parametrize(
    ("waiting", "visible_ms", "looks"),
    [
        (Waiting(0.05, 1.25), 10 + 52 + 2, 2),  # what the client does
        (Waiting(0.02, 1.25), 10 + 2 + 20 + 2 + 25 + 2, 3),
        (Waiting(0.1, 1.25), 10 + 102 + 2, 2),
    ],
)
def test_another_way_of_waiting_is_worked_out(waiting: Waiting, visible_ms: float, looks: int) -> None:
    """Looks and intervals follow each other from the answer on, until one finds what was stored at 50 ms."""
    in_vain, found = look_seconds([REPLY])
    ms, count = waited(REPLY, waiting, in_vain, found)
    assert ms == pytest.approx(visible_ms)
    assert count == looks
    assert replayed([REPLY], waiting) == {
        "visible_ms": pytest.approx(visible_ms),
        "late_ms": pytest.approx(visible_ms - 60),
        "looks": looks,
    }


def test_intervals_are_told_in_words() -> None:
    """As the tables show them."""
    assert str(Waiting(0.05, 1.25)) == "50 ms, +25%"
