"""Real idle timers over a real Redis, in seconds instead of minutes: how exactly they end."""

from __future__ import annotations

import random
import sys
from collections.abc import AsyncIterator

import anyio
import pytest

from tests.idle_timers import AIM_SECONDS, IdleWorker, percentile_99
from worker.queue import JobQueue

TIMERS = 24


@pytest.fixture
async def queues(redis_url: str) -> AsyncIterator[list[JobQueue]]:
    """Yield the queues of so many workers."""
    made = [JobQueue.from_url(redis_url, f"worker-{number}") for number in range(TIMERS)]
    yield made
    for queue in made:
        await queue.aclose()


async def test_real_timers_end_on_time(queues: list[JobQueue], capsys: pytest.CaptureFixture[str]) -> None:
    """Beside plain sleeps of the same length, whose own lateness on a busy machine is not the timers'."""
    late: list[float] = []
    asleep: list[float] = []

    async def live(number: int) -> None:
        rng = random.Random(number)
        worker = IdleWorker(queues[number], rng.uniform(0.5, 3.0) / 60)
        await worker.use(rng, most_pause=0.2, most_seconds=0.5, wishes=(5,))
        late.append(await worker.seconds_late())

    async def sleep(seconds: float) -> None:
        due = anyio.current_time() + seconds
        await anyio.sleep(seconds)
        asleep.append(anyio.current_time() - due)

    async with anyio.create_task_group() as tasks:
        for number in range(TIMERS):
            tasks.start_soon(live, number)
            tasks.start_soon(sleep, 0.5 + number / 10)

    assert len(late) == TIMERS
    assert min(late) > -0.05
    with capsys.disabled():
        sys.stdout.write(
            f"\n{TIMERS} real idle timers: p99 {percentile_99(late):.3f} s late; sleeps {percentile_99(asleep):.3f} s\n"
        )
    assert percentile_99(late) - percentile_99(asleep) <= AIM_SECONDS
