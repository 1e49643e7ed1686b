"""The gauges over a fake Redis and a fake EC2: what is counted for which minute, and what is survived."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest
from botocore.exceptions import EndpointConnectionError
from hypothesis import given
from hypothesis import strategies as st

from router_lambda import gauges as module
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gauges import MOST_MADE_UP, OLDEST_SECONDS, Gauges, minute_end, run_seconds
from router_lambda.job import QUEUE_OPEN
from router_lambda.queue import Queue, QueueUnavailable
from router_lambda.settings import RouterConfigError
from tests.router_samples import numbered_job
from tests.router_world import GPU_TAG, Clock, FakeEc2

MINUTE = datetime(2026, 11, 26, 0, 12, tzinfo=UTC).timestamp()
"""Beginning of the minute that is looked at."""

LOOK = MINUTE + 60 + 27
"""When that is done."""


class Fleet:
    """EC2 as boto3's client shows it, with what it says of its instances."""

    def __init__(self) -> None:
        self.said: list[dict[str, Any]] = []

    def show(self, name: str, state: str, launched_at: float, reason: str | None = "") -> None:
        """Show an instance as it is now."""
        found = {
            "InstanceId": name,
            "State": {"Name": state},
            "LaunchTime": datetime.fromtimestamp(launched_at, UTC),
        }
        self.said = [each for each in self.said if each["InstanceId"] != name]
        self.said.append(found if reason is None else found | {"StateTransitionReason": reason})

    def describe_instances(self, Filters: Any) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Show them all."""
        return {"Reservations": [{"Instances": self.said}]}


def user_initiated(at: float) -> str:
    """Return EC2's words for a stop by its API."""
    return f"User initiated ({datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M:%S} GMT)"


