"""How many bytes and requests the snapshots of a reply cost, in a time of its own that jumps from event to event.

The publisher, its pacing and the reply are the worker's; the engine says so many tokens a second, and a store that
keeps nothing takes `PUT_SECONDS` for each write. The same numbers come out each time.
"""

from __future__ import annotations

import asyncio
import math
import os
import selectors
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import pairwise
from types import SimpleNamespace
from typing import Any, Final
from unittest import mock

import anyio

from router_lambda.job import new_job_id
from worker.engine import Delta, Step
from worker.health import Health
from worker.lease import Lease
from worker.pacing import LARGE_BYTES, SMOOTH_BYTES
from worker.publisher import Publisher
from worker.pulse import Pulse
from worker.queue import Claim, JobQueue
from worker.reply import Document, Reply
from worker.store import PART_BYTES, ReplyStore

PUT_SECONDS: Final = 0.025
"""What a small PUT takes in the same region of AWS."""

EPOCH: Final = 1_790_000_000.0
BUCKET: Final = "tl-fif"
WORD: Final = " token"
PEER_SECONDS: Final = 1.0
"""Interval of the peer, which writes the whole document again in even steps."""


@dataclass(frozen=True, slots=True)
class Shape:
    """A reply: tokens of each of its choices, tokens a second, most likely tokens that are listed with each.

    `streams` is how many replies the worker streams at once.
    """

    tokens: int
    per_second: int
    choices: int = 1
    logprobs: int = 0
    streams: int = 1

    def __str__(self) -> str:
        many = f" in {self.choices} choices, {self.logprobs} logprobs each," if self.logprobs else ""
        among = f", one of {self.streams}" if self.streams > 1 else ""
        return f"{self.tokens:,} tokens{many} at {self.per_second}/s{among}"

    def steps(self) -> Iterator[Step]:
        """Yield what the engine says."""
        top = [{"token": WORD, "logprob": -1.2345678901234567 - rank} for rank in range(self.logprobs)]
        said = [{**top[0], "top_logprobs": top}] if top else None
        for number in range(self.tokens):
            end = "length" if number == self.tokens - 1 else None
            yield Step(40, [Delta(choice, WORD, 1, end, said) for choice in range(self.choices)])


SHAPES: Final = (
    Shape(64, 20),
    Shape(64, 100),
    Shape(256, 20),
    Shape(256, 100),
    Shape(256, 20, streams=64),
    Shape(2_048, 20),
    Shape(2_048, 100),
    Shape(2_048, 20, choices=8, logprobs=20),
)
"""The last one is the largest that a request can ask for."""


@dataclass
class Cost:
    """What became of one reply: the sizes of its writes in bytes and when each began, in seconds; so of the peer."""

    shape: Shape
    written: list[int] = field(default_factory=list)
    began: list[float] = field(default_factory=list)
    peer: list[int] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        """Bytes written by those of the final document."""
        return sum(self.written) / self.written[-1]

    @property
    def bound(self) -> float:
        """What the pacing allows of it, see `worker.pacing`, and once more for the final document itself."""
        final = self.written[-1]
        fine, doubling = 9 * final + SMOOTH_BYTES, 2 * final + LARGE_BYTES * (11 + math.log2(final / LARGE_BYTES))
        return min(fine, doubling) / final + 1

    @property
    def longest_gap(self) -> float:
        """Longest time in which a reader saw nothing new, in seconds."""
        return max((after - before for before, after in pairwise(self.began)), default=0.0)

    @property
    def peer_ratio(self) -> float:
        """Bytes that the peer writes by those of the final document."""
        return sum(self.peer) / self.peer[-1]

    @property
    def requests(self) -> int:
        """Requests to S3; one that writes is $0.0000054, so a thousand replies of 15 cost eight cents."""
        return sum(map(_requests, self.written))


def _requests(size: int) -> int:
    return 1 if size <= PART_BYTES else 2 + math.ceil(size / PART_BYTES)


class Nowhere(ReplyStore):
    """A bucket that keeps nothing but the sizes of what was written; a write takes `seconds`."""

    def __init__(self, seconds: float) -> None:
        super().__init__(None, BUCKET)
        self.sizes: list[int] = []
        self.began: list[float] = []
        self._seconds = seconds

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:  # noqa: ARG002
        """See `ReplyStore.write`."""
        self.sizes.append(document.size)
        self.began.append(anyio.current_time())
        await anyio.sleep(self._seconds)
        return f'"{len(self.sizes)}"'


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing: what it was to wait is added to the clock."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready, and let the time pass."""
        self.now += timeout or 0.0
        return super().select(0)


class JumpingLoop(asyncio.SelectorEventLoop):
    """An event loop that has no timers to wait for: its time jumps to the next one."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the seconds that would have passed."""
        return self._jumping.now


def new_publisher(store: ReplyStore, clock: Callable[[], float], pulse: Pulse) -> tuple[Reply, Publisher]:
    """Return an empty reply and its publisher, whose lease holds for ever."""
    job_id = new_job_id(os.urandom(16))
    reply = Reply(job_id, "SmolLM2-135M-Instruct", attempt=1, enqueued_at=clock(), now=clock())
    claim = Claim("run", 1)
    lease = Lease(job_id, claim, _unused_queue(), Health(), clock=lambda: claim.asked_at)
    return reply, Publisher(store, Health(), reply, lease, clock, pulse=pulse)


@cache
def _unused_queue() -> JobQueue:
    """Return what a lease would ask if it ran out."""
    return JobQueue.from_url("redis://127.0.0.1:1/0", "bench")


def cost(shape: Shape) -> Cost:
    """Stream one reply and return what it cost."""
    found = Cost(shape)
    options: dict[str, Any] = {"loop_factory": JumpingLoop}
    anyio.run(_stream, shape, found, backend_options=options)
    return found


async def _stream(shape: Shape, found: Cost) -> None:
    loop = asyncio.get_running_loop()
    store = Nowhere(PUT_SECONDS)
    # The pacing's clock; the rest of the worker has none of its own here.
    with mock.patch("worker.publisher.time", SimpleNamespace(monotonic=loop.time)):
        pulse = Pulse()
        pulse.streams = shape.streams
        reply, publisher = new_publisher(store, lambda: EPOCH + loop.time(), pulse)
        reply.expect(shape.choices)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher.snapshots)
            for number, step in enumerate(shape.steps()):
                await anyio.sleep(1 / shape.per_second)
                reply.add(step, EPOCH + loop.time())
                publisher.grown()
                if number % (shape.per_second * PEER_SECONDS) == 0:
                    found.peer.append(reply.size)
            publisher.end()
        reply.finish("done", EPOCH + loop.time())
        await publisher.write_last()
    found.written, found.began = store.sizes, store.began
    found.peer.append(found.written[-1])
