"""Two real workers lose nothing and end nothing twice, whatever is killed around them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.process.storm import storm
from tests.process.storm_plan import Kind

JOBS = 250
SEED = 20261123


@pytest.mark.timeout(420)
def test_a_storm_loses_no_job_and_no_text(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every accepted job gets one final reply whose text only ever grew, and Redis and S3 are clean afterwards."""
    passed = storm(JOBS, SEED, logs=tmp_path)
    with capsys.disabled():
        print(f"\n{passed.report}")  # noqa: T201 - what the test is run for
    assert passed.problems == []
    numbers = passed.numbers
    assert numbers["accepted"] == JOBS
    assert set(passed.faults) == {*Kind}
    # Else the faults have struck while nothing ran, and nothing is shown by it.
    assert numbers["resumed (attempt > 1)"] >= 5
    assert numbers["  in the middle of a reply"] >= 1
    assert numbers["cancelled"] >= 1
