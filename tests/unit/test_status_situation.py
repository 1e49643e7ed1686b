"""What `GET /status` says follows from what is known at one moment: the decision alone."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from router_lambda.ec2 import Instance
from router_lambda.gpu import SETTLED_SECONDS
from router_lambda.heartbeat import Heartbeat
from router_lambda.status import Situation
from tests.router_world import NOW

LAUNCHED = NOW - 30
AWAKE, DRAINING = Heartbeat("w1", model="m", idle_deadline=NOW + 60), Heartbeat("w2", state="draining")
SENTENCE = "AWS has no GPU left; send the request again in a few minutes"


def instance(state: str, launched_at: float = LAUNCHED) -> Instance:
    """Return an instance in a state of EC2's."""
    return Instance("i-1", state, launched_at)


def situation(**known: Any) -> Situation:
    """Return what is known at `NOW`."""
    return Situation(now=NOW, **known)


# The state


@pytest.mark.parametrize(
    ("known", "state", "phase"),
    [
        ({}, "stopped", None),
        ({"workers": (AWAKE,)}, "ready", None),
        ({"workers": (AWAKE, DRAINING)}, "ready", None),
        ({"workers": (AWAKE,), "loading": "engine"}, "ready", None),
        ({"workers": (AWAKE,), "closing_at": NOW}, "stopped", None),
        # EC2 shows it up.
        ({"instance": instance("pending")}, "starting", "instance"),
        ({"instance": instance("running")}, "starting", "instance"),
        ({"instance": instance("pending"), "loading": "imports"}, "booting", "imports"),
        ({"instance": instance("running"), "loading": "engine"}, "booting", "engine"),
        ({"instance": instance("running"), "workers": (DRAINING,)}, "stopping", None),
        ({"instance": instance("running"), "workers": (DRAINING,), "loading": "engine"}, "stopping", None),
        # It has announced its stop, now or before its last start.
        ({"instance": instance("running"), "closing_at": LAUNCHED}, "stopping", None),
        ({"instance": instance("running"), "closing_at": NOW, "workers": (AWAKE,)}, "stopping", None),
        ({"instance": instance("running"), "closing_at": NOW, "loading": "imports"}, "stopping", None),
        ({"instance": instance("pending"), "closing_at": LAUNCHED - 1}, "starting", "instance"),
        ({"instance": instance("running"), "closing_at": LAUNCHED - 1, "loading": "engine"}, "booting", "engine"),
        ({"instance": instance("running"), "closing_at": LAUNCHED - 1, "workers": (AWAKE, DRAINING)}, "ready", None),
        ({"instance": instance("running"), "closing_at": LAUNCHED, "started_at": NOW - 1}, "starting", "instance"),
        # EC2 shows it down.
        ({"instance": instance("stopping")}, "stopping", None),
        ({"instance": instance("stopping"), "loading": "engine", "workers": (DRAINING,)}, "stopping", None),
        ({"instance": instance("stopped")}, "stopped", None),
        ({"instance": instance("stopped"), "closing_at": NOW, "workers": (AWAKE,)}, "stopped", None),
        ({"instance": instance("stopped"), "loading": "engine", "workers": (DRAINING,)}, "stopped", None),
        ({"instance": instance("stopped"), "started_at": NOW}, "starting", "instance"),
        ({"instance": instance("stopped"), "started_at": NOW - SETTLED_SECONDS + 1}, "starting", "instance"),
        ({"instance": instance("stopped"), "started_at": NOW - SETTLED_SECONDS}, "stopped", None),
    ],
)
def test_state_and_phase(known: dict[str, Any], state: str, phase: str | None) -> None:
    """By the workers first, then by EC2; what is older than the last start counts no more."""
    found = situation(**known)
    assert (found.state, found.phase) == (state, phase)


