"""Which instances the reaper condemns, and which it must not: the decision, of what EC2 and Redis say."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.ec2 import Instance
from router_lambda.heartbeat import Heartbeat
from router_lambda.reaper import (
    BOOT_SECONDS_ALLOWED,
    SILENT_SECONDS,
    STALE_SECONDS,
    Limits,
    Seen,
    Verdict,
    missing_since,
    verdicts,
)
from tests.router_world import NOW
from worker.pulse import DEFAULT_STALL_SECONDS

LIMITS = Limits(session_seconds=4 * 3_600.0)
HOUR = 3_600.0


def instance(name: str = "i-1", age: float = HOUR, state: str = "running") -> Instance:
    """Return an instance that was launched `age` seconds ago."""
    return Instance(name, state, NOW - age)


def healthy(name: str = "i-1", token_age: float | None = 1.0, since_age: float | None = HOUR) -> Heartbeat:
    """Return the heartbeat of an instance's worker, by the ages in seconds of what it says."""
    since, token_at = (None if age is None else NOW - age for age in (since_age, token_age))
    return Heartbeat("w1", name, since, token_at)


def judged(instances: list[Instance], seen: Seen | None) -> list[Verdict]:
    """Return what is decided now."""
    return verdicts(instances, seen, NOW, LIMITS)


# Stale


def test_an_instance_without_a_heartbeat_is_stopped_when_its_time_is_up() -> None:
    """Not a second sooner, and the verdict says for how long."""
    almost = {"i-1": NOW - STALE_SECONDS + 1}
    assert judged([instance()], Seen(unseen=almost)) == []
    assert judged([instance()], Seen(unseen={"i-1": NOW - STALE_SECONDS})) == [
        Verdict("i-1", "ReapedStale", STALE_SECONDS)
    ]


def test_the_first_look_without_a_heartbeat_stops_nothing() -> None:
    """Its worker may be starting again after a crash."""
    assert judged([instance()], Seen()) == []


@pytest.mark.parametrize("state", ["pending", "running"])
def test_a_boot_is_given_its_time(state: str) -> None:
    """However long no heartbeat was seen, the worker's own watchdog comes first; after that none has any excuse."""
    seen = Seen(unseen={"i-1": NOW - HOUR})
    assert judged([instance(age=BOOT_SECONDS_ALLOWED - 1, state=state)], seen) == []
    (verdict,) = judged([instance(age=BOOT_SECONDS_ALLOWED, state=state)], seen)
    assert verdict.metric == "ReapedStale"


def test_a_look_at_an_earlier_run_does_not_count() -> None:
    """The instance was stopped and started since, so that it has been missing for no longer than it has run."""
    (verdict,) = judged([instance(age=1_000)], Seen(unseen={"i-1": NOW - 2 * HOUR}))
    assert verdict.seconds == 1_000


@pytest.mark.parametrize("state", ["stopping", "stopped"])
def test_what_is_down_is_not_stopped_again(state: str) -> None:
    """Whatever else is true of it."""
    assert judged([instance(age=90 * HOUR, state=state)], Seen(unseen={"i-1": NOW - HOUR})) == []


@pytest.mark.parametrize(
    "heartbeat",
    [Heartbeat("w1", "i-1"), Heartbeat("i-1"), Heartbeat("i-1", None, NOW), Heartbeat("ip-10-20-0-5")],
)
def test_a_heartbeat_finds_its_instance(heartbeat: Heartbeat) -> None:
    """By what it says, else by its worker's name, else because it can be no other's."""
    assert judged([instance()], Seen([heartbeat], {"i-1": NOW - HOUR})) == []


@pytest.mark.parametrize("heartbeat", [Heartbeat("w1", "i-2"), Heartbeat("i-1", "i-2"), Heartbeat("i-2")])
def test_another_instances_heartbeat_does_not_help(heartbeat: Heartbeat) -> None:
    """That of one that is about to be gone, above all."""
    instances = [instance(), instance("i-2", state="stopping")]
    assert [each.instance for each in judged(instances, Seen([heartbeat], {"i-1": NOW - HOUR}))] == ["i-1"]


