"""The worker is as small after 20,000 jobs as after 4,000, and a worker that is not would be found out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.process.steady import JOBS, Sample, growth, measure, shown

FLAT = [Sample(jobs, jobs / 300, 300.0, rss_mib=63.6, fds=22, tasks=6, keys=1) for jobs in range(2_000, 8_001, 2_000)]


@pytest.mark.timeout(240)
def test_20_000_jobs_leave_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither memory nor file descriptors nor tasks grow after the warm-up, and Redis is empty in the end."""
    samples, left = measure()
    with capsys.disabled():
        print(f"\n{shown(samples)}")  # noqa: T201 - what the test is run for
    assert samples[-1].jobs == JOBS
    assert growth(samples) == []
    assert left == []


@pytest.mark.timeout(240)
def test_a_worker_that_keeps_its_jobs_is_found_out() -> None:
    """2,000 jobs after the warm-up are enough."""
    samples, _ = measure(6_000, leaks=True)
    assert [line.partition(" grew")[0] for line in growth(samples)] == ["resident memory (MiB)"]


@pytest.mark.parametrize(
    ("grown", "found"),
    [
        ({"fds": 23}, "file descriptors grew from 22 to 23 between 4000 and 8000 jobs"),
        ({"tasks": 7}, "tasks grew from 6 to 7 between 4000 and 8000 jobs"),
        ({"rss_mib": 64.7}, "resident memory (MiB) grew from 63.6 to 64.7 between 4000 and 8000 jobs"),
        ({"keys": 2}, "keys in Redis grew from 1 to 2 between 4000 and 8000 jobs"),
    ],
)
def test_whatever_grows_is_named(grown: dict[str, int], found: str) -> None:
    """The bound on memory allows for noise; one file or task more is one too many."""
    assert growth(FLAT) == []
    assert growth([*FLAT[:-1], replace(FLAT[-1], **grown)]) == [found]