@pytest.mark.parametrize(
    ("known", "is_clear"),
    [
        ({}, False),
        ({"workers": (AWAKE,)}, True),
        ({"workers": (DRAINING,)}, False),
        ({"workers": (AWAKE,), "closing_at": LAUNCHED}, False),
    ],
)
def test_ec2_need_not_be_asked(known: dict[str, Any], is_clear: bool) -> None:  # noqa: FBT001 - a table's column
    """Only while a worker takes jobs and nobody has announced anything."""
    assert situation(**known).is_clear == is_clear


# The wait


@pytest.mark.parametrize(
    ("known", "awaited"),
    [
        ({"workers": (AWAKE,), "waiting": 1}, None),
        ({"waiting": 1}, None),
        ({"instance": instance("pending")}, (instance("pending"), None)),
        ({"instance": instance("running"), "closing_at": LAUNCHED - 1}, (instance("running"), None)),
        ({"instance": instance("running"), "loading": "engine"}, (instance("running"), None)),
        ({"instance": instance("stopped")}, None),
        ({"instance": instance("stopped"), "waiting": 1}, (instance("stopped"), None)),
        # Just stopped: it can be started now, whatever was announced.
        ({"instance": instance("stopped"), "waiting": 1, "closing_at": NOW}, (instance("stopped"), None)),
        # EC2 does not show the start yet, which counts all the same.
        ({"instance": instance("stopped"), "started_at": NOW}, (instance("pending"), None)),
        ({"instance": instance("stopping")}, None),
        ({"instance": instance("stopping"), "waiting": 1}, (instance("stopping"), NOW)),
        ({"instance": instance("running"), "closing_at": NOW - 5}, None),
        ({"instance": instance("running"), "closing_at": NOW - 5, "waiting": 1}, (instance("running"), NOW - 5)),
        # A worker that drains has begun to stop, announced or not.
        ({"instance": instance("running"), "workers": (DRAINING,), "waiting": 1}, (instance("running"), NOW)),
    ],
)
def test_somebody_waits(known: dict[str, Any], awaited: tuple[Instance, float | None] | None) -> None:
    """For a start that is under way always, for another one only if there is work."""
    assert situation(**known).awaited == awaited


# The countdown


@pytest.mark.parametrize(
    ("known", "seconds"),
    [
        ({"workers": (AWAKE,)}, 60.0),
        ({"workers": (AWAKE, Heartbeat("w3", idle_deadline=NOW + 90.1234), DRAINING)}, 90.123),
        ({"workers": (Heartbeat("w3", idle_deadline=NOW - 5),)}, 0.0),
        ({"workers": (AWAKE, Heartbeat("w3", idle_deadline=None))}, None),
        ({"workers": (AWAKE,), "waiting": 1}, None),
        ({"workers": (AWAKE,), "closing_at": NOW, "instance": instance("running")}, None),
        ({"workers": (replace(DRAINING, idle_deadline=NOW + 60),), "instance": instance("running")}, None),
        ({}, None),
    ],
)
def test_idle_seconds(known: dict[str, Any], seconds: float | None) -> None:
    """Until the last one stops; nobody counts down while there is something to do."""
    assert situation(**known).idle_seconds == seconds


# The document


def test_workers_are_taken_together() -> None:
    """Jobs also of those that drain, the model of the first that takes jobs."""
    old = replace(DRAINING, running=2, model="old")
    workers = (old, Heartbeat("w3", running=3, model="a"), Heartbeat("w4", model="b"))

    assert situation(workers=workers, waiting=4).document(None) == {
        "state": "ready",
        "phase": None,
        "eta": None,
        "waiting": 4,
        "running": 5,
        "model": "a",
        "idle_seconds": None,
        "problem": None,
    }


@pytest.mark.parametrize(
    ("state", "told"), [("stopped", SENTENCE), ("stopping", None), ("pending", None), ("running", None)]
)
def test_a_problem_is_told_while_it_lasts(state: str, told: str | None) -> None:
    """A GPU that comes has none any more."""
    assert situation(instance=instance(state), problem=SENTENCE).document(None)["problem"] == told
