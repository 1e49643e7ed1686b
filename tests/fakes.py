"""Stand-ins for the engine and the S3 bucket, for tests that are about something else."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import AsyncGenerator, Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import anyio

from router_lambda.job import Job, reply_path
from worker.engine import Delta, Step
from worker.errors import EngineDied, ReplyConflict, StoreUnavailable
from worker.reply import Document
from worker.store import ReplyStore

BUCKET = "tl-fif"


def make_job(**changed: Any) -> Job:
    """Return a job that is right in every field, but for what is changed."""
    job_id = changed.pop("id", str(uuid4()))
    fields: dict[str, Any] = {
        "id": job_id,
        "sub": "somebody",
        "prompt": "Hello",
        "messages": None,
        "raw": False,
        "params": {},
        "idle_minutes": 5,
        "reply_path": reply_path(BUCKET, job_id),
        "enqueued_at": 1_790_000_000.0,
    }
    return Job(**fields | changed)


@dataclass
class FakeEngine:
    """Says `texts`, one a step and a token; `before_step` is awaited before each and may wait or raise.

    Whoever resumes gets the rest: the shown text must be the first few of them.
    """

    texts: Iterable[str] = ("Hel", "lo ", "world")
    before_step: Callable[[int], Any] | None = None
    model: str = "fake"
    dead: bool = False
    started: list[str] = field(default_factory=list)
    resumed: list[tuple[str, int, str]] = field(default_factory=list)
    closed: list[str] = field(default_factory=list)

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Stream the texts and note start and end."""
        self.started.append(job.id)
        async with aclosing(self._say(job.id, 0, 0)) as steps:
            async for step in steps:
                yield step

    async def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:
        """Stream the texts that are not shown yet, and note start and end."""
        self.resumed.append((job.id, index, shown))
        said = self.count_tokens(shown)
        assert spent <= said
        assert "".join(list(self.texts)[:said]) == shown
        async with aclosing(self._say(job.id, index, said)) as steps:
            async for step in steps:
                yield step

    def count_tokens(self, text: str) -> int:
        """Return how many of the texts it takes to say this one."""
        count = 0
        for count, said in enumerate(itertools.accumulate(self.texts, initial="")):  # noqa: B007
            if len(said) >= len(text):
                break
        return count

    async def _say(self, job_id: str, index: int, begin: int) -> AsyncGenerator[Step, None]:
        texts = list(self.texts)
        try:
            for number, text in enumerate(texts[begin:], begin):
                if self.before_step is not None:
                    await self.before_step(number)
                else:
                    await anyio.lowlevel.checkpoint()
                reason = "stop" if number == len(texts) - 1 else None
                yield Step(7, [Delta(index, text, 1, reason)])
        finally:
            self.closed.append(job_id)

    async def check(self) -> None:
        """Fail once `dead` is set."""
        if self.dead:
            raise EngineDied("killed by the test")

    async def stop(self) -> None:
        """Do nothing: there is no process."""


class MemoryStore(ReplyStore):
    """A bucket in memory with S3's conditional writes; `failures` are raised first, one a write."""

    def __init__(self, bucket: str = BUCKET) -> None:
        super().__init__(None, bucket)
        self.objects: dict[str, tuple[bytes, str, str]] = {}
        self.written: list[bytes] = []
        self.failures: list[Exception] = []
        self.gate: anyio.Event | None = None

    async def read(self, key: str) -> tuple[bytes, str] | None:
        """See `ReplyStore.read`."""
        await anyio.lowlevel.checkpoint()
        return self.objects[key][:2] if key in self.objects else None

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:
        """See `ReplyStore.write`."""
        await anyio.lowlevel.checkpoint()
        if self.gate is not None:
            await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        body = b"".join(document.blocks)
        current = self.objects.get(key)
        if current is None and after is not None:
            raise ReplyConflict("gone")
        if current is not None and current[1] != after and current[2] != writer:
            raise ReplyConflict("changed")
        etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
        self.objects[key] = (body, etag, writer)
        self.written.append(body)
        return etag


def away(times: int) -> list[Exception]:
    """Return what a store raises while it is away for so many writes."""
    return [StoreUnavailable("away for the test") for _ in range(times)]
