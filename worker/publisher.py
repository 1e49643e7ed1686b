"""Keeps one reply object in S3 up to date while its document grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from itertools import count
from secrets import token_hex
from typing import Final, TypeVar

import anyio
import structlog
from anyio.abc import TaskGroup

from router_lambda.job import reply_key
from worker import metrics
from worker.backoff import delays
from worker.errors import ReplyConflict, StoreUnavailable
from worker.health import Health
from worker.lease import Lease
from worker.pacing import Pacing
from worker.pulse import Pulse
from worker.reply import Document, Reply
from worker.store import ReplyStore

FIRST_RETRY_SECONDS: Final = 0.2
LONGEST_RETRY_SECONDS: Final = 10.0

T = TypeVar("T")

_PROCESS: Final = token_hex(16)
_runs: Final = count()
"""Together they name a run, so that it knows its own writes: no other process has the first, no other run both."""

_WRITTEN: Final = {
    kind: (metrics.REPLY_WRITES.labels(kind, "ok"), metrics.REPLY_BYTES.labels(kind)) for kind in ("snapshot", "final")
}

log = structlog.get_logger(__name__)


class Publisher:
    """Writes the snapshots of one reply, one at a time, the newest state each, and then the final document."""

    def __init__(
        self,
        store: ReplyStore,
        health: Health,
        reply: Reply,
        lease: Lease,
        clock: Callable[[], float],
        *,
        pulse: Pulse,
    ) -> None:
        """Write `reply` as a new object, as long as the lease is ours.

        `pulse` knows how many other replies stream; `clock` gives Unix seconds.
        """
        self._store = store
        self._health = health
        self._pulse = pulse
        self._reply = reply
        self._lease = lease
        self._etag: str | None = None
        self._clock = clock
        self._writer = f"{_PROCESS}-{next(_runs)}"
        self._pacing = Pacing()
        self._tasks: TaskGroup | None = None
        self._grown = asyncio.Event()
        self._end = asyncio.Event()
        self._final: Document | None = None

    def continue_from(self, etag: str) -> None:
        """Write over this version of an object that exists."""
        self._etag = etag

    def begin(self, tasks: TaskGroup) -> None:
        """Take snapshots in a task of `tasks`, once there is something to show."""
        self._tasks = tasks
        if self._grown.is_set():
            self.grown()

    def grown(self) -> None:
        """Say that the document has changed; wakes `snapshots` only if that is worth one."""
        if self._pacing.is_due(self._reply.size):
            self._grown.set()
            if self._tasks is not None:
                self._tasks.start_soon(self.snapshots, name=f"snapshots of {self._reply.id}")
                self._tasks = None

    def end(self) -> None:
        """Say that it will not change any more: `snapshots` returns as soon as its upload is done."""
        self._end.set()
        self._grown.set()

    async def snapshots(self) -> None:
        """Upload snapshots as the document grows, until `end`.

        A snapshot that S3 does not take is skipped: a later one, or the final document, holds its text.

        Raises:
            LeaseLost, ReplyConflict: somebody else has the job, or wrote the reply.
        """
        while True:
            await self._grown.wait()
            if self._end.is_set():
                return
            if wait := self._pacing.wait(time.monotonic(), self._pulse.streams):
                with anyio.move_on_after(wait):
                    await self._end.wait()
                    return
            document = self._reply.document(self._clock())
            size = self._reply.size
            try:
                await self._write("snapshot", document)
            except StoreUnavailable as error:
                self._health.failed("s3", error)
                log.warning("snapshot skipped", job=self._reply.id, reason=str(error))
            self._pacing.uploaded(size, time.monotonic())
            if self._end.is_set():
                return
            self._grown.clear()
            self.grown()  # it may have done so during the upload

    async def write_last(self) -> None:
        """Write the document as it is now, once no more snapshots are taken, however long S3 needs to accept it.

        A final document is the same each time: a write that was not answered may have been read already.

        Raises:
            LeaseLost, ReplyConflict: somebody else has the job, or wrote the reply.
        """
        document = self._final or self._reply.document(self._clock())
        if self._reply.is_final:
            self._final = document
        await until_stored(lambda: self._write("final", document), self._health, self._reply.id)

    async def _write(self, kind: str, document: Document) -> None:
        await self._lease.check()
        key = reply_key(self._reply.id)
        try:
            self._etag = await self._store.write(key, document, after=self._etag, writer=self._writer)
        except StoreUnavailable:
            metrics.REPLY_WRITES.labels(kind, "unavailable").inc()
            raise
        except ReplyConflict:
            metrics.REPLY_WRITES.labels(kind, "conflict").inc()
            raise
        self._health.ok("s3")
        self._reply.shown(self._clock())
        written, size = _WRITTEN[kind]
        written.inc()
        size.inc(document.size)


async def until_stored(action: Callable[[], Awaitable[T]], health: Health, job_id: str) -> T:
    """Repeat a request to S3 until it is answered, with a growing, jittered wait in between."""
    for delay in delays(FIRST_RETRY_SECONDS, LONGEST_RETRY_SECONDS):
        try:
            return await action()
        except StoreUnavailable as error:
            health.failed("s3", error)
            log.warning("S3 will be asked again", job=job_id, reason=str(error), retry_in_s=round(delay, 2))
            await anyio.sleep(delay)
    raise AssertionError("delays never end")
