"""The record of a deployment: what it holds, how large it may be, and who may write it."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import pytest

from terraform.aliases import Change, DeployError, MovedMeanwhile
from terraform.record import DEAD_AFTER, Record, Records
from tests.fake_deploy_aws import NAME, Calls, FakeSsm, refusal

NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
RECORD = Record("0.9.0", "c9", NOW, "shifting", {"tl-fif-router": Change("8", "7")})


@pytest.fixture
def ssm() -> FakeSsm:
    """Return SSM without a record."""
    return FakeSsm(Calls())


def test_it_is_read_as_it_was_written() -> None:
    """As JSON, in UTC."""
    assert Record.from_json(RECORD.to_json()) == RECORD
    assert '"at":"2026-11-26T12:00:00+00:00"' in RECORD.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "hello",
        "[]",
        "null",
        "{}",
        RECORD.to_json().replace("shifting", "sleeping"),
        RECORD.to_json().replace("2026", "the year 2026"),
        RECORD.to_json().replace('"now"', '"then"'),
    ],
)
def test_what_somebody_else_wrote(text: str) -> None:
    """It is told, and not believed."""
    with pytest.raises(ValueError):  # noqa: PT011 - each of its own words
        Record.from_json(text)


def test_a_record_fits_into_a_parameter_that_costs_nothing() -> None:
    """Of the nine functions with long names, it takes a part; of a hundred, SSM would refuse it."""
    nine = {f"{'n' * 40}-cost-publisher-{number}": Change("12345", "12344") for number in range(9)}
    assert len(dataclasses.replace(RECORD, functions=nine).to_json()) < 1200
    with pytest.raises(DeployError, match="takes 4096"):
        dataclasses.replace(
            RECORD, functions={f"{name}{i}": each for name, each in nine.items() for i in range(9)}
        ).to_json()


def test_when_a_deployment_is_dead() -> None:
    """One that shifts for longer than any takes."""
    assert RECORD.is_dead(NOW + DEAD_AFTER + timedelta(seconds=1))
    assert not RECORD.is_dead(NOW + DEAD_AFTER)
    assert not dataclasses.replace(RECORD, state="deployed").is_dead(NOW + timedelta(days=9))


def test_the_first_one(ssm: FakeSsm) -> None:
    """There is none, and then there is."""
    records = Records(ssm, NAME)
    assert records.read() == (None, 0)
    assert list(records.earlier()) == []
    records.write_after(RECORD, 0)
    assert records.read() == (RECORD, 1)


def test_whoever_is_second_steps_back(ssm: FakeSsm) -> None:
    """The record of the one who was first is the newest again."""
    records, other = Records(ssm, NAME), dataclasses.replace(RECORD, commit="c10")
    records.write(other)
    with pytest.raises(MovedMeanwhile, match="at the same time"):
        records.write_after(RECORD, 0)
    assert records.read() == (other, 3)


def test_the_sdk_writes_twice(ssm: FakeSsm) -> None:
    """Its own record is not taken for somebody else's."""
    records = Records(ssm, NAME)
    records.write(RECORD)
    records.write_after(RECORD, 0)
    assert records.read() == (RECORD, 2)


@pytest.mark.parametrize(
    "newest",
    [
        dataclasses.replace(RECORD, state="rolled back"),
        dataclasses.replace(RECORD, functions={"tl-fif-router": Change("9", "7")}),
    ],
)
def test_another_s_word_stands(ssm: FakeSsm, newest: Record) -> None:
    """A deployment that was rolled back meanwhile is not noted as deployed."""
    records = Records(ssm, NAME)
    records.write(newest)
    with pytest.raises(MovedMeanwhile):
        records.end(dataclasses.replace(RECORD, state="deployed"))
    assert records.read() == (newest, 1)


def test_earlier_ones(ssm: FakeSsm) -> None:
    """Newest first, without what is none."""
    ssm.values[f"/{NAME}/deployment"] = [RECORD.to_json(), "hello", RECORD.to_json().replace("c9", "c10")]
    assert [each.commit for each in Records(ssm, NAME).earlier()] == ["c10", "c9"]


def test_what_aws_refuses_is_no_empty_record(ssm: FakeSsm) -> None:
    """A right that is missing does not look like the first deployment."""

    def refuse(_number: int, _name: str, _done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        raise refusal("AccessDeniedException")

    ssm._calls.act = refuse
    for ask in (Records(ssm, NAME).read, lambda: list(Records(ssm, NAME).earlier())):
        with pytest.raises(Exception, match="AccessDenied"):
            ask()
