"""What a deployment looks at while callers meet the new versions, and what it leaves out."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from terraform.aliases import Change
from terraform.watch import IGNORED, Watch, WentWrong
from tests.fake_deploy_aws import NAME, Calls, FakeCloudWatch
from tests.infra.page_check import alarms

CHANGES = {f"{NAME}-router": Change("8", "7"), f"{NAME}-waker": Change("8", "7")}


class Clock:
    """The time, which a test moves."""

    def __init__(self) -> None:
        self.time = datetime(2026, 11, 26, 12, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        """Tell it."""
        return self.time

    def wait(self, seconds: float) -> None:
        """Let it go on."""
        self.time += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    """Return the time."""
    return Clock()


@pytest.fixture
def cloudwatch() -> FakeCloudWatch:
    """Return CloudWatch, where all is well."""
    return FakeCloudWatch(Calls())


def error(kind: str, at: datetime, version: str | None = None) -> tuple[datetime, dict[str, str]]:
    """Return a failed call by the alias, of a canary's version or of whatever the alias leads to."""
    dimensions = {"FunctionName": f"{NAME}-{kind}", "Resource": f"{NAME}-{kind}:prod"}
    return at, dimensions if version is None else dimensions | {"ExecutedVersion": version}


def test_every_alarm_is_watched_or_has_its_reason() -> None:
    """And what is left out is an alarm of Terraform's."""
    assert alarms().keys() >= IGNORED.keys()
    assert alarms().keys() - IGNORED.keys() == {
        *("ping", "queue-health", "redis-memory", "redis-enqueue-fail"),
        *("reaper-blind", "guard-failures", "guard-errors"),
    }


def test_an_alarm_that_rang_before_is_no_news(cloudwatch: FakeCloudWatch, clock: Clock) -> None:
    """But it is when it had ended meanwhile."""
    cloudwatch.alarms[f"{NAME}-ping"] = "ALARM"
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    watch.look()
    cloudwatch.alarms[f"{NAME}-ping"] = "OK"
    watch.look()
    cloudwatch.alarms[f"{NAME}-ping"] = "ALARM"
    with pytest.raises(WentWrong, match="tl-fif-ping"):
        watch.look()


@pytest.mark.parametrize("milliseconds", [0, 1, 999, 1000])
def test_a_full_minute_is_a_time_like_any_other(cloudwatch: FakeCloudWatch, clock: Clock, milliseconds: int) -> None:
    """CloudWatch refuses a span that is over in the second in which it began."""
    clock.time = clock.time.replace(second=0) + timedelta(milliseconds=milliseconds)
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    clock.wait(0.0005)
    watch.look()
    cloudwatch.errors.append(error("router", clock.time, "8"))
    clock.wait(0.0005)
    with pytest.raises(WentWrong, match="router:8 failed 1 times"):
        watch.look()


def test_an_alarm_without_data_may_go_off(cloudwatch: FakeCloudWatch, clock: Clock) -> None:
    """It was not ringing before."""
    cloudwatch.alarms[f"{NAME}-ping"] = "INSUFFICIENT_DATA"
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    cloudwatch.alarms[f"{NAME}-ping"] = "ALARM"
    with pytest.raises(WentWrong):
        watch.look()


@pytest.mark.parametrize("alarm", [*(f"{NAME}-{each}" for each in IGNORED), "another-ping"])
def test_alarms_that_say_nothing_of_a_deployment(cloudwatch: FakeCloudWatch, clock: Clock, alarm: str) -> None:
    """Of the spend, of the GPU, or of another system."""
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    cloudwatch.alarms[alarm] = "ALARM"
    watch.look()


def test_failures_of_the_canary(cloudwatch: FakeCloudWatch, clock: Clock) -> None:
    """Those of the new version count, and those of the old one do not."""
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    clock.wait(60)
    cloudwatch.errors += [
        error("router", clock.time - timedelta(seconds=5)),
        error("router", clock.time - timedelta(seconds=5), "7"),
        error("authorizer", clock.time - timedelta(seconds=5), "8"),
    ]
    watch.look()
    cloudwatch.errors.append(error("router", clock.time - timedelta(seconds=5), "8"))
    with pytest.raises(WentWrong, match="tl-fif-router:8 failed 1 times"):
        watch.look()


def test_failures_when_all_are_led_there(cloudwatch: FakeCloudWatch, clock: Clock) -> None:
    """From the next full minute on: in the one that is under way, the old version may have failed."""
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    clock.wait(120)
    watch.everybody_is_led_to_the_new()
    cloudwatch.errors.append(error("waker", clock.time))
    clock.wait(20)
    watch.look()
    clock.wait(20)
    watch.look()
    cloudwatch.errors.append(error("waker", clock.time))
    clock.wait(10)
    with pytest.raises(WentWrong, match="tl-fif-waker:8 failed 1 times"):
        watch.look()


def test_a_function_that_failed_before(cloudwatch: FakeCloudWatch, clock: Clock) -> None:
    """Its failures after are not held against the new version; those of a canary are."""
    cloudwatch.errors.append(error("waker", clock.time - timedelta(minutes=5)))
    watch = Watch(cloudwatch, NAME, CHANGES, clock)
    watch.everybody_is_led_to_the_new()
    clock.wait(60)
    cloudwatch.errors.append(error("waker", clock.time))
    clock.wait(10)
    watch.look()
    cloudwatch.errors.append(error("waker", clock.time - timedelta(seconds=1), "8"))
    with pytest.raises(WentWrong):
        watch.look()
