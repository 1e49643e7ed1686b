"""When the heartbeat beats, what it says, and what it does while Redis is away."""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from tests.fakes import FakeEngine, MemoryStore
from worker import heartbeat
from worker.errors import QueueUnavailable
from worker.health import Health
from worker.heartbeat import HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS, Heartbeat
from worker.jobs import Jobs
from worker.queue import JobQueue
from worker.run import Services

ASKED_FOR = 1_790_000_000.0
"""When the instance's start was asked for."""


class Listener(JobQueue):
    """Notes the beats; raises what a test puts into `failures` first, and calls `during` in the middle of a beat."""

    def __init__(self) -> None:
        self.beats: list[dict[str, Any]] = []
        self.firsts: list[bool] = []
        self.lives: list[int] = []
        self.failures: list[Exception] = []
        self.withdrawals = 0
        self.during: Callable[[], None] = lambda: None

    async def begin(self, heartbeat: str, life: int) -> float | None:
        """Note the first beat or fail."""
        await self._note(heartbeat, life, first=True)
        return ASKED_FOR

    async def beat(self, heartbeat: str, life: int) -> None:
        """Note a later beat or fail."""
        await self._note(heartbeat, life, first=False)

    async def _note(self, heartbeat: str, life: int, *, first: bool) -> None:
        await anyio.lowlevel.checkpoint()
        self.during()
        self.firsts.append(first)
        if self.failures:
            raise self.failures.pop(0)
        self.beats.append(json.loads(heartbeat))
        self.lives.append(life)

    async def withdraw(self) -> None:
        """Note it or fail."""
        await anyio.lowlevel.checkpoint()
        self.withdrawals += 1
        if self.failures:
            raise self.failures.pop(0)


class World:
    """A worker without jobs, and its heartbeat."""

    def __init__(self) -> None:
        self.queue = Listener()
        self.health = Health()
        services = Services(FakeEngine(), self.queue, MemoryStore(), self.health)
        self.jobs = Jobs(services, 8)
        self.services = services
        self.heartbeat = Heartbeat(services, self.jobs, "i-1")

    @asynccontextmanager
    async def beating(self) -> AsyncIterator[None]:
        """Keep the heartbeat up meanwhile."""
        async with anyio.create_task_group() as tasks:
            self.asked_for = await tasks.start(self.heartbeat.keep)
            yield
            tasks.cancel_scope.cancel()

    async def until_beats(self, count: int) -> None:
        """Let other tasks run until so many beats were heard."""
        with anyio.fail_after(5):
            while len(self.queue.beats) < count:
                await anyio.lowlevel.checkpoint()


@pytest.fixture
def world() -> World:
    """Return a new world."""
    return World()


@pytest.fixture
def no_renewal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next regular beat never come."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", math.inf)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make the next beat come at once."""
    monkeypatch.setattr(heartbeat, "HEARTBEAT_SECONDS", 0.0)


def test_two_beats_may_fail_before_the_key_runs_out() -> None:
    """The contract's numbers."""
    assert (HEARTBEAT_SECONDS, HEARTBEAT_TTL_SECONDS) == (3.0, 10)