def event(at: float) -> dict[str, Any]:
    """Return an event of the schedule."""
    return {"source": "aws.events", "time": datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands in the minute after the one that is looked at."""
    return Clock(LOOK)


@pytest.fixture
def fleet() -> Fleet:
    """Return EC2 without an instance."""
    return Fleet()


@pytest.fixture
def gauges(fleet: Fleet, client: fakeredis.FakeRedis, clock: Clock) -> Gauges:
    """Return what is tested."""
    return Gauges(Ec2(GPU_TAG, lambda: fleet), client, clock)


def written(output: str) -> list[tuple[str, Mapping[str, float], float]]:
    """Return namespace, values and time of each line of metrics, in seconds."""
    lines = [line for line in map(json.loads, output.splitlines()) if "_aws" in line]
    return [
        (
            line["_aws"]["CloudWatchMetrics"][0]["Namespace"],
            {name: value for name, value in line.items() if name != "_aws"},
            line["_aws"]["Timestamp"] / 1e3,
        )
        for line in lines
    ]


def minutes(output: str) -> list[tuple[float, float]]:
    """Return which minutes were counted, relative to the one that is looked at, and the seconds of each."""
    return [((at - MINUTE) / 60, values["GpuSeconds"]) for _, values, at in written(output) if "GpuSeconds" in values]


# The arithmetic


def seconds(*instances: Instance) -> float:
    """Return for how long instances ran in the minute."""
    return run_seconds(instances, MINUTE)


@pytest.mark.parametrize("state", ["pending", "running"])
@pytest.mark.parametrize(
    ("launched", "ran"), [(-3_600, 60), (-0.5, 60), (0, 60), (0.25, 59.75), (59, 1), (60, 0), (75, 0)]
)
def test_one_that_is_up_counts_from_its_launch(state: str, launched: float, ran: float) -> None:
    """Also while it is still pending; what was launched since belongs to the next minute."""
    assert seconds(Instance("i-1", state, MINUTE + launched)) == ran


@pytest.mark.parametrize("state", ["stopping", "stopped"])
@pytest.mark.parametrize(
    ("stopped", "ran"), [(-1, 0), (0, 0), (1, 1), (33, 33), (59.5, 59.5), (60, 60), (61, 60), (86, 60)]
)
def test_one_that_stops_counts_up_to_its_stop(state: str, stopped: float, ran: float) -> None:
    """Whether we look while it stops or after; one that stopped since ran for all of the minute."""
    assert seconds(Instance("i-1", state, MINUTE - 3_600, MINUTE + stopped)) == ran


def test_a_stop_without_a_time_counts_nothing() -> None:
    """Nor does one from before the launch, which is of another run."""
    assert seconds(Instance("i-1", "stopped", MINUTE - 3_600)) == 0
    assert seconds(Instance("i-1", "stopped", MINUTE + 10, MINUTE + 9)) == 0


def test_a_run_counts_for_a_minute_at_least() -> None:
    """As AWS bills it: 20 s of it in the minute of the launch, 40 in the next."""
    short = Instance("i-1", "stopped", MINUTE + 40, MINUTE + 45)
    assert (run_seconds([short], MINUTE), run_seconds([short], MINUTE + 60)) == (20, 40)
    assert run_seconds([short], MINUTE + 120) == 0


def test_several_count_together() -> None:
    """Each costs as much as the first."""
    instances = [
        Instance("i-1", "running", MINUTE - 3_600),
        Instance("i-2", "pending", MINUTE + 50),
        Instance("i-3", "stopped", MINUTE - 900, MINUTE + 15),
        Instance("i-4", "stopped", MINUTE - 9_000, MINUTE - 5_000),
    ]
    assert seconds(*instances) == 60 + 10 + 15
    assert seconds() == 0


@given(st.integers(0, 600), st.integers(0, 3_600))
def test_minutes_leave_no_gap_and_do_not_overlap(begin: int, length: int) -> None:
    """However a run lies, its minutes add up to it, or to 60 s."""
    run = Instance("i-1", "stopped", MINUTE + begin, MINUTE + begin + length)
    total = sum(run_seconds([run], MINUTE + 60 * number) for number in range(100))
    assert total == max(60, length)


# Which minute


@pytest.mark.parametrize(
    ("text", "end"),
    [
        *(("2026-11-26T00:13:00Z", 60), ("2026-11-26T00:13:59Z", 60), ("2026-11-26T00:12:59Z", 0)),
        *(("2026-11-26T00:14:00Z", 120), ("2026-11-26T01:13:02+01:00", 60), ("2026-11-25T22:13:20Z", -7_140)),
    ],
)
def test_the_minute_is_the_whole_one_before_the_event(text: str, end: float) -> None:
    """To the second, and however late the event comes."""
    assert minute_end({"time": text}, LOOK) == MINUTE + end


@pytest.mark.parametrize(
    "said",
    [
        *(
            None,
            "x",
            {},
            {"time": None},
            {"time": 5},
            {"time": ""},
            {"time": "now"},
            {"time": "0001-01-01T00:00:00+23:00"},
        ),
        *({"time": "1970-01-01T00:00:00Z"}, {"time": "2026-11-26T00:15:00Z"}, {"time": "2099-01-01T00:00:00Z"}),
        event(LOOK - OLDEST_SECONDS - 1),
    ],
)
def test_an_event_without_a_usable_time_is_one_of_now(said: object) -> None:
    """Such as a test by hand, whose example is of 1970."""
    assert minute_end(said, LOOK) == MINUTE + 60


# A look


def test_all_is_written(
    gauges: Gauges, fleet: Fleet, client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """What waits and what is up, as of now, and the seconds, as of their minute."""
    queue = Queue(client, clock)
    for number in range(3):
        queue.enqueue(numbered_job(number))
    client.lpop("queue:ready")  # a worker has it
    fleet.show("i-1", "running", MINUTE - 3_600)
    fleet.show("i-2", "pending", MINUTE + 45)
    fleet.show("i-3", "stopping", MINUTE - 600, user_initiated(MINUTE + 33))

    figures = {"QueueDepth": 2, "JobsOpen": 3, "GpusUp": 2, "GpuSeconds": 60 + 15 + 33}
    assert gauges.look(event(LOOK)) == figures
    lines = written(capsys.readouterr().out)
    assert [(namespace, values) for namespace, values, _ in lines] == [
        ("TLFIF/Queue", {"QueueDepth": 2, "JobsOpen": 3}),
        ("TLFIF/Queue", {"GpusUp": 2}),
        ("TLFIF/Cost", {"GpuSeconds": 108}),
    ]
    assert lines[2][2] == MINUTE


def test_the_units_are_cloudwatch_s(gauges: Gauges, capsys: pytest.CaptureFixture[str]) -> None:
    """Counts and seconds."""
    gauges.look(event(LOOK))
    metrics = [
        (metric["Name"], metric["Unit"])
        for line in capsys.readouterr().out.splitlines()
        for metric in json.loads(line)["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    ]
    assert metrics == [
        ("QueueDepth", "Count"),
        ("JobsOpen", "Count"),
        ("GpusUp", "Count"),
        ("GpuSeconds", "Seconds"),
    ]


def test_without_an_instance_there_is_a_zero(gauges: Gauges, capsys: pytest.CaptureFixture[str]) -> None:
    """No silence, which would mean that nobody looks."""
    assert gauges.look(event(LOOK)) == {"QueueDepth": 0, "JobsOpen": 0, "GpusUp": 0, "GpuSeconds": 0}
    assert minutes(capsys.readouterr().out) == [(0, 0)]


@pytest.mark.parametrize(
    ("reason", "ran"),
    [
        *((user_initiated(MINUTE + 33), 33), ("Client.X: stopped (2026-11-26 00:12:07 UTC)", 7)),
        *(("", 0), (None, 0), ("Client.InstanceInitiatedShutdown: Instance initiated shutdown", 0)),
        *(("User initiated (2026-11-26 00:12:33 PST)", 0), ("User initiated (2026-11-31 00:12:33 GMT)", 0)),
        *(("User initiated (0000-11-26 00:12:33 GMT)", 0), ("User initiated (2026-11-26 24:61:33 GMT)", 0)),
    ],
)
def test_what_ec2_says_of_a_stop_is_read_if_it_can_be(
    gauges: Gauges, fleet: Fleet, reason: str | None, ran: float
) -> None:
    """What cannot be read is no reason to fail."""
    fleet.show("i-1", "stopped", MINUTE - 600, reason)
    assert gauges.look(event(LOOK))["GpuSeconds"] == ran


def test_one_that_is_up_has_not_stopped(fleet: Fleet) -> None:
    """Whatever EC2 still says of an earlier stop."""
    fleet.show("i-1", "running", MINUTE, user_initiated(MINUTE - 600))
    fleet.show("i-2", "stopping", MINUTE - 600, user_initiated(MINUTE))
    up, down = Ec2(GPU_TAG, lambda: fleet).instances()
    assert (up.stopped_at, down.stopped_at) == (None, MINUTE)


# More than one look


def test_every_minute_is_counted_once(
    gauges: Gauges, fleet: Fleet, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """An event that comes twice adds nothing; one that comes after a younger one neither."""
    fleet.show("i-1", "running", MINUTE - 600)
    for at in (LOOK, LOOK, LOOK + 60, LOOK, LOOK + 60):
        clock.now = max(clock.now, at)
        gauges.look(event(at))
    output = capsys.readouterr().out
    assert minutes(output) == [(0, 60), (1, 60)]
    assert sum("GpusUp" in values for _, values, _ in written(output)) == 5


def test_events_that_waver_around_a_minute_s_beginning_leave_no_gap(
    gauges: Gauges, fleet: Fleet, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """One minute has two of them and the next none."""
    fleet.show("i-1", "running", MINUTE - 600)
    for at in (MINUTE + 60, MINUTE + 119, MINUTE + 180, MINUTE + 241):
        clock.now = at
        gauges.look(event(at))
    assert minutes(capsys.readouterr().out) == [(0, 60), (1, 60), (2, 60), (3, 60)]


def test_what_ec2_kept_back_is_made_up_for(
    client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Minutes of which nobody knew are counted by the next look that succeeds, each as of its time."""
    ec2 = FakeEc2(clock, state="running", launched_at=MINUTE - 600)
    gauges = Gauges(Ec2(GPU_TAG, lambda: ec2), client, clock)
    gauges.look(event(LOOK))
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    for _ in range(3):
        clock.sleep(60)
        with pytest.raises(Ec2Unavailable):
            gauges.look(event(clock.now))
    ec2.failures.clear()
    clock.sleep(60)
    assert gauges.look(event(clock.now))["GpuSeconds"] == 240
    assert minutes(capsys.readouterr().out) == [(number, 60) for number in range(5)]


def test_not_everything_is_made_up_for(gauges: Gauges, clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    """A process that was kept for hours without an event knows nothing of the time between."""
    gauges.look(event(LOOK))
    clock.sleep(86_400)
    gauges.look(event(clock.now))
    assert len(minutes(capsys.readouterr().out)) == 1 + MOST_MADE_UP


# What is away


def test_without_redis_the_gpu_is_still_metered(
    gauges: Gauges, fleet: Fleet, server: fakeredis.FakeServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """It costs money all the same; and when Lambda tries again, that minute is not counted again."""
    fleet.show("i-1", "running", MINUTE - 600)
    server.connected = False
    for _ in range(3):
        with pytest.raises(QueueUnavailable):
            gauges.look(event(LOOK))
    output = capsys.readouterr().out
    assert minutes(output) == [(0, 60)]
    assert [set(values) for _, values, _ in written(output)] == [{"GpusUp"}, {"GpuSeconds"}, {"GpusUp"}, {"GpusUp"}]


def test_without_ec2_the_queue_is_still_shown(
    client: fakeredis.FakeRedis, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """And no second of a GPU, not even 0, which would be a lie."""
    ec2 = FakeEc2(clock, failures={"describe_instances": EndpointConnectionError(endpoint_url="https://ec2.test")})
    client.zadd(QUEUE_OPEN, {"job": 1})
    with pytest.raises(Ec2Unavailable):
        Gauges(Ec2(GPU_TAG, lambda: ec2), client, clock).look(event(LOOK))
    assert [values for _, values, _ in written(capsys.readouterr().out)] == [{"QueueDepth": 0, "JobsOpen": 1}]


def test_without_both_there_is_nothing(
    client: fakeredis.FakeRedis, server: fakeredis.FakeServer, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """But an error; EC2's is in the log as well."""
    ec2 = FakeEc2(clock, failures={"describe_instances": EndpointConnectionError(endpoint_url="https://ec2.test")})
    server.connected = False
    with pytest.raises(QueueUnavailable):
        Gauges(Ec2(GPU_TAG, lambda: ec2), client, clock).look(event(LOOK))
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == ["ec2 call failed"]


# The entry point


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Yield an environment of which nothing was read, and forget it afterwards."""
    for name in ("TLFIF_REDIS_URL", "TLFIF_GPU_TAG"):
        monkeypatch.delenv(name, raising=False)
    module._gauges.cache_clear()
    yield monkeypatch
    module._gauges.cache_clear()


def test_the_entry_point_reads_its_settings_once_they_are_there(
    fresh: pytest.MonkeyPatch, client: fakeredis.FakeRedis, fleet: Fleet
) -> None:
    """It names what is wrong until it is mended, and keeps what it built."""
    fresh.setattr(module, "Ec2", lambda tag: Ec2(tag, lambda: fleet))
    fresh.setattr(module, "connect", lambda url: client)
    fresh.setenv("TLFIF_GPU_TAG", "gpu")
    with pytest.raises(RouterConfigError, match=r"TLFIF_REDIS_URL.*TLFIF_GPU_TAG"):
        module.handler({}, None)
    fresh.setenv("TLFIF_REDIS_URL", "redis://cache:6379/0")
    fresh.setenv("TLFIF_GPU_TAG", "role=gpu")
    assert module.handler({}, None)["GpusUp"] == 0
    assert module._gauges()._ec2._tag == ("role", "gpu")
    fresh.delenv("TLFIF_REDIS_URL")
    assert module.handler(None, None)["GpuSeconds"] == 0
