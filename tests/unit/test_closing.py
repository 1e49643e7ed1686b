"""When the GPU is closed, and what keeps it open."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Iterator
from unittest.mock import MagicMock

import anyio
import pytest

from tests.idle_timers import AIM_SECONDS, IdleWorker, percentile_99
from tests.simulation.loop import VirtualLoop, clocks_of, virtual
from worker.closing import LOOK_SECONDS, PATIENCE_SECONDS, Closed
from worker.errors import QueueUnavailable
from worker.queue import JobQueue


class Queue(JobQueue):
    """Closes as the test wants it: `busy` so many times first, `away` while Redis does not answer."""

    def __init__(self) -> None:
        self.busy = 0
        self.away = False
        self.stop = False
        self.asked = 0
        self.shown: list[str] = []

    async def is_stop_wanted(self) -> bool:
        """Tell what the test wants."""
        await anyio.lowlevel.checkpoint()
        if self.away:
            raise QueueUnavailable("away")
        return self.stop

    async def close(self, heartbeat: str, life: int) -> bool:
        """Close, unless it is busy or away."""
        self.asked += 1
        if self.away:
            await anyio.sleep(5.0)  # as long as the client waits for an answer
            raise QueueUnavailable("away")
        await anyio.lowlevel.checkpoint()
        self.shown.append(json.loads(heartbeat)["state"])
        self.busy -= 1
        return self.busy < 0


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """Yield a loop whose seconds take no time."""
    with virtual(1, clocks_of("worker")) as made:
        yield made


def test_it_closes_when_the_time_is_up(loop: VirtualLoop) -> None:
    """Not before; it shows that it drains, and takes no more jobs."""

    async def live() -> None:
        queue = Queue()
        worker = IdleWorker(queue, 5)
        assert 0 <= await worker.seconds_late() < AIM_SECONDS
        assert (queue.asked, queue.shown, worker.jobs.draining) == (1, ["draining"], True)

    loop.run(live())


def test_what_waits_keeps_it_open(loop: VirtualLoop) -> None:
    """It tries again every second, and says how late it is in the end."""

    async def live() -> None:
        queue = Queue()
        queue.busy = 3
        worker = IdleWorker(queue, 5)
        closed = await worker.closing.closed()
        assert closed.reason == "idle"
        assert closed.seconds_late == pytest.approx(3 * LOOK_SECONDS, abs=0.1)
        assert queue.asked == 4

    loop.run(live())


def test_somebody_wants_it_to_stop(loop: VirtualLoop) -> None:
    """Within a second, long before the time is up."""

    async def live() -> None:
        queue = Queue()
        worker = IdleWorker(queue, 5)
        await anyio.sleep(10)
        queue.stop = True
        with anyio.fail_after(LOOK_SECONDS + 0.1):
            assert await worker.closing.closed() == Closed("asked", 0.0)

    loop.run(live())


def test_while_a_job_runs_nobody_can_stop_it(loop: VirtualLoop) -> None:
    """Neither the time nor a wish; right after it the wish is seen."""

    async def live() -> None:
        queue = Queue()
        queue.stop = True
        worker = IdleWorker(queue, 0.01)
        worker.jobs._tasks["one"] = MagicMock(anyio.TaskHandle)
        worker.services.idle.begin()
        with anyio.move_on_after(100) as patience:
            await worker.closing.closed()
        assert patience.cancelled_caught
        assert queue.asked == 0
        worker.services.idle.end(30)
        del worker.jobs._tasks["one"]
        assert (await worker.closing.closed()).reason == "asked"

    loop.run(live())


def test_a_worker_that_drains_for_another_reason_closes_nothing(loop: VirtualLoop) -> None:
    """A signal ends the process, and not the instance."""

    async def live() -> None:
        queue = Queue()
        worker = IdleWorker(queue, 1)
        worker.jobs.drain()
        with anyio.move_on_after(1_000) as patience:
            await worker.closing.closed()
        assert patience.cancelled_caught
        assert queue.asked == 0

    loop.run(live())


def test_without_redis_it_closes_after_a_while(loop: VirtualLoop) -> None:
    """An idle GPU must not run for as long as Redis is away."""

    async def live() -> None:
        queue = Queue()
        queue.away = True
        worker = IdleWorker(queue, 1)
        late = await worker.seconds_late()
        assert PATIENCE_SECONDS <= late < PATIENCE_SECONDS + 15
        assert worker.services.health.components["redis"] == "away"

    loop.run(live())


def test_a_short_outage_only_delays_it(loop: VirtualLoop) -> None:
    """Redis is back: what it says counts, and the patience is whole again."""

    async def live() -> None:
        queue = Queue()
        queue.away = True
        queue.busy = 10
        worker = IdleWorker(queue, 1)

        async def come_back() -> None:
            await anyio.sleep(60 + 30)
            queue.away = False
            await anyio.sleep(5)
            queue.away = True
            await anyio.sleep(30)
            queue.away = False

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(come_back)
            assert 65 <= await worker.seconds_late() < 80
        assert queue.shown

    loop.run(live())


# A request over HTTP, of which Redis knows nothing, in every order with the closing


def test_a_request_that_runs_keeps_it_open(loop: VirtualLoop) -> None:
    """Whatever its own idle time says, and though somebody wants it to stop."""

    async def live() -> None:
        queue = Queue()
        queue.stop = True
        worker = IdleWorker(queue, 1)
        assert await worker.jobs.places.take("request")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.closing.closed)
            await anyio.sleep(120)
            assert (queue.asked, worker.jobs.draining) == (0, False)
            worker.jobs.places.leave("request")

    loop.run(live())


def test_a_request_that_comes_during_the_closing_waits_for_what_comes_of_it(loop: VirtualLoop) -> None:
    """It is let in if something else keeps the GPU open."""

    async def live() -> None:
        queue = Queue()
        queue.busy = 1
        worker = IdleWorker(queue, 1)
        came: list[bool] = []

        async def come() -> None:
            came.append(await worker.jobs.places.take("request"))

        async def close(heartbeat: str, life: int) -> bool:
            tasks.start_soon(come)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            assert (came, worker.jobs.places.waiting_requests) == ([], 1)
            return await Queue.close(queue, heartbeat, life)

        async with anyio.create_task_group() as tasks:
            queue.close = close  # type: ignore[method-assign]
            tasks.start_soon(worker.closing.closed)
            for _ in range(90):  # in one go, time would leap over the closing
                await anyio.sleep(1)
            assert (came, worker.jobs.draining) == ([True], False)
            tasks.cancel_scope.cancel()

    loop.run(live())


def test_a_request_that_comes_during_the_closing_is_refused_when_it_closes(loop: VirtualLoop) -> None:
    """Else it would be cut off by the stop."""

    async def live() -> None:
        queue = Queue()
        worker = IdleWorker(queue, 1)
        came: list[bool] = []

        async def come() -> None:
            came.append(await worker.jobs.places.take("request"))

        async def close(heartbeat: str, life: int) -> bool:
            tasks.start_soon(come)
            for _ in range(20):
                await anyio.lowlevel.checkpoint()
            return await Queue.close(queue, heartbeat, life)

        async with anyio.create_task_group() as tasks:
            queue.close = close  # type: ignore[method-assign]
            await worker.closing.closed()
        assert came == [False]

    loop.run(live())


def test_a_request_that_comes_before_the_closing_begins_stops_it(loop: VirtualLoop) -> None:
    """While Redis is asked whether somebody wants the GPU to stop."""

    async def live() -> None:
        queue = Queue()
        worker = IdleWorker(queue, 5)

        async def is_stop_wanted() -> bool:
            if not worker.jobs.places.requests:
                assert await worker.jobs.places.take("request")
            return True

        queue.is_stop_wanted = is_stop_wanted  # type: ignore[method-assign]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(worker.closing.closed)
            await anyio.sleep(10)
            assert (queue.asked, worker.jobs.draining) == (0, False)
            tasks.cancel_scope.cancel()

    loop.run(live())


def test_a_request_after_the_closing_is_refused(loop: VirtualLoop) -> None:
    """And told what wakes the GPU."""

    async def live() -> None:
        worker = IdleWorker(Queue(), 1)
        await worker.closing.closed()
        assert not await worker.jobs.places.take("request")

    loop.run(live())


def test_a_thousand_timers_end_on_time(capsys: pytest.CaptureFixture[str]) -> None:
    """Each worker with a world, jobs, wishes and a default of its own."""
    late: list[float] = []

    async def live(number: int) -> None:
        rng = random.Random(number)
        worker = IdleWorker(Queue(), rng.uniform(0.2, 3.0))
        await worker.use(rng, most_pause=10.0, most_seconds=600.0, wishes=(1, 2, 5, 7))
        late.append(await worker.seconds_late())

    for number in range(1_000):
        with virtual(number, clocks_of("worker")) as loop:
            loop.run(live(number))
    assert len(late) == 1_000
    assert min(late) > -0.001
    assert max(late) <= AIM_SECONDS
    with capsys.disabled():
        sys.stdout.write(
            f"\n1,000 simulated idle timers: p99 {percentile_99(late):.3f} s late, largest {max(late):.3f} s\n"
        )