def test_of_several_only_those_without_a_heartbeat_are_stopped() -> None:
    """One that leads nowhere cannot be credited to any."""
    instances = [instance(f"i-{number}") for number in (1, 2, 3)]
    seen = Seen([healthy("i-2"), Heartbeat("elsewhere")], {each.id: NOW - HOUR for each in instances})

    assert [each.instance for each in judged(instances, seen)] == ["i-1", "i-3"]


def test_what_is_missing_is_remembered_from_the_first_look_on() -> None:
    """Those with a heartbeat, those that are down and those that are gone are forgotten."""
    instances = [instance("i-1"), instance("i-2"), instance("i-3"), instance("i-4", state="stopped")]
    unseen = dict.fromkeys(("i-1", "i-2", "i-4", "i-5"), NOW - 60)

    assert missing_since(instances, Seen([healthy("i-2")], unseen), NOW) == {"i-1": NOW - 60, "i-3": NOW}


def test_a_look_from_the_future_is_from_now() -> None:
    """A clock was wrong; it must not keep an instance for years."""
    assert missing_since([instance()], Seen(unseen={"i-1": NOW + HOUR}), NOW) == {"i-1": NOW}


# Silent


def test_an_engine_that_brings_nothing_is_stopped() -> None:
    """Work has waited, and the last sign of life is as old."""
    silence = SILENT_SECONDS + 1
    seen = Seen([healthy(token_age=silence)], oldest_open=NOW - silence)

    assert judged([instance()], seen) == [Verdict("i-1", "ReapedSilent", silence)]


@pytest.mark.parametrize(
    "seen",
    [
        Seen([healthy(token_age=HOUR)]),
        Seen([healthy(token_age=HOUR)], oldest_open=NOW - SILENT_SECONDS),
        Seen([healthy(token_age=5)], oldest_open=NOW - HOUR),
        Seen([healthy(token_age=HOUR, since_age=5)], oldest_open=NOW - HOUR),
        Seen([healthy(token_age=None, since_age=5)], oldest_open=NOW - HOUR),
        Seen([healthy(token_age=HOUR), replace(healthy("i-9"), worker="w2")], oldest_open=NOW - HOUR),
    ],
    ids=[
        "nothing waits",
        "it has just come",
        "tokens flow",
        "just ready",
        "just ready, no token yet",
        "other's tokens",
    ],
)
def test_silence_has_other_reasons(seen: Seen) -> None:
    """An idle worker, one that has just begun, and a job that waits behind others."""
    assert judged([instance()], seen) == []


def test_a_boot_is_not_silence() -> None:
    """A job waits and nothing comes because the model is loading: there is no heartbeat yet."""
    seen = Seen(unseen={"i-1": NOW - 500}, oldest_open=NOW - 500)
    assert judged([instance(age=500)], seen) == []


def test_a_boot_beside_a_silent_engine_is_spared() -> None:
    """Only those are stopped that claim to be there, and not right after their launch."""
    instances = [instance("i-1"), instance("i-2", age=300), instance("i-3", age=SILENT_SECONDS - 1)]
    seen = Seen([healthy("i-1", HOUR), healthy("i-3", HOUR)], oldest_open=NOW - 500)

    assert [each.instance for each in judged(instances, seen)] == ["i-1"]


def test_all_silent_engines_are_stopped() -> None:
    """None of them has done anything."""
    seen = Seen([healthy("i-1", HOUR), healthy("i-2", 400)], oldest_open=NOW - 500)
    assert judged([instance("i-1"), instance("i-2")], seen) == [
        Verdict("i-1", "ReapedSilent", 400),
        Verdict("i-2", "ReapedSilent", 400),
    ]


def test_who_does_not_say_is_not_silent() -> None:
    """A heartbeat without its times tells nothing of the engine."""
    seen = Seen([Heartbeat("w1", "i-1"), healthy("i-2", HOUR)], oldest_open=NOW - HOUR)
    assert judged([instance("i-1"), instance("i-2")], seen) == []


@pytest.mark.parametrize("state", ["degraded", "ready", "draining", None])
def test_whom_s3_does_not_answer_is_not_silent(state: str | None) -> None:
    """It waits with a finished job, whose reply is written once S3 is back; no other state is an excuse."""
    silent = replace(healthy(token_age=HOUR), state=state)
    found = judged([instance()], Seen([silent], oldest_open=NOW - HOUR))
    assert [each.metric for each in found] == ([] if state == "degraded" else ["ReapedSilent"])


