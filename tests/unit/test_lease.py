"""What a run knows of its lease, when it asks, and what may happen to it meanwhile."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from worker.errors import LeaseLost, QueueUnavailable
from worker.health import Health
from worker.lease import ASK_AGAIN_SECONDS, Lease
from worker.lua import LEASE_SECONDS
from worker.queue import Claim, JobQueue


class OneLease(JobQueue):
    """A queue with one lease: `mine` says whose it is; `calls` are noted, and wait for `gate` if there is one."""

    def __init__(self) -> None:
        self.mine = True
        self.away = False
        self.calls: list[str] = []
        self.gate: anyio.Event | None = None

    async def retake(self, job_id: str, claim: Claim) -> bool:
        """Say whose it is."""
        await self._note("retake")
        return self.mine

    async def acknowledge(self, job_id: str) -> bool:
        """Note it."""
        await self._note("acknowledge")
        return True

    async def release(self, job_id: str) -> bool:
        """Note it."""
        await self._note("release")
        return True

    async def _note(self, call: str) -> None:
        self.calls.append(call)
        await anyio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.away:
            raise QueueUnavailable("away")


class Scene:
    """A lease, its queue and its clock."""

    def __init__(self) -> None:
        self.queue = OneLease()
        self.health = Health()
        self.now = 1_000.0
        self.lease = Lease("id", Claim("run", 1, 0.0, b"{}", self.now), self.queue, self.health, lambda: self.now)


@pytest.fixture
def on() -> Scene:
    """Return a lease that was just taken."""
    return Scene()


async def test_a_lease_that_must_still_hold_is_not_asked_for(on: Scene) -> None:
    """Each renewal counts from when it was sent, not from when it was answered."""
    on.now += LEASE_SECONDS - 0.1
    await on.lease.check()
    on.lease.renewed(on.now)
    on.now += LEASE_SECONDS - 0.1
    await on.lease.check()
    assert on.queue.calls == []


async def test_one_that_may_have_run_out_is(on: Scene) -> None:
    """Once; then it holds again."""
    on.now += LEASE_SECONDS
    await on.lease.check()
    await on.lease.check()
    assert on.queue.calls == ["retake"]


async def test_one_that_somebody_else_has_is_lost_for_good(on: Scene) -> None:
    """Nothing may be written any more, and nobody is asked again."""
    on.now += LEASE_SECONDS
    on.queue.mine = False
    for _ in range(2):
        with pytest.raises(LeaseLost):
            await on.lease.check()
    assert (on.lease.lost, on.queue.calls) == (True, ["retake"])


async def test_without_redis_the_write_may_go_on(on: Scene) -> None:
    """Its own condition guards it; Redis is asked again a little later, not before each write."""
    on.now += LEASE_SECONDS
    on.queue.away = True
    await on.lease.check()
    await on.lease.check()
    assert on.queue.calls == ["retake"]
    assert on.health.components["redis"] == "away"
    on.now += ASK_AGAIN_SECONDS
    on.queue.away = False
    on.queue.mine = False
    with pytest.raises(LeaseLost):
        await on.lease.check()


@pytest.mark.parametrize("end", ["acknowledge", "release"])
async def test_one_that_is_given_up_is_not_taken_back(on: Scene, end: str) -> None:
    """Neither afterwards nor while the answer is on its way: that would bring the job back."""
    on.queue.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(getattr(on.lease, end))
        while not on.queue.calls:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(on.lease.retake)
        await anyio.lowlevel.checkpoint()
        on.queue.gate.set()
    assert on.queue.calls == [end]


async def test_giving_up_waits_for_a_lease_that_is_being_taken_back(on: Scene) -> None:
    """In this order nothing stays behind."""
    on.queue.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(on.lease.retake)
        while not on.queue.calls:
            await anyio.lowlevel.checkpoint()
        tasks.start_soon(on.lease.acknowledge)
        for _ in range(5):
            await anyio.lowlevel.checkpoint()
        assert on.queue.calls == ["retake"]
        on.queue.gate.set()
    assert on.queue.calls == ["retake", "acknowledge"]


async def test_an_acknowledgement_can_be_repeated(on: Scene) -> None:
    """As long as Redis is away."""
    on.queue.away = True
    with pytest.raises(QueueUnavailable):
        await on.lease.acknowledge()
    on.queue.away = False
    assert await on.lease.acknowledge()
