"""The budget killer: what it writes, stops, goes on looking for, counts and survives."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from router_lambda import budget_killer as module
from router_lambda.budget import OVER_BUDGET, month_end, refusal
from router_lambda.budget_killer import PAUSE_SECONDS, WATCH_SECONDS, Killer, KillFailed, read_reason
from router_lambda.ec2 import Ec2
from router_lambda.settings import RouterConfigError
from tests.budget_world import CAP, INVOCATION_SECONDS, Guarded, kill, make_killer
from tests.router_world import NOW, Clock, FakeEc2, metrics
from tests.router_world import refusal as refused

ALARM = json.dumps({"AlarmName": "tl-fif-spend", "NewStateValue": "ALARM", "NewStateReason": "above 20"})
BUDGETS = "AWS Budget Notification November 26, 2026\nAWS Account 123456789012\n\nDear AWS Customer, …"


def told(message: object, subject: object = None) -> dict[str, Any]:
    """Return what SNS says to a Lambda."""
    return {"Records": [{"EventSource": "aws:sns", "Sns": {"Subject": subject, "Message": message}}]}


@pytest.fixture
def guarded() -> Guarded:
    """Return a bucket whose spend is above the cap."""
    made = Guarded()
    made.spend(20.13)
    return made


@pytest.fixture
def killer(guarded: Guarded, ec2: FakeEc2, clock: Clock) -> Killer:
    """Return what is tested, before an instance that runs."""
    ec2.state = "running"
    return make_killer(guarded, ec2, clock)


# In good order


def test_it_blocks_first_and_stops_then(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The block is one that `router_lambda.budget` heeds."""
    order: list[str] = []

    def noted(what: str, call: Callable[..., None]) -> Callable[..., None]:
        def note(**said: Any) -> None:
            order.append(what)
            call(**said)

        return note

    monkeypatch.setattr(guarded, "put_object", noted("block", guarded.put_object))
    monkeypatch.setattr(ec2, "stop_instances", noted("stop", ec2.stop_instances))

    assert kill(killer, clock) == ["i-1"]

    assert order == ["block", "stop"]
    assert guarded.block == {"cap_eur": CAP, "at": NOW, "until": month_end(NOW), "reason": "AWS Budgets"}
    found = refusal(*guarded.read(), CAP, NOW)
    assert found is not None
    assert (found.code, ec2.state) == (OVER_BUDGET, "stopping")


def test_it_goes_on_looking_until_no_start_can_come(killer: Killer, ec2: FakeEc2, clock: Clock) -> None:
    """For as long as a start takes that had looked before the block, and as EC2's list may be late."""
    kill(killer, clock)
    assert WATCH_SECONDS <= clock.now - NOW < WATCH_SECONDS + PAUSE_SECONDS
    assert ec2.calls.count("describe_instances") == 1 + (clock.now - NOW) / PAUSE_SECONDS


