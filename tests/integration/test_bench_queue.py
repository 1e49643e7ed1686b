"""The benchmark of the queue runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import subprocess
import sys
from math import isfinite
from pathlib import Path
from typing import Any

import pytest
import redis

from benchmarks import queue, report
from benchmarks.peers import environment, measured
from benchmarks.peers.side import Starts
from local.redis_server import RedisServer
from local.server import StartFailed

MEASURES = ("p50_ms", "p95_ms", "p99_ms", "jobs_per_second", "cpu_ms")


@pytest.fixture(autouse=True)
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep coverage out of what is started: it would slow it down."""
    monkeypatch.delenv("COVERAGE_PROCESS_CONFIG", raising=False)


def made_up(**changed: float) -> dict[str, list[float]]:
    """Return two rounds of the same measures."""
    return {what: [value] * 2 for what, value in (dict.fromkeys(MEASURES, 1.0) | changed).items()}


def test_queue(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every queue that can be installed has its rows and its bars; of any other a note says why it has none."""
    assert queue.main(["--tiny", f"--results={tmp_path}"]) == 0

    printed, kept = capsys.readouterr().out, json.loads((tmp_path / "queue.json").read_text())
    names = list(kept["numbers"])
    noted = {name for name in queue.SYSTEMS if any(note.startswith(f"{name} is left out") for note in kept["notes"])}
    assert {queue.RAW.name, queue.OURS.name} <= set(names)
    assert set(names) | noted == queue.SYSTEMS.keys()
    for table in kept["tables"]:
        assert [row[0] for row in table["rows"]] == names
    for measures in kept["numbers"].values():
        assert measures.keys() == set(MEASURES)
        assert all(isfinite(value) and value > 0 for rounds in measures.values() for value in rounds)
    assert [chart["x"] for chart in kept["charts"]] == [names, names]
    assert kept["goals"][-1]["what"] == "jobs/s ÷ the raw floor"
    assert all(goal["what"] in printed for goal in kept["goals"])
    assert kept["machine"] == report.machine()


def test_our_jobs_leave_nothing_in_redis(tmp_path: Path) -> None:
    """What is measured is the whole way of a job, to its acknowledgement."""
    server = RedisServer(tmp_path)
    server.start()
    try:
        measured.measure(queue.OURS, Path(sys.executable), server, tmp_path, queue.TINY)
        with redis.Redis.from_url(server.url) as client:
            left: Any = client.keys()
    finally:
        server.stop()
    assert all(key.startswith(b"worker:") for key in left)


def test_a_side_that_ends_early_is_told_with_its_log(tmp_path: Path) -> None:
    """The folder of its round has it."""
    server = RedisServer(tmp_path)
    server.start()
    broken = measured.System("broken", "benchmarks.peers.nothing", "", "", queue.TINY)
    try:
        with pytest.raises(StartFailed, match=r"No module named benchmarks\.peers\.nothing"):
            measured.measure(broken, Path(sys.executable), server, tmp_path, queue.TINY)
    finally:
        server.stop()


def test_a_peer_that_fails_is_left_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are measured all the same, and the result says what is missing."""

    def measure(system: measured.System, *_rest: object) -> dict[str, float]:
        if system.name == "saq":
            raise StartFailed("it would not\nand this is its log")
        return dict.fromkeys(MEASURES, 1.0)

    monkeypatch.setattr(queue, "measure", measure)
    monkeypatch.setattr(environment, "python", lambda _name: Path(sys.executable))
    assert queue.main(["--rounds=2", "--only=saq,taskiq list", f"--results={tmp_path}"]) == 0

    kept = json.loads((tmp_path / "queue.json").read_text())
    assert list(kept["numbers"]) == ["raw", "tl-fif", "taskiq list"]
    assert kept["notes"] == ["saq is left out: it would not"]
    assert "and this is its log" in capsys.readouterr().err


def test_ours_is_held_against_the_best_peer_and_the_floor() -> None:
    """The best one is the best by its median; a ratio is that of a round."""
    measures = {
        "raw": made_up(jobs_per_second=1_000),
        "tl-fif": made_up(p50_ms=1.5, p99_ms=2.0, jobs_per_second=950),
        "saq": made_up(p50_ms=3.0, p99_ms=2.5),
        "arq 0.5 s": made_up(p50_ms=2.0, p99_ms=4.0),
    }
    goals = {goal.what: goal for goal in queue.result(measures, 2, []).goals}
    assert goals["p50 ÷ that of arq 0.5 s"].measured == [0.75, 0.75]
    assert goals["p99 ÷ that of saq"].measured == [0.8, 0.8]
    assert goals["jobs/s ÷ the raw floor"].measured == [0.95, 0.95]
    assert all(goal.is_met for goal in goals.values())


def test_without_peers_only_the_floor_is_a_goal() -> None:
    """There is nobody to be better than."""
    goals = queue.result({"raw": made_up(), "tl-fif": made_up()}, 2, []).goals
    assert [goal.what for goal in goals] == ["jobs/s ÷ the raw floor"]


def test_a_queue_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The message names those that there are."""
    with pytest.raises(SystemExit):
        queue.main(["--only=celery"])
    assert "taskiq stream" in capsys.readouterr().err


def test_starts_are_written_batch_by_batch(tmp_path: Path) -> None:
    """In the order of the jobs, whichever started first; a second start of one changes nothing."""
    started = Starts(tmp_path, [3, 1])
    for number in (1, 0, 0):
        started(number)
    assert not (tmp_path / "0.json").exists()
    started(2)
    first = json.loads((tmp_path / "0.json").read_text())
    started(3)

    assert first["at"][1] <= first["at"][0] <= first["at"][2]
    assert first["cpu_seconds"] >= 0
    assert len(json.loads((tmp_path / "1.json").read_text())["at"]) == 1


def test_an_environment_is_made_once_and_anew_for_other_versions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The marker comes last, so that an install that broke off is not taken for one that is there."""
    ran: list[list[str]] = []
    fails = False

    def run(command: list[str], **_options: object) -> None:
        if fails and "pip" in command:
            raise subprocess.CalledProcessError(1, command, stderr="looking\nERROR: no such version\n")
        ran.append(command)
        (tmp_path / "saq").mkdir(exist_ok=True)

    wanted = tmp_path / "requirements-saq.txt"
    wanted.write_text("saq==1 # as a test\n\nredis==2\n")
    monkeypatch.setattr(environment, "requirements", lambda _name: wanted)
    monkeypatch.setattr(subprocess, "run", run)
    assert environment.pinned("saq") == {"saq": "1", "redis": "2"}
    for _ in range(2):
        assert environment.python("saq", tmp_path) == tmp_path / "saq" / "bin" / "python"
    assert len(ran) == 2

    wanted.write_text("saq==3\n")
    fails = True
    with pytest.raises(environment.NotInstalled, match="ERROR: no such version"):
        environment.python("saq", tmp_path)
    fails = False
    environment.python("saq", tmp_path)
    assert len(ran) == 5


@pytest.mark.parametrize("name", ["arq", "saq", "taskiq"])
def test_every_package_of_a_peer_is_pinned(name: str) -> None:
    """So that the same peer is measured everywhere; all of them read Redis by hiredis, as we do."""
    assert environment.pinned(name).keys() >= {name, "redis", "hiredis"}
