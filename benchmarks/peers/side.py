"""The two sides of a measured queue, a process each: a worker that notes starts, and a producer that notes sends.

A module gives its queue by two functions and ends with `run(work, sender)`; then it can be run as

    python -m benchmarks.peers.raw work URL FOLDER 2000 200        0.json and 1.json: when each handler started
    python -m benchmarks.peers.raw produce URL FILE 2000 200 0.005 jobs 2000 to 2199, FILE: when each was sent

Times are monotonic seconds, which all processes of one Linux machine share. Only the standard library is imported here,
as every module runs with the packages of its own environment.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any, Final

SLOTS: Final = 16
"""Jobs that every worker runs at once."""

PROMPT: Final = "Why is the sky blue? " * 20
"""What every job carries, so that none is smaller than ours."""

Started = Callable[[int], None]
"""Called by the handler with the number of its job, first thing."""

Send = Callable[[int], Awaitable[None]]
"""Queues the job of that number."""


class Starts:
    """Notes when the handlers of a batch start, and writes that to a file once the batch is whole.

    The file has `at`: monotonic seconds by the job's number, counted from the first of the batch; and `cpu_seconds`:
    what this process took from the first start to the last.
    """

    def __init__(self, folder: Path, batches: list[int]) -> None:
        """Expect batches of so many jobs, numbered through; the first one is written to `0.json` in `folder`."""
        self._folder = folder
        self._batches = batches
        self._written = 0
        self._first = 0
        self._began_cpu = 0.0
        self._at: dict[int, float] = {}

    def __call__(self, number: int) -> None:
        """Note that a handler starts now; one that starts a second time counts once."""
        now = time.monotonic()
        if not self._at:
            self._began_cpu = time.process_time()
        self._at.setdefault(number, now)
        if self._written < len(self._batches) and len(self._at) == self._batches[self._written]:
            self._write(time.process_time() - self._began_cpu)

    def _write(self, cpu_seconds: float) -> None:
        size = self._batches[self._written]
        at = [self._at[number] for number in range(self._first, self._first + size)]
        write(self._folder / f"{self._written}.json", {"at": at, "cpu_seconds": cpu_seconds})
        self._at = {}
        self._first += size
        self._written += 1


def write(file: Path, content: Any) -> None:
    """Write JSON in one step: whoever sees the file sees all of it."""
    unfinished = file.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(content))
    unfinished.rename(file)


def run(
    work: Callable[[str, str, Started], Awaitable[None]],
    sender: Callable[[str, str], AbstractAsyncContextManager[Send]],
) -> None:
    """Be one side of a queue.

    Args:
        work: takes the address of Redis, the variant and what a handler calls; runs jobs until it is killed.
        sender: takes the address and the variant; queues jobs.
    """
    parser = argparse.ArgumentParser(description="One side of the queue benchmark; only for benchmarks.queue itself.")
    parser.add_argument("--variant", default="", help="which form of this queue")
    sides = parser.add_subparsers(dest="side", required=True)
    worker = sides.add_parser("work")
    worker.add_argument("url")
    worker.add_argument("folder", type=Path)
    worker.add_argument("batches", type=int, nargs="+")
    producer = sides.add_parser("produce")
    producer.add_argument("url")
    producer.add_argument("file", type=Path)
    producer.add_argument("first", type=int)
    producer.add_argument("jobs", type=int)
    producer.add_argument("gap_seconds", type=float, help="least time between two; 0 for all as fast as they go")
    options = parser.parse_args()
    if options.side == "work":
        asyncio.run(_work(work(options.url, options.variant, Starts(options.folder, options.batches))))
    else:
        numbers = range(options.first, options.first + options.jobs)
        sent = asyncio.run(_produce(sender(options.url, options.variant), numbers, options.gap_seconds))
        write(options.file, {"at": sent})


async def _work(working: Awaitable[None]) -> None:
    await working


async def _produce(sender: AbstractAsyncContextManager[Send], numbers: range, gap: float) -> list[float]:
    """Send a job after another; return when each was sent, before it went out."""
    sent = []
    async with sender as send:
        if not gap:
            for begin in numbers[::SLOTS]:
                await asyncio.gather(*map(send, range(begin, min(begin + SLOTS, numbers.stop))))
            return []
        for number in numbers:
            # By chance, so that the sends do not fall into step with a worker that looks at intervals.
            await asyncio.sleep(random.uniform(gap, 2 * gap))
            sent.append(time.monotonic())
            await send(number)
    return sent
