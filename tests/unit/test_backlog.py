"""How many jobs may wait: what heartbeats say of the worker, and what follows from it."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.backlog import DEFAULT_BOOT_SECONDS, DEFAULT_JOB_SECONDS, DEFAULT_SLOTS, Capacity
from router_lambda.job import JOB_TTL_SECONDS

AWAKE = Capacity(is_awake=True)
"""What is taken of a worker of which nothing is known but that it lives."""

SHORTEST_JOB = 0.05

CAPACITIES = st.builds(
    Capacity,
    slots=st.integers(1, 100_000),
    job_seconds=st.floats(SHORTEST_JOB, JOB_TTL_SECONDS),
    is_awake=st.booleans(),
)
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(10**400),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def said(**fields: Any) -> Capacity:
    """Return what is read from a heartbeat with these fields."""
    return Capacity.from_heartbeat(json.dumps(fields))


# What a heartbeat says


def test_without_a_heartbeat_the_defaults_hold_and_a_boot_comes_first() -> None:
    """Nobody is there: the jobs wait for the boot as well."""
    assert Capacity.from_heartbeat(None) == Capacity(DEFAULT_SLOTS, DEFAULT_JOB_SECONDS, is_awake=False)


@pytest.mark.parametrize("form", [str, str.encode])
def test_a_heartbeat_is_read(form: Any) -> None:
    """As text or as the bytes that Redis gives."""
    heartbeat = form('{"state": "ready", "slots": 8, "job_seconds": 2.5, "running": 3}')
    assert Capacity.from_heartbeat(heartbeat) == Capacity(8, 2.5, is_awake=True)


@pytest.mark.parametrize(
    "heartbeat",
    [
        *("", "x", "{", "null", "5", "true", '"slots"', "[]", '[{"slots": 8}]', "{}", '{"state": "ready"}'),
        *(b"", b"\xff", b"\x00", '{"slots": 8}'.encode("utf-16")[:-1], "[" * 100_000),
    ],
    ids=lambda heartbeat: repr(heartbeat[:12]),
)
def test_whoever_beats_is_awake_whatever_he_says(heartbeat: bytes | str) -> None:
    """A worker of another release, or a hand that set the key: the defaults, without a boot."""
    assert Capacity.from_heartbeat(heartbeat) == AWAKE


@pytest.mark.parametrize("name", ["slots", "job_seconds"])
@pytest.mark.parametrize(
    "value",
    [None, True, False, "8", "", [8], {"a": 8}, math.nan, math.inf, -math.inf, 10**400, -(10**400)],
    ids=lambda value: repr(value)[:12],
)
def test_what_is_no_number_is_taken_from_the_defaults(name: str, value: object) -> None:
    """Whatever JSON holds in place of a number, and numbers that no float holds."""
    assert said(**{name: value}) == AWAKE


@pytest.mark.parametrize("value", [8, 8.0, 8.9])
def test_slots_are_whole(value: float) -> None:
    """Half a slot runs nothing."""
    assert said(slots=value).slots == 8


def test_one_field_does_without_the_other() -> None:
    """Each has a default of its own."""
    assert said(slots=2) == Capacity(2, DEFAULT_JOB_SECONDS, is_awake=True)
    assert said(job_seconds=2) == Capacity(DEFAULT_SLOTS, 2.0, is_awake=True)


@pytest.mark.parametrize("value", [0.5, 1, 1.9])
def test_there_is_one_slot_at_least(value: float) -> None:
    """A worker that is there runs something."""
    assert said(slots=value).slots == 1


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        *((1e-9, SHORTEST_JOB), (0.049, SHORTEST_JOB), (0.05, 0.05), (0.051, 0.051)),
        *((299.9, 299.9), (300, 300.0), (301, 300.0), (1e300, 300.0)),
    ],
)
def test_the_length_of_a_job_has_limits(value: float, taken: float) -> None:
    """No job is over at once, and none that counts outlives its key."""
    assert said(job_seconds=value).job_seconds == taken


@pytest.mark.parametrize("value", [-1e-9, -1, -1e300])
def test_a_negative_length_is_none(value: float) -> None:
    """It is said wrong, and must not pass for the fastest worker there is."""
    assert said(job_seconds=value) == AWAKE


@given(ANY_JSON | st.dictionaries(st.sampled_from(["slots", "job_seconds"]), ANY_JSON))
def test_any_heartbeat_gives_a_capacity_that_can_be_reckoned_with(heartbeat: Any) -> None:
    """Nothing in Redis makes a request fail."""
    capacity = Capacity.from_heartbeat(json.dumps(heartbeat))

    assert capacity.is_awake
    assert capacity.slots >= 1
    assert SHORTEST_JOB <= capacity.job_seconds <= JOB_TTL_SECONDS
    assert capacity.most_waiting() >= capacity.slots
    assert 1 <= capacity.seconds_until_room(capacity.most_waiting()) <= JOB_TTL_SECONDS


# How many may wait


@pytest.mark.parametrize(
    ("capacity", "most"),
    [
        *((Capacity(), 1_344), (AWAKE, 1_920), (Capacity(1, 10.0, is_awake=True), 30), (Capacity(1, 10.0), 21)),
        *((Capacity(2, 7.0, is_awake=True), 85), (Capacity(64, 300.0, is_awake=True), 64), (Capacity(64, 300.0), 64)),
    ],
)
def test_as_many_may_wait_as_run_before_the_last_expires(capacity: Capacity, most: int) -> None:
    """300 s, less 90 for a boot, divided by the length of a job, times the slots; at least the slots."""
    assert capacity.most_waiting() == most


@given(CAPACITIES)
def test_the_last_that_may_wait_is_begun_in_time(capacity: Capacity) -> None:
    """Before its key expires, the boot included; what runs at once may wait in any case."""
    boot = 0 if capacity.is_awake else DEFAULT_BOOT_SECONDS
    rounds_before_it = (capacity.most_waiting() - 1) // capacity.slots
    assert boot + rounds_before_it * capacity.job_seconds < JOB_TTL_SECONDS


@given(CAPACITIES, st.integers(0, 1_000), st.floats(0, 100))
def test_a_better_worker_lets_no_fewer_wait(capacity: Capacity, slots: int, seconds: float) -> None:
    """More slots, shorter jobs, awake: each alone never makes the queue shorter."""
    most = capacity.most_waiting()
    shorter = max(SHORTEST_JOB, capacity.job_seconds - seconds)

    assert Capacity(capacity.slots + slots, capacity.job_seconds, capacity.is_awake).most_waiting() >= most
    assert Capacity(capacity.slots, shorter, capacity.is_awake).most_waiting() >= most
    assert Capacity(capacity.slots, capacity.job_seconds, is_awake=True).most_waiting() >= most


# When one more may wait


@pytest.mark.parametrize(
    ("capacity", "over", "seconds"),
    [
        *(
            (AWAKE, 0, 1),
            (AWAKE, 5, 1),
            (AWAKE, 6, 2),
            (AWAKE, 64 * 3 - 1, 30),
            (AWAKE, 64 * 3, 31),
            (AWAKE, 10**9, 300),
        ),
        *((Capacity(1, 10.0, is_awake=True), 0, 10), (Capacity(1, 10.5, is_awake=True), 0, 11)),
        *((Capacity(), 0, 91), (Capacity(), 63, 100), (Capacity(), 64, 101), (Capacity(), 10**9, 300)),
        *((Capacity(1, 300.0), 0, 300), (AWAKE, -1, 1), (AWAKE, -1_920, 1)),
    ],
)
def test_there_is_room_again_when_so_many_have_run(capacity: Capacity, over: int, seconds: int) -> None:
    """Rounded up; `over` many more wait than are let in."""
    assert capacity.seconds_until_room(capacity.most_waiting() + over) == seconds


@given(CAPACITIES, st.integers(0, 10**6), st.integers(0, 10**6))
def test_the_longer_the_queue_the_later_there_is_room(capacity: Capacity, waiting: int, more: int) -> None:
    """Always a whole number of seconds in which a job still lives."""
    seconds = capacity.seconds_until_room(waiting)

    assert isinstance(seconds, int)
    assert 1 <= seconds <= capacity.seconds_until_room(waiting + more) <= JOB_TTL_SECONDS