def test_it_says_what_the_routers_ask(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every field, with null for what is not known yet; an idle worker says when it stops."""
    monkeypatch.setattr("time.time", lambda: 1_790_000_000.5)
    shown = json.loads(world.heartbeat.shown())
    assert shown.pop("since") > 0
    assert shown.pop("idle_deadline") == pytest.approx(1_790_000_300.5, abs=60)
    assert shown == {
        "state": "ready",
        "running": 0,
        "model": "fake",
        "slots": 8,
        "job_seconds": None,
        "instance": "i-1",
        "token_at": None,
    }


def test_a_busy_worker_says_no_time_and_one_that_closes_says_so(world: World) -> None:
    """The countdown is suspended while a job runs, and the last token's time is told."""
    world.services.idle.begin()
    world.services.pulse.beat()
    shown = json.loads(world.heartbeat.shown("draining"))
    assert (shown["state"], shown["idle_deadline"]) == ("draining", None)
    assert shown["token_at"] == pytest.approx(time.time(), abs=60)


async def test_requests_over_http_count_as_what_runs(world: World) -> None:
    """They take places from jobs, and without them no router would believe in a queue that goes on."""
    for _ in range(8):
        assert await world.jobs.places.take("request")
    shown = json.loads(world.heartbeat.shown())
    assert (shown["running"], shown["slots"]) == (8, 1)


async def test_it_hands_on_when_the_start_was_asked_for(world: World, no_renewal: None) -> None:
    """As the first beat has found it in Redis."""
    async with world.beating():
        assert world.asked_for == ASKED_FOR


async def test_the_first_beat_is_out_when_it_has_started(world: World, no_renewal: None) -> None:
    """Nobody hears that the worker is ready before the routers can see it."""
    async with world.beating():
        assert [(beat["state"], beat["model"]) for beat in world.queue.beats] == [("ready", "fake")]
        assert world.queue.lives == [HEARTBEAT_TTL_SECONDS]


async def test_only_the_first_beat_is_the_first(world: World, no_waiting: None) -> None:
    """The later ones leave the note of a start that was asked for alone."""
    async with world.beating():
        await world.until_beats(3)
    assert world.queue.firsts[:3] == [True, False, False]


async def test_a_drain_is_told_at_once_and_once(world: World, no_renewal: None) -> None:
    """Not at the next regular beat; after that the regular beats go on alone."""
    async with world.beating():
        world.jobs.drain()
        await world.until_beats(2)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
    assert [beat["state"] for beat in world.queue.beats] == ["ready", "draining"]


async def test_a_draining_worker_keeps_beating(world: World, no_waiting: None) -> None:
    """It lives until its last job has ended."""
    world.jobs.drain()
    async with world.beating():
        await world.until_beats(3)
    assert {beat["state"] for beat in world.queue.beats} == {"draining"}


async def test_a_drain_during_a_beat_is_not_missed(world: World, no_renewal: None) -> None:
    """The beat that was under way said `ready`; the next one follows at once."""
    world.queue.during = world.jobs.drain
    async with world.beating():
        await world.until_beats(2)
    assert [beat["state"] for beat in world.queue.beats] == ["ready", "draining"]


async def test_redis_away_is_noted_and_the_next_beat_comes(world: World, no_waiting: None) -> None:
    """The daemon lives on; the first beat that arrives is the first, whatever came before it."""
    world.queue.failures = [QueueUnavailable("away"), QueueUnavailable("away")]
    async with world.beating():
        assert world.health.components["redis"] == "away"
        await world.until_beats(2)
    assert world.health.components["redis"] == "ok"
    assert world.queue.firsts[:4] == [True, True, True, False]


async def test_a_slow_redis_does_not_delay_the_next_beat(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beats are due from begin to begin, or one that hangs for its whole bound would let the key run out."""
    now = 100.0

    def hang() -> None:
        nonlocal now
        now += 5.0

    monkeypatch.setattr(anyio, "current_time", lambda: now)
    world.queue.during = hang
    assert await world.heartbeat._beat() == 100.0 + HEARTBEAT_SECONDS


async def test_the_end_takes_the_heartbeat_away() -> None:
    """Once, also where the task that ends is cancelled, and whether or not Redis answers."""
    queue = Listener()
    await heartbeat.end(queue)
    queue.failures = [QueueUnavailable("away")]
    with anyio.CancelScope() as scope:
        scope.cancel()
        await heartbeat.end(queue)
    assert (queue.withdrawals, queue.failures) == (2, [])


async def test_the_end_does_not_wait_for_a_redis_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The process goes, and the key runs out by itself."""
    monkeypatch.setattr(heartbeat, "END_SECONDS", 0.0)
    queue = Listener()
    monkeypatch.setattr(queue, "withdraw", anyio.sleep_forever)
    with anyio.fail_after(5):
        await heartbeat.end(queue)
