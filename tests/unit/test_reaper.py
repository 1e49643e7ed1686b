"""When the reaper stops an instance, and when it must not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest
import redis
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from router_lambda import reaper as module
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.heartbeat import Heartbeat
from router_lambda.job import GPU_UNSEEN, GPU_WAKING, QUEUE_OPEN, job_key, worker_key
from router_lambda.queue import Queue
from router_lambda.reaper import (
    BOOT_SECONDS_ALLOWED,
    SILENT_SECONDS,
    STALE_SECONDS,
    UNSEEN_SECONDS,
    Limits,
    NotStopped,
    Reaper,
    Seen,
    Verdict,
    missing_since,
    verdicts,
)
from router_lambda.settings import RouterConfigError
from tests.router_samples import JOB, numbered_job
from tests.router_world import GPU_TAG, NOW, Clock, FakeEc2, beat, metrics, refusal
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


# The whole


class Fleet:
    """EC2 with any number of instances, as boto3's client shows it."""

    def __init__(self, *instances: Instance) -> None:
        self.instances = list(instances)
        self.refuses: set[str] = set()
        self.stopped: list[str] = []

    def describe_instances(self, Filters: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Show them all."""
        shown = [
            {
                "InstanceId": each.id,
                "State": {"Name": each.state},
                "LaunchTime": datetime.fromtimestamp(each.launched_at, UTC),
            }
            for each in self.instances
        ]
        return {"Reservations": [{"Instances": shown}]}

    def stop_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Stop one, unless it is to be refused."""
        (name,) = InstanceIds
        if name in self.refuses:
            raise refusal("UnauthorizedOperation")
        self.stopped.append(name)


@pytest.fixture
def reaper(ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock) -> Reaper:
    """Return a reaper of one instance that has run for an hour."""
    ec2.state, ec2.launched_at = "running", NOW - HOUR
    return Reaper(Ec2(GPU_TAG, lambda: ec2), client, LIMITS, clock)


def counted(output: str) -> list[dict[str, Any]]:
    """Return the metrics' lines without what every one of them has."""
    lines = [json.loads(line) for line in output.splitlines()]
    return [{name: value for name, value in line.items() if name != "_aws"} for line in lines if "_aws" in line]


def test_a_dead_worker_is_found_in_five_minutes(
    reaper: Reaper, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Six looks, one a minute, and the last one stops it; what was noted of the start is gone by then."""
    client.set(GPU_WAKING, f"started:{NOW}")
    for _ in range(5):
        assert reaper.reap() == {"stopped": [], "looked_at": 1}
        clock.sleep(60)
    assert client.hgetall(GPU_UNSEEN) == {b"i-1": str(NOW).encode()}
    assert 0 < client.ttl(GPU_UNSEEN) <= UNSEEN_SECONDS
    assert client.exists(GPU_WAKING) == 1

    assert reaper.reap() == {"stopped": ["i-1"], "looked_at": 1}

    assert ec2.state == "stopping"
    assert client.exists(GPU_WAKING) == 0
    assert counted(capsys.readouterr().out) == [{"ReapedStale": 1, "instance": "i-1", "seconds": 300.0}]


def test_a_crash_is_forgotten_once_the_worker_is_back(
    reaper: Reaper, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock
) -> None:
    """The next absence counts from its own beginning."""
    reaper.reap()
    clock.sleep(240)
    beat(client, instance="i-1")
    reaper.reap()
    assert client.exists(GPU_UNSEEN) == 0

    client.delete(worker_key("w1"))
    clock.sleep(60)
    assert reaper.reap()["stopped"] == []
    assert client.hgetall(GPU_UNSEEN) == {b"i-1": str(clock.now).encode()}


def test_one_that_is_down_is_forgotten(reaper: Reaper, ec2: FakeEc2, client: fakeredis.FakeRedis) -> None:
    """It costs nothing any more."""
    reaper.reap()
    ec2.state = "stopping"

    assert reaper.reap() == {"stopped": [], "looked_at": 1}
    assert client.exists(GPU_UNSEEN) == 0


def test_a_hung_engine_is_stopped(
    reaper: Reaper, ec2: FakeEc2, client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its worker beats, but nothing comes of it; the job stays, for the waker."""
    Queue(client, clock).enqueue(JOB)
    clock.now = JOB.enqueued_at + 200
    beat(client, instance="i-1", since=NOW - HOUR, token_at=clock.now - 250)

    assert reaper.reap()["stopped"] == ["i-1"]
    assert counted(capsys.readouterr().out) == [{"ReapedSilent": 1, "instance": "i-1", "seconds": 250.0}]
    assert client.zcard(QUEUE_OPEN) == 1


def test_a_job_that_has_expired_blames_no_engine(reaper: Reaper, client: fakeredis.FakeRedis, clock: Clock) -> None:
    """It waits for its last word only; the oldest of those that do need the engine is what counts."""
    for number in range(3):
        Queue(client, clock).enqueue(numbered_job(number))
    client.delete(*(job_key(numbered_job(number).id) for number in (0, 1)))
    clock.now = numbered_job(2).enqueued_at + SILENT_SECONDS - 0.5
    beat(client, instance="i-1", since=NOW - HOUR, token_at=None)
    assert reaper.reap()["stopped"] == []

    clock.sleep(1)
    assert reaper.reap()["stopped"] == ["i-1"]


def test_an_overlong_session_is_ended(
    reaper: Reaper, ec2: FakeEc2, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str]
) -> None:
    """In spite of its heartbeat."""
    beat(client, instance="i-1", since=NOW, token_at=NOW)
    ec2.launched_at = NOW - LIMITS.session_seconds - 30

    assert reaper.reap()["stopped"] == ["i-1"]
    assert counted(capsys.readouterr().out) == [{"ReapedOverlong": 1, "instance": "i-1", "seconds": 14_430.0}]


def test_without_redis_the_session_still_ends(
    reaper: Reaper, ec2: FakeEc2, server: fakeredis.FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """All else is skipped, and that is counted."""
    server.connected = False
    assert reaper.reap() == {"stopped": [], "looked_at": 1}
    ec2.launched_at = NOW - LIMITS.session_seconds - 1
    assert reaper.reap() == {"stopped": ["i-1"], "looked_at": 1}

    assert metrics(capsys.readouterr().out) == ["ReaperBlind", "ReaperBlind", "ReapedOverlong"]


def test_what_cannot_be_remembered_is_counted(
    reaper: Reaper, client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Redis that reads and does not write, as a replica does."""

    def refuse(*_: object, **__: object) -> None:
        message = "READONLY You can't write against a read only replica."
        raise redis.ReadOnlyError(message)

    monkeypatch.setattr(client, "pipeline", refuse)
    assert reaper.reap()["stopped"] == []
    assert metrics(capsys.readouterr().out) == ["ReaperBlind"]


@pytest.mark.parametrize("since", ["x", "nan", "inf", "-inf", ""])
def test_keys_that_hold_something_else_do_no_harm(
    reaper: Reaper, client: fakeredis.FakeRedis, capsys: pytest.CaptureFixture[str], since: str
) -> None:
    """A worker's key that is no string is no heartbeat, and what is no time in `gpu:unseen` begins anew."""
    client.rpush(worker_key("i-1"), "x")
    client.set(b"worker:\xff", json.dumps({"instance": "i-2"}))
    client.hset(GPU_UNSEEN, mapping={"i-1": since, b"\xff": "5"})

    assert reaper.reap()["stopped"] == []
    assert client.hgetall(GPU_UNSEEN) == {b"i-1": str(NOW).encode()}
    assert metrics(capsys.readouterr().out) == []


@pytest.mark.parametrize("state", [None, "terminated"])
def test_without_an_instance_there_is_nothing_to_do(reaper: Reaper, ec2: FakeEc2, state: str | None) -> None:
    """No error either: nothing costs anything."""
    ec2.state = state
    assert reaper.reap() == {"stopped": [], "looked_at": 0}


def test_an_ec2_that_is_away_is_an_error(reaper: Reaper, ec2: FakeEc2) -> None:
    """Lambda counts it, and the schedule tries again."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    with pytest.raises(Ec2Unavailable):
        reaper.reap()


def test_one_refusal_does_not_spare_the_others(
    client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are tried; then it fails with the names of those that go on running, and the next look tries again."""
    fleet = Fleet(*(instance(f"i-{number}", age=90 * HOUR) for number in (1, 2, 3)))
    fleet.refuses = {"i-1", "i-3"}
    reaper = Reaper(Ec2(GPU_TAG, lambda: fleet), client, LIMITS, clock)

    with pytest.raises(NotStopped, match=r"i-1 \(UnauthorizedOperation\), i-3 \(UnauthorizedOperation\)"):
        reaper.reap()

    assert fleet.stopped == ["i-2"]
    assert metrics(capsys.readouterr().out) == ["ReaperFailures", "ReapedOverlong", "ReaperFailures"]
    fleet.refuses = set()
    fleet.instances = [each for each in fleet.instances if each.id != "i-2"]
    assert reaper.reap()["stopped"] == ["i-1", "i-3"]


# The entry point


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Forget what an earlier call built, before and after."""
    module._reaper.cache_clear()
    yield
    module._reaper.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_the_entry_point_reads_its_settings_once_they_are_there(monkeypatch: pytest.MonkeyPatch, ec2: FakeEc2) -> None:
    """It names what is wrong until it is mended, and keeps what it built."""
    monkeypatch.setattr(module, "Ec2", lambda tag: Ec2(tag, lambda: ec2))
    ec2.state = None
    monkeypatch.delenv("TLFIF_REDIS_URL", raising=False)
    monkeypatch.setenv("TLFIF_MAX_SESSION_MINUTES", "5")
    with pytest.raises(RouterConfigError, match=r"TLFIF_REDIS_URL.*TLFIF_MAX_SESSION_MINUTES"):
        module.handler({}, None)

    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TLFIF_MAX_SESSION_MINUTES", "60")
    monkeypatch.setenv("TLFIF_GPU_TAG", "env=tinyllama")
    assert module.handler({}, None) == {"stopped": [], "looked_at": 0}
    assert module._reaper()._limits == Limits(session_seconds=HOUR)
    monkeypatch.delenv("TLFIF_REDIS_URL")
    assert module.handler(None, None) == {"stopped": [], "looked_at": 0}
