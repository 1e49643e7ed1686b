"""The joint of a start's look at the budget, the killer's block and stops, and StartInstances, in every order.

The start is a router's, real but for EC2 and S3. It runs in a thread that is held before its look at the documents and
before its call. The killer, real as well, may let it go on before each of its own steps.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import fakeredis
import pytest

from router_lambda.budget import OVER_BUDGET, Budget
from router_lambda.budget_killer import PAUSE_SECONDS, WATCH_SECONDS, Block, Killer, KillFailed
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gpu import SETTLED_SECONDS, START_SECONDS, Gpu
from router_lambda.job import GPU_WAKING
from tests.budget_world import CAP, INVOCATION_SECONDS, Guarded
from tests.router_world import GPU_TAG, Clock, FakeEc2

STEPS = 4 + 2 * round(START_SECONDS / PAUSE_SECONDS)
"""Of the killer until the last start has called that can have looked before its block: the block, a look, perhaps a
stop, a pause; then a look and a pause each."""

LATE_LOOKS = round(SETTLED_SECONDS / PAUSE_SECONDS) - 1
"""How many looks of the killer EC2's list may be late for."""


class Start:
    """A start in a thread of its own, which takes a step whenever it may; `outcome` is there when it is over."""

    def __init__(self, start: Callable[[], object]) -> None:
        self.outcome = ""
        self._start = start
        self._may_go, self._is_held = threading.Semaphore(0), threading.Semaphore(0)
        self._thread = threading.Thread(target=self._run, daemon=True)

    def begin(self) -> None:
        """Go up to the look at the budget."""
        self._thread.start()
        self._is_held.acquire()

    def go_on(self) -> None:
        """Take the next step."""
        self._may_go.release()
        self._is_held.acquire()

    def end(self) -> str:
        """Take the steps that are left; return what came of it."""
        while not self.outcome:
            self.go_on()
        self._thread.join()
        return self.outcome

    def hold(self) -> None:
        """Wait for `go_on`; called by the start itself."""
        self._is_held.release()
        self._may_go.acquire()

    def _run(self) -> None:
        try:
            self._start()
        except Ec2Unavailable as error:
            self.outcome = error.code
        else:
            self.outcome = "started"
        self._is_held.release()


class World:
    """What both share: the bucket, EC2 with one stopped instance, and the clock.

    Attributes:
        late: how many looks EC2's list is late for after a start.
        pending_seconds: how long EC2 refuses to stop what was just started.
        before_step: is called with the number of each step of the killer, counted from 0.
    """

    def __init__(self) -> None:
        self.clock = Clock()
        self.ec2 = FakeEc2(self.clock)
        self.guarded = Guarded()
        self.guarded.spend(19.0)
        self.redis = fakeredis.FakeRedis(version=(6, 2))
        self.late = 0
        self.pending_seconds = 0.0
        self.before_step: Callable[[int], None] = lambda _: None
        self._steps = 0

    def start(self, cap_eur: float = CAP) -> Start:
        """Begin a start, which is held before its look."""
        world = self

        class Called(Ec2):
            """EC2 as the start calls it."""

            def start(self, instance_id: str) -> None:
                begun.hold()
                super().start(instance_id)
                world.ec2.lags = world.late

        def read() -> tuple[bytes | None, bytes | None]:
            begun.hold()
            return self.guarded.read()

        check = Budget(cap_eur, read, self.clock)
        gpu = Gpu(Called(GPU_TAG, lambda: self.ec2), self.redis, self.clock, self.clock.sleep, check)
        begun = Start(lambda: gpu.start("i-1"))
        begun.begin()
        return begun

    def kill(self) -> list[str]:
        """Let a killer run; return what it stopped."""
        world = self

        class Written(Block):
            """The bucket as the killer writes to it."""

            def write(self, cap_eur: float, now: float, reason: str) -> None:
                world.count()
                super().write(cap_eur, now, reason)

        class Called(Ec2):
            """EC2 as the killer calls it."""

            def find(self) -> list[Instance]:
                world.count()
                return super().find()

            def stop(self, instance_ids: list[str]) -> None:
                world.count()
                if instance_ids == ["i-1"] and world.clock.now < world.ec2.launched_at + world.pending_seconds:
                    raise Ec2Unavailable("IncorrectInstanceState", "is pending", 10)
                super().stop(instance_ids)

        def sleep(seconds: float) -> None:
            world.count()
            world.clock.sleep(seconds)

        self._steps, end = 0, self.clock.now + INVOCATION_SECONDS
        block, ec2 = Written("tl-fif", lambda: self.guarded), Called(GPU_TAG, lambda: self.ec2)
        return Killer(CAP, block, ec2, self.clock, sleep)("AWS Budgets", lambda: end - self.clock.now)

    def count(self) -> None:
        """Let the start go on before a step of the killer."""
        step, self._steps = self._steps, self._steps + 1
        self.before_step(step)

    def try_again(self, cap_eur: float = CAP) -> str:
        """Return what comes of a start once the instance has stopped, and Redis has forgotten the one before."""
        self.redis.delete(GPU_WAKING)
        return self.start(cap_eur).end()

    @property
    def is_up(self) -> bool:
        """Whether anything costs money."""
        return bool({self.ec2.state, *self.ec2.beside.values()} & {"pending", "running"})


