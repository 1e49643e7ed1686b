"""What a boot took, held against limits and against an earlier one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ami.boot_record import BootRecord, Limits, regressed, too_slow

LIMITS = Limits({"daemon": 3.0, "engine": 40.0}, 41.0)
ROOT = Path(__file__).parents[2]


def record(daemon: float = 1.0, engine: float = 20.0, **made_of: str | None) -> BootRecord:
    """Return a record with these phases, of a model on a GPU unless told otherwise."""
    return BootRecord(
        "2026-11-26T00:00:00+00:00",
        {"model": "m", "gpu": "Tesla T4", **made_of},
        "degraded",
        {"daemon": daemon, "engine": engine, "ready": 0.1},
    )


def test_a_boot_within_its_limits() -> None:
    """Nothing is said, at the limit neither."""
    assert too_slow(record(), LIMITS) == []
    assert too_slow(record(daemon=1.0, engine=40.0), LIMITS) == []


def test_a_phase_that_took_too_long() -> None:
    """With limit and value."""
    assert too_slow(record(daemon=3.5), LIMITS) == ["phase daemon: limit 3 s, took 3.500 s"]


def test_phases_that_took_too_long_together() -> None:
    """Each of them was within its own limit."""
    assert too_slow(record(daemon=2.5, engine=39.0), LIMITS) == ["all phases: limit 41 s, took 41.500 s"]


def test_a_phase_that_nobody_measured() -> None:
    """A limit on it would hold for nothing."""
    limits = Limits({"imports": 1.0}, 1.0)

    assert too_slow(record(), limits) == ["phase imports: not measured"]


def test_phases_without_a_limit_do_not_count() -> None:
    """How long Redis takes is not the image's business."""
    assert too_slow(record(), Limits({"daemon": 1.0}, 1.0)) == []


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (26.0, []),
        (26.1, ["phase engine: 20.000 s before, 26.100 s now, which is more than 1.3 times that"]),
    ],
)
def test_a_regression(now: float, said: list[str]) -> None:
    """By the ratio."""
    assert regressed(record(engine=now), record(), 1.3) == said


def test_a_short_phase_may_grow_by_a_second() -> None:
    """A ratio says nothing of tenths."""
    assert regressed(record(daemon=1.9), record(daemon=1.0), 1.3) == []
    assert regressed(record(daemon=2.1), record(daemon=1.0), 1.3) != []


def test_a_phase_that_is_new_is_no_regression() -> None:
    """There is nothing to compare it with."""
    old = BootRecord("x", {}, "ready", {})

    assert regressed(record(), old, 1.3) == []


def test_boots_of_other_things_are_not_alike() -> None:
    """Of another model, or on another GPU; versions are what is compared."""
    assert record().is_like(record(vllm="0.31.0"))
    assert not record().is_like(record(model="n"))
    assert not record().is_like(record(gpu=None))


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    """One line, with the sum for whoever reads it."""
    path = tmp_path / "boot.json"
    path.write_text(record().text())

    assert BootRecord.read(path) == record()
    assert json.loads(path.read_text())["sum"] == pytest.approx(21.1)


@pytest.mark.parametrize("text", ["{}", '{"at": "x"}', "[]", "null"])
def test_what_is_no_record_is_refused(tmp_path: Path, text: str) -> None:
    """Whatever it is."""
    path = tmp_path / "boot.json"
    path.write_text(text)

    with pytest.raises(ValueError, match="no record of a boot"):
        BootRecord.read(path)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"phases": {}, "sum": 1}', '{"phases": {"daemon": 0}, "sum": 1}', '{"phases": {"a": "x"}, "sum": 1}'],
)
def test_what_are_no_limits_is_refused(tmp_path: Path, text: str) -> None:
    """Or nothing would be held against anything."""
    path = tmp_path / "limits.json"
    path.write_text(text)

    with pytest.raises(ValueError, match="has to"):
        Limits.read(path)


def test_the_limits_of_the_node() -> None:
    """They leave time to EC2 within the 90 s, and judge what the image can do something about."""
    limits = Limits.read(ROOT / "ami" / "boot_limits.json")

    assert set(limits.phases) == {"daemon", "imports", "engine", "first_token"}
    assert max(limits.phases.values()) < limits.sum < sum(limits.phases.values())
    assert limits.sum <= 60
