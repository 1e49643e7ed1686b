"""What a worker writes about itself is what the Lambdas read: both ends of the heartbeat, without a Redis between."""

from __future__ import annotations

import time

import pytest

from router_lambda.backlog import Capacity
from router_lambda.heartbeat import Heartbeat as Read
from router_lambda.job import booting_note, worker_key
from router_lambda.status import Situation, _loading
from tests.fakes import FakeEngine, MemoryStore
from worker.health import Health
from worker.heartbeat import Heartbeat
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services


class World:
    """A worker that nobody asks anything."""

    def __init__(self) -> None:
        unused = JobQueue.__new__(JobQueue)
        self.services = Services(FakeEngine(), unused, MemoryStore(), Health())
        self.jobs = Jobs(self.services, 8)
        self.heartbeat = Heartbeat(self.services, self.jobs, "i-1")

    def read(self, state: str | None = None) -> Read:
        """Return what a Lambda makes of the heartbeat."""
        return Read.read(worker_key("one").encode(), self.heartbeat.shown(state).encode())


def test_an_idle_worker() -> None:
    """Who it is, that it takes jobs, and when it stops."""
    seen = World().read()
    now = time.time()
    assert (seen.worker, seen.instance, seen.model, seen.running) == ("one", "i-1", "fake", 0)
    assert (seen.is_awake, seen.is_degraded, seen.token_at) == (True, False, None)
    assert seen.since == seen.active_at == pytest.approx(now, abs=5)
    assert seen.idle_deadline == pytest.approx(now + 300, abs=5)
    assert Situation(now, workers=(seen,)).idle_seconds == pytest.approx(300, abs=5)


def test_a_worker_at_work() -> None:
    """Its last token counts as a sign of life, and it counts nothing down."""
    world = World()
    world.services.idle.begin()
    world.services.pulse.beat()
    seen = world.read()
    assert world.services.pulse.token_at is not None
    assert seen.active_at == seen.token_at == round(world.services.pulse.token_at, 3)
    assert seen.idle_deadline is None
    assert Situation(time.time(), workers=(seen,)).idle_seconds is None


def test_a_worker_in_trouble_or_on_its_way_out() -> None:
    """By the words that the Lambdas look for."""
    world = World()
    world.services.health.failed("s3", OSError("away"))
    assert world.read().is_degraded
    assert not world.read("draining").is_awake
    assert not Capacity.from_heartbeat(world.heartbeat.shown("draining")).is_awake


def test_what_it_can_do() -> None:
    """The router multiplies its slots."""
    assert Capacity.from_heartbeat(World().heartbeat.shown()).slots == 8


@pytest.mark.parametrize("phase", ["imports", "engine"])
def test_a_worker_that_loads(phase: str) -> None:
    """Each phase that it announces is one that `GET /status` knows."""
    assert _loading(booting_note(phase, time.time()).encode()) == phase