def test_the_job_of_a_degraded_one_is_not_blamed_on_another() -> None:
    """What waits may be that one's job, and the other has nothing to do; both end with their sessions."""
    beats = [replace(healthy("i-1", HOUR), state="degraded"), replace(healthy("i-2", HOUR), worker="w2")]
    seen = Seen(beats, oldest_open=NOW - HOUR)
    assert judged([instance("i-1"), instance("i-2")], seen) == []

    overlong = judged([instance("i-1", age=LIMITS.session_seconds + 1)], seen)
    assert [each.metric for each in overlong] == ["ReapedOverlong"]


def test_the_worker_notices_first() -> None:
    """It hands its jobs back, which a stopped instance cannot; the reaper is for when it does not."""
    assert SILENT_SECONDS >= 3 * DEFAULT_STALL_SECONDS


# Overlong


@pytest.mark.parametrize("seen", [None, Seen([healthy()], oldest_open=NOW)], ids=["without Redis", "busy"])
def test_the_session_has_an_end(seen: Seen | None) -> None:
    """For a busy one too, and by EC2's word alone."""
    age = LIMITS.session_seconds
    assert judged([instance(age=age)], seen) == []
    assert judged([instance(age=age + 1)], seen) == [Verdict("i-1", "ReapedOverlong", age + 1)]


def test_without_redis_nothing_else_is_judged() -> None:
    """Nobody knows whether a heartbeat is missing."""
    assert judged([instance(age=LIMITS.session_seconds - 1)], None) == []


# Whatever comes

NAMES = [f"i-{number}" for number in range(4)]
AGES = st.floats(0, 6 * HOUR)
MOMENTS = st.none() | AGES.map(lambda age: NOW - age)
INSTANCES = st.lists(
    st.builds(instance, st.sampled_from(NAMES), AGES, st.sampled_from(["pending", "running", "stopping", "stopped"])),
    max_size=4,
    unique_by=lambda each: each.id,
)
HEARTBEATS = st.builds(
    Heartbeat, st.sampled_from([*NAMES, "w1"]), st.none() | st.sampled_from([*NAMES, "i-9"]), MOMENTS, MOMENTS
)
UNSEEN = st.none() | st.dictionaries(st.sampled_from(NAMES), st.floats(NOW - 6 * HOUR, NOW + HOUR))
SEEN = st.builds(Seen, st.lists(HEARTBEATS, max_size=4), UNSEEN, MOMENTS)


@given(INSTANCES, st.none() | SEEN)
def test_nobody_is_stopped_too_soon_or_twice(instances: list[Instance], seen: Seen | None) -> None:
    """Each verdict is of an instance that is up and past the grace of its reason, and says a length."""
    found = judged(instances, seen)

    assert len({each.instance for each in found}) == len(found)
    by_id = {each.id: each for each in instances}
    graces = {
        "ReapedStale": BOOT_SECONDS_ALLOWED,
        "ReapedSilent": SILENT_SECONDS,
        "ReapedOverlong": LIMITS.session_seconds,
    }
    for each in found:
        assert by_id[each.instance].is_up
        assert NOW - by_id[each.instance].launched_at >= graces[each.metric]
        assert each.seconds >= min(STALE_SECONDS, SILENT_SECONDS)


@given(INSTANCES, st.none() | SEEN)
def test_nobody_outlives_the_session(instances: list[Instance], seen: Seen | None) -> None:
    """Whatever Redis says or does not say."""
    overlong = {each.id for each in instances if each.is_up and NOW - each.launched_at > LIMITS.session_seconds}
    assert overlong <= {each.instance for each in judged(instances, seen)}


@given(INSTANCES, SEEN, st.floats(0, SILENT_SECONDS))
def test_a_healthy_busy_one_is_left_alone(instances: list[Instance], seen: Seen, token_age: float) -> None:
    """Within its session, whatever the others do and however long something has waited."""
    mine = instance("i-5", age=LIMITS.session_seconds)
    busy = Heartbeat("w5", "i-5", NOW - HOUR, NOW - token_age)

    found = judged([*instances, mine], replace(seen, heartbeats=[*seen.heartbeats, busy]))

    assert "i-5" not in {each.instance for each in found}