def test_every_instance_is_stopped(
    killer: Killer, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that are up; the others cost nothing already."""
    ec2.beside = {"i-2": "pending", "i-3": "stopped", "i-4": "stopping", "i-5": "running"}
    assert sorted(kill(killer, clock)) == ["i-1", "i-2", "i-5"]
    assert ec2.beside == {"i-2": "stopping", "i-3": "stopped", "i-4": "stopping", "i-5": "stopping"}
    assert metrics(capsys.readouterr().out) == ["BudgetStops"] * 3


@pytest.mark.parametrize("state", ["stopped", "stopping", "terminated", None])
def test_where_nothing_is_up_it_blocks_all_the_same(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock, state: str | None
) -> None:
    """Also where there is no instance at all: one may be made."""
    ec2.state = state
    assert kill(killer, clock) == []
    assert guarded.block["until"] > NOW
    assert "stop_instances" not in ec2.calls


def test_a_second_event_is_no_trouble(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """SNS may say it twice, and both who can call do so: it blocks anew and stops what somebody started by hand."""
    kill(killer, clock)
    ec2.state = "stopped"
    assert kill(killer, clock, "CloudWatch alarm") == []
    ec2.state = "running"
    assert kill(killer, clock) == ["i-1"]
    assert (guarded.puts, guarded.block["reason"]) == (3, "AWS Budgets")
    assert metrics(capsys.readouterr().out) == ["BudgetStops"] * 2


def test_a_list_that_is_late_counts_no_stop_twice(
    killer: Killer, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """EC2 is eventually consistent: it may show what runs for some seconds after it was stopped."""
    stop = ec2.stop_instances

    def stop_late(InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        if clock.now - NOW >= 3 * PAUSE_SECONDS:
            stop(InstanceIds)

    monkeypatch.setattr(ec2, "stop_instances", stop_late)
    assert kill(killer, clock) == ["i-1"]
    assert ec2.state == "stopping"
    assert metrics(capsys.readouterr().out) == ["BudgetStops"]


# Trouble


def test_a_block_that_cannot_be_written_keeps_nothing_up(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock, capsys: pytest.CaptureFixture[str]
) -> None:
    """What runs is stopped all the same, and SNS calls again."""
    guarded.failure = EndpointConnectionError(endpoint_url="https://s3.test")
    with pytest.raises(KillFailed, match=r"guard/block.json could not be written \(EndpointConnectionError\)"):
        kill(killer, clock)

    assert ec2.state == "stopping"
    out = capsys.readouterr().out
    assert metrics(out) == ["BudgetStops"]
    assert "block not written" in out

    guarded.failure = None
    ec2.state = "stopped"
    assert kill(killer, clock) == []


def test_anything_that_fails_at_the_block_keeps_nothing_up(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock
) -> None:
    """A mistake of ours included."""
    guarded.failure = RuntimeError("planted")
    with pytest.raises(KillFailed, match="RuntimeError"):
        kill(killer, clock)
    assert ec2.state == "stopping"


def test_one_that_may_not_be_stopped_protects_no_other(
    killer: Killer, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is tried, as long as there is time; the message names the one that is left."""
    ec2.beside = {"i-2": "running", "i-3": "running"}
    stop = ec2.stop_instances

    def stop_but_one(InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        if InstanceIds == ["i-2"]:
            raise refused("UnauthorizedOperation")
        stop(InstanceIds)

    monkeypatch.setattr(ec2, "stop_instances", stop_but_one)
    with pytest.raises(KillFailed) as failed:
        kill(killer, clock)

    assert str(failed.value) == "i-2 is running (UnauthorizedOperation); stop it by hand"
    assert (ec2.state, ec2.beside["i-3"]) == ("stopping", "stopping")
    assert metrics(capsys.readouterr().out) == ["BudgetStops"] * 2
    assert clock.now - NOW < INVOCATION_SECONDS


def test_one_that_is_just_being_started_is_tried_again(
    killer: Killer, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 stops it when it runs, which may be after all starts that could come."""
    ec2.state = "pending"
    runs_at = NOW + WATCH_SECONDS + 5
    stop = ec2.stop_instances

    def stop_running(InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        if clock.now < runs_at:
            raise refused("IncorrectInstanceState")
        stop(InstanceIds)

    monkeypatch.setattr(ec2, "stop_instances", stop_running)
    assert kill(killer, clock) == ["i-1"]
    assert ec2.state == "stopping"
    assert clock.now >= runs_at


def test_an_instance_that_stays_up_is_no_success(
    killer: Killer, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EC2 says yes, and nothing happens."""
    monkeypatch.setattr(ec2, "stop_instances", lambda **_: None)
    with pytest.raises(KillFailed, match=r"i-1 is running \(does not stop\); stop it by hand"):
        kill(killer, clock)


def test_an_ec2_that_is_away_is_asked_until_the_time_is_up(
    killer: Killer, guarded: Guarded, ec2: FakeEc2, clock: Clock
) -> None:
    """What runs is not known, so nothing is well."""
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")
    with pytest.raises(KillFailed, match=r"nobody knows which GPUs run \(EndpointConnectionError\)"):
        kill(killer, clock)
    assert len(ec2.calls) > WATCH_SECONDS / PAUSE_SECONDS
    assert guarded.block


def test_an_ec2_that_comes_back_is_enough(guarded: Guarded, ec2: FakeEc2, clock: Clock) -> None:
    """Before the time is up."""
    ec2.state = "running"
    ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")

    def sleep(seconds: float) -> None:
        clock.sleep(seconds)
        if clock.now - NOW > WATCH_SECONDS + 5:
            ec2.failures.clear()

    assert kill(make_killer(guarded, ec2, clock, sleep), clock) == ["i-1"]


def test_who_had_no_time_to_look_says_so(killer: Killer, ec2: FakeEc2, clock: Clock) -> None:
    """The function's timeout is too short: a start may come that nobody sees."""
    with pytest.raises(KillFailed, match="for long enough"):
        killer("AWS Budgets", lambda: WATCH_SECONDS - (clock.now - NOW))
    assert ec2.state == "stopping"


# The event


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (told(BUDGETS), "AWS Budgets"),
        (told("…", "AWS Budgets: tl-fif has exceeded your alert threshold"), "AWS Budgets"),
        (told(ALARM, 'ALARM: "tl-fif-spend" in EU (Frankfurt)'), "CloudWatch alarm"),
        (told("hello", "hello"), "an unknown event"),
        (told("[" * 10_000), "an unknown event"),
        (told(None), "an unknown event"),
        (told({"AlarmName": "x"}), "an unknown event"),
        ({"Records": []}, "an unknown event"),
        ({"Records": [None]}, "an unknown event"),
        ({"Records": [{"Sns": {}}]}, "an unknown event"),
        ({"Records": [{"Sns": "AWS Budget"}]}, "an unknown event"),
        ({}, "an unknown event"),
        ([], "an unknown event"),
        (None, "an unknown event"),
        ("AWS Budget", "an unknown event"),
    ],
)
def test_who_called_is_all_that_is_taken_from_an_event(event: Any, reason: str) -> None:
    """And none of its text, which has the account's number."""
    assert read_reason(event) == reason


class Context:
    """What Lambda tells of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return a minute."""
        return 60_000


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Forget what an earlier call built, before and after."""
    module._killer.cache_clear()
    yield
    module._killer.cache_clear()


@pytest.mark.usefixtures("_fresh")
@pytest.mark.parametrize("event", [told(BUDGETS), told(ALARM), {}])
def test_the_entry_point_reads_its_settings_once_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
    ec2: FakeEc2,
    guarded: Guarded,
    event: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It names all that is missing, keeps what it built, and stops the GPUs by whatever event."""
    ec2.state, clock = "running", ec2.clock
    monkeypatch.setattr(module, "Ec2", lambda tag: Ec2(tag, lambda: ec2))
    monkeypatch.setattr(module, "make_client", lambda *_, **__: guarded)
    monkeypatch.setattr(module, "build", lambda settings, build=module.build: build(settings, clock, clock.sleep))
    for name in ("TLFIF_BUCKET", "TLFIF_BUDGET_EUR", "TLFIF_GPU_TAG"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RouterConfigError, match=r"TLFIF_BUCKET.*TLFIF_BUDGET_EUR"):
        module.handler(event, Context())

    monkeypatch.setenv("TLFIF_BUCKET", "tl-fif")
    monkeypatch.setenv("TLFIF_BUDGET_EUR", "19.50")
    assert module.handler(event, Context()) == {"stopped": ["i-1"]}
    monkeypatch.delenv("TLFIF_BUCKET")
    assert module.handler(event, Context()) == {"stopped": []}
    assert guarded.block["cap_eur"] == 19.5
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.get("event")] == [
        {"event": "budget used up", "reason": read_reason(event)}
    ] * 3
