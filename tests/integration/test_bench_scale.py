"""The benchmark of long queues runs, once and tiny: that it measures is tested here, what it measures is not."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path

import pytest

from benchmarks import scale, scale_costs, scale_workers
from local.server import StartFailed
from router_lambda.job import QUEUE_OPEN, QUEUE_READY, is_job_id, lease_key
from router_lambda.queue import connect
from tests.process.worker_process import COVERAGE


def drain(jobs_per_second: float, twice: int = 0) -> scale_workers.Drain:
    """Return what came of a drain."""
    return scale_workers.Drain(jobs=100, twice=twice, jobs_per_second=jobs_per_second, cpu_ms=1.0, peak_mib=60.0)


def costs(**milliseconds: float) -> scale_costs.Costs:
    """Return costs of 1 ms each, but for what is changed."""
    kinds = (*scale_costs.PER_JOB, *scale_costs.NOW_AND_THEN)
    return dict.fromkeys(kinds, 1.0) | {"bytes": 2048.0} | milliseconds


def test_scale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every length, every look and every crowd has its place, each job ran once, and all numbers are positive."""
    monkeypatch.delenv(COVERAGE, raising=False)  # it would slow all that is started
    assert scale.main(["--rounds=1", "--tiny", f"--results={tmp_path}"]) == 0

    printed = capsys.readouterr().out
    kept = json.loads((tmp_path / "scale.json").read_text())
    kinds = [*scale_costs.PER_JOB, *scale_costs.NOW_AND_THEN]
    numbers = kept["numbers"]
    assert list(numbers["costs_ms"]) == kinds
    assert all(list(each) == ["10", "100"] for each in numbers["costs_ms"].values())
    milliseconds = [ms for of_kind in numbers["costs_ms"].values() for (ms,) in of_kind.values()]
    assert all(0 < ms < math.inf for ms in milliseconds)
    (drains,) = numbers["drains"]
    assert list(drains) == ["1 worker", "2 workers", "1 worker, 100 more waiting"]
    assert [each["jobs"] >= scale.TINY.drained and each["twice"] == 0 for each in drains.values()] == [True] * 3
    assert all(each["jobs_per_second"] > 0 and each["cpu_ms"] > 0 and each["peak_mib"] > 10 for each in drains.values())
    assert all(line in printed for line in (*kinds, *drains))
    assert kept["tables"][0]["header"] == ["", "10", "100"]
    assert [list(chart["series"]) for chart in kept["charts"]] == [kinds[:3], kinds[3:], [""]]
    assert len(kept["goals"]) == 5


def test_growth_is_held_against_the_shortest_queue_of_the_same_round() -> None:
    """A machine that is slow in one round is slow at all lengths of it."""
    rounds = [
        {10: costs(**{scale_costs.TAKE: 1.0}), 1_000: costs(**{scale_costs.TAKE: 2.0})},
        {10: costs(**{scale_costs.TAKE: 10.0}), 1_000: costs(**{scale_costs.TAKE: 20.0})},
    ]
    found = scale.result(rounds, [{"1 worker": drain(100.0)}, {"1 worker": drain(50.0, twice=1)}])

    goals = {goal.what: goal for goal in found.goals}
    assert goals[f"{scale_costs.TAKE}, 1,000 ÷ 10 waiting"].measured == [2.0, 2.0]
    assert not goals[f"{scale_costs.TAKE}, 1,000 ÷ 10 waiting"].is_met
    assert goals[f"{scale_costs.ENQUEUE}, 1,000 ÷ 10 waiting"].is_met
    assert goals["jobs that ran twice"].measured == [0, 1]
    assert not goals["jobs that ran twice"].is_met


def test_the_queue_is_filled_to_a_length(redis_url: str) -> None:
    """What waits already counts; ids are those of a router, and the payload is what a worker takes."""
    with connect(redis_url) as client:
        source = scale_costs.jobs()
        scale_costs.fill(client, source, 3)
        scale_costs.fill(client, source, 5)
        assert client.llen(QUEUE_READY) == client.zcard(QUEUE_OPEN) == 5
    assert all(is_job_id(job.id) and len(job.prompt or "") == 1_000 for job in islice(source, 10))


def test_workers_that_hang_are_told(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What they do not drain in time is named, and they are gone."""
    monkeypatch.setattr(scale_workers, "DEADLINE_SECONDS", 0.0)
    with connect(redis_url) as client:
        job = next(scale_costs.jobs())
        client.zadd(QUEUE_OPEN, {job.id: 1.0})
        client.set(lease_key(job.id), "somebody else")
        with pytest.raises(StartFailed, match="1 jobs are open"):
            scale_workers.drain(client, redis_url, workers=1, leave=0)
