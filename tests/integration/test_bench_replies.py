"""The benchmark of the replies runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import math
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks import replies, report
from benchmarks.replies_paced import SHAPES, Cost, Shape, cost
from worker.pacing import MIN_INTERVAL_SECONDS
from worker.store import PART_BYTES


def numbers(value: Any) -> Iterator[float]:
    """Yield every number below a value of a JSON document."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from numbers(each)
    elif isinstance(value, int | float):
        yield value


def test_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every table has its rows, every goal its measure, and all of it is in the file that is kept."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)  # it would slow all that is started
    assert replies.main(["--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "replies.json").read_text())
    assert [len(table["rows"]) for table in kept["tables"]] == [2, 2, 2, 2, 2]
    assert all(table["title"] in printed for table in kept["tables"])
    assert [len(chart["x"]) for chart in kept["charts"]] == [2, 3]
    assert len(kept["goals"]) == 5
    assert all(math.isfinite(number) for number in numbers(kept["numbers"]))
    assert all(number > 0 for number in numbers([kept["numbers"]["puts"], kept["numbers"]["freeze_us"]]))
    streams = kept["numbers"]["streams"]
    # Four replies, each with a first snapshot and a final document.
    assert all(each["puts"] >= 8 and each["seconds"] > 0.5 for side in streams.values() for each in side)
    uploads = kept["numbers"]["uploads"]
    assert all(each["mib_per_s"] > 0 and each["grown_mib"] >= 0 for side in uploads.values() for each in side)
    assert kept["machine"] == report.machine()


def test_a_part_that_fails_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends with 1 and says which."""

    def fails(*_: object) -> None:
        raise subprocess.CalledProcessError(3, ["streams"])

    monkeypatch.setattr(replies, "measure", fails)
    assert replies.main(["--tiny"]) == 1
    assert "streams" in capsys.readouterr().err


def test_time_jumps_and_the_same_comes_out_each_time() -> None:
    """A reply of minutes is streamed in no time; its snapshots keep their distance, and the last one is the largest."""
    shape = Shape(2_048, 20)
    first, second = cost(shape), cost(shape)
    assert (first.written, first.began) == (second.written, second.began)
    assert first.began[0] == pytest.approx(1 / 20, abs=1e-3)
    assert first.began[-1] == pytest.approx(2_048 / 20, abs=1e-3)
    assert first.written == sorted(first.written)
    between = [after - before for before, after in zip(first.began[:-2], first.began[1:-1], strict=True)]
    assert min(between) >= MIN_INTERVAL_SECONDS
    assert first.longest_gap == pytest.approx(max(*between, first.began[-1] - first.began[-2]))
    assert len(first.peer) == 104  # one each second, one for what is left, and the final document


def test_replies_that_stream_together_are_shown_less_often() -> None:
    """They share the snapshots of one."""
    assert len(cost(Shape(256, 20, streams=64)).written) < len(cost(Shape(256, 20)).written) / 2


def test_a_large_document_takes_more_than_one_request() -> None:
    """Each part is one, beside the two that begin and end the upload; the ratios are those of the bytes."""
    small, part = 1_000, PART_BYTES
    found = Cost(SHAPES[0], written=[small, part, 2 * part], began=[0.0, 1.5, 2.0], peer=[part, 2 * part])
    assert found.requests == 1 + 1 + 4
    assert found.ratio == (small + 3 * part) / (2 * part)
    assert found.peer_ratio == 1.5
    assert found.longest_gap == 1.5
    assert found.bound == pytest.approx(3 + 32_768 * (11 + math.log2(2 * part / 32_768)) / (2 * part))