def play(world: World, look: int, call: int) -> tuple[str, list[str]] | None:
    """Let a start look before one step of the killer and call before another one.

    Return what came of it and what was stopped; `None` if no start takes that long.
    """
    start, looked_at = world.start(), 0.0
    is_possible = True

    def go_on(step: int) -> None:
        nonlocal looked_at, is_possible
        if step == look:
            looked_at = world.clock.now
            start.go_on()
        if step == call:
            is_possible = world.clock.now - looked_at <= START_SECONDS
            if is_possible:
                start.end()

    world.before_step = go_on
    stopped = world.kill()
    outcome = start.end()
    return (outcome, stopped) if is_possible else None


@pytest.mark.parametrize("late", [0, LATE_LOOKS])
@pytest.mark.parametrize("pending_seconds", [0.0, 6.0])
@pytest.mark.parametrize("beside", [None, "running"])
def test_nothing_stays_up_in_whatever_order_it_comes(late: int, pending_seconds: float, beside: str | None) -> None:
    """A start that looks after the block is refused, and one that looked before it is found and stopped.

    Also where EC2 shows it late and does not stop it at once, and where something ran before.
    """
    outcomes = []
    for look in range(STEPS):
        for call in range(look, STEPS):
            world = World()
            world.late, world.pending_seconds = late, pending_seconds
            world.ec2.beside = {} if beside is None else {"i-2": beside}
            played = play(world, look, call)
            if played is None:
                continue
            outcome, stopped = played
            assert outcome == ("started" if look == 0 else OVER_BUDGET), (look, call)
            assert not world.is_up, (look, call)
            assert sorted(stopped) == ["i-1"] * (outcome == "started") + ["i-2"] * (beside is not None)
            assert world.try_again() == OVER_BUDGET
            outcomes.append(outcome)

    assert outcomes.count("started") >= STEPS - 3
    assert outcomes.count(OVER_BUDGET) > 50


def test_the_watch_is_as_long_as_it_has_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    """A killer that looks for one start's time less leaves one up: the test above can fail."""
    monkeypatch.setattr("router_lambda.budget_killer.WATCH_SECONDS", WATCH_SECONDS - START_SECONDS)
    worlds = [World() for _ in range(STEPS)]
    for call, world in enumerate(worlds):
        world.late = LATE_LOOKS
        play(world, 0, call)

    assert any(world.is_up for world in worlds)


def test_a_block_that_fails_is_written_by_the_next_call() -> None:
    """Until then a start may pass, whenever it looks; SNS calls again, and that run finds it."""
    for look in range(STEPS):
        world = World()
        world.guarded.failure = OSError("planted")
        with pytest.raises(KillFailed, match="could not be written"):
            play(world, look, look)

        world.guarded.failure, world.before_step = None, lambda _: None
        world.kill()
        assert not world.is_up
        assert world.try_again() == OVER_BUDGET


def test_a_killer_that_dies_leaves_its_block() -> None:
    """Nobody starts anything, and the next call stops what still runs."""

    class Died(BaseException):
        """What happens to it."""

    def die(step: int) -> None:
        if step == 1:
            raise Died

    world = World()
    world.ec2.beside = {"i-2": "running"}
    world.before_step = die
    with pytest.raises(Died):
        world.kill()
    assert world.try_again() == OVER_BUDGET

    world.before_step = lambda _: None
    assert world.kill() == ["i-2"]


def test_two_killers_at_once_do_what_one_does() -> None:
    """Both who can call do so in the same minute; whoever comes first stops it, and both succeed."""
    for step in range(STEPS):
        world = World()
        world.ec2.state = "running"
        stopped: list[str] = []

        def kill_too(now: int, step: int = step, world: World = world, stopped: list[str] = stopped) -> None:
            if now == step:
                world.before_step = lambda _: None
                stopped += world.kill()

        world.before_step = kill_too
        stopped += world.kill()
        assert set(stopped) == {"i-1"}
        assert not world.is_up


def test_a_cap_that_is_raised_lets_the_next_start_pass() -> None:
    """Without anybody deleting anything. One in the killer's last seconds is stopped once more, and not again."""
    world = World()
    world.kill()
    assert world.try_again() == OVER_BUDGET
    assert world.try_again(cap_eur=40.0) == "started"

    world = World()

    def start(step: int) -> None:
        if step == STEPS:
            world.start(cap_eur=40.0).end()

    world.before_step = start
    assert world.kill() == ["i-1"]
    world.before_step = lambda _: None
    assert world.try_again(cap_eur=40.0) == "started"
