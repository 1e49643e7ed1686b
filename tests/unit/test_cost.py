"""The daemon's own work for a token, counted in calls: the same number each time, on any machine.

A benchmark shows that a change made the daemon slower; this shows it before. Whoever makes it do less lowers the
number here.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

import anyio
import fakeredis

from router_lambda.job import Job
from router_lambda.queue import Queue
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker.engine import Delta, Step
from worker.health import Health
from worker.line import Line
from worker.queue import JobQueue
from worker.run import Run, Services

CALLS_PER_TOKEN = 15
"""Python and C functions called for a token between the engine and the reply, on CPython 3.11."""

SHORT, LONG = 1_000, 3_000


class Talker(FakeEngine):
    """Says the same word `tokens` times, and calls `at_end` before the last one."""

    def __init__(self, tokens: int, at_end: Callable[[], None]) -> None:
        super().__init__()
        self.tokens = tokens
        self.at_end = at_end

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Stream the words."""
        for _ in range(self.tokens - 1):
            await asyncio.sleep(0)
            yield Step(7, [Delta(0, " word", 1)])
        self.at_end()
        yield Step(7, [Delta(0, " end", 1, "stop")])


def calls_in(coroutine: Callable[[], Awaitable[Any]]) -> int:
    """Run something and return how many functions it called."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in {"call", "c_call"}

    async def counted() -> None:
        sys.setprofile(count)
        try:
            await coroutine()
        finally:
            sys.setprofile(None)

    asyncio.run(counted())
    return calls


def alone(tokens: int) -> int:
    """Return the calls of the engine and a loop around it."""

    async def listen() -> None:
        async for _ in Talker(tokens, lambda: None).generate(make_job()):
            pass

    return calls_in(listen)


def with_the_daemon(tokens: int) -> int:
    """Return the calls of a whole run, whose first snapshot is on its way to S3 until the last token."""
    server = fakeredis.FakeServer(version=(6, 2))
    job, store = make_job(), MemoryStore()
    with fakeredis.FakeRedis(server=server) as router:
        Queue(router).enqueue(job)

    async def run() -> None:
        gate = store.gate = anyio.Event()
        blocking, commands = (fakeredis.FakeAsyncRedis(server=server) for _ in range(2))
        queue = JobQueue(Line(blocking), commands, "one")
        services = Services(Talker(tokens, gate.set), queue, store, Health())
        ((_, claim),) = (await queue.take(1, wait=False)).claims
        await Run(job.id, claim, services).finish()
        await queue.aclose()

    calls = calls_in(run)
    (body, *_) = store.objects.popitem()[1]
    assert json.loads(body)["usage"]["completion_tokens"] == tokens
    assert len(store.written) == 2
    return calls


def test_a_token_costs_no_more_than_it_does_today() -> None:
    """Between engine and reply; what runs once for a job cancels out, and what runs once for all ran before."""
    with_the_daemon(1)
    ours = with_the_daemon(LONG) - with_the_daemon(SHORT)
    floor = alone(LONG) - alone(SHORT)
    # A call now and then, such as a timer's, is none for each token; one more for each is found.
    assert round((ours - floor) / (LONG - SHORT), 1) <= CALLS_PER_TOKEN
