"""The reaper over a fake Redis and a fake EC2: what it stops, remembers, counts and survives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest
import redis
from botocore.exceptions import EndpointConnectionError

from router_lambda import reaper as module
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.job import GPU_UNSEEN, GPU_WAKING, QUEUE_OPEN, job_key, worker_key
from router_lambda.queue import Queue
from router_lambda.reaper import SILENT_SECONDS, UNSEEN_SECONDS, Limits, NotStopped, Reaper
from router_lambda.settings import RouterConfigError
from tests.router_samples import JOB, numbered_job
from tests.router_world import GPU_TAG, NOW, Clock, FakeEc2, beat, metrics, refusal

LIMITS = Limits(session_seconds=4 * 3_600.0)
HOUR = 3_600.0


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
    fleet = Fleet(*(Instance(f"i-{number}", "running", NOW - 90 * HOUR) for number in (1, 2, 3)))
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
