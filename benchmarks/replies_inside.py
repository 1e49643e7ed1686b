"""The parts of `benchmarks.replies` that count CPU time and memory, each in a process of its own.

    python -m benchmarks.replies_inside puts | freeze | streams | upload

Reads a JSON object from standard input and writes one to standard output; the S3 server is in the environment.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session

from benchmarks.replies_paced import WORD, Nowhere, Shape, new_publisher
from worker.engine import Delta, Step
from worker.publisher import Publisher
from worker.pulse import Pulse
from worker.reply import Document, Reply
from worker.store import PART_BYTES, ReplyStore

BUCKET: Final = "tl-fif"
MEBIBYTE: Final = 2**20
TICK_SECONDS: Final = 0.002
WARM_UP_PUTS: Final = 5
_BLOCK_BYTES: Final = 65_536


async def puts(wish: dict[str, Any]) -> dict[str, Any]:
    """Write a document of so many `bytes` again and again: `ours` as the worker, `floor` by a client alone.

    Both write it `puts` times in each of the `rounds`, in turns.
    """
    async with ReplyStore.open(BUCKET, connections=2) as store, _bare_client() as client:
        reply, publisher = new_publisher(store, time.time, Pulse())
        _fill(reply, wish["bytes"])
        body = b"".join(reply.document(time.time()).blocks)
        key = f"replies/floor-{len(body)}.json"
        sides: dict[str, Callable[[], Awaitable[object]]] = {
            "floor": lambda: client.put_object(Bucket=BUCKET, Key=key, Body=body),
            "ours": publisher.write_last,
        }
        found: dict[str, dict[str, list[float]]] = {side: {"cpu_ms": [], "ms": []} for side in sides}
        for number in range(-1, wish["rounds"]):  # the first one connects and warms up
            for side, put in sides.items():
                count = wish["puts"] if number >= 0 else WARM_UP_PUTS
                cpu, began = time.process_time(), time.perf_counter()
                for _ in range(count):
                    await put()
                if number >= 0:
                    found[side]["ms"].append((time.perf_counter() - began) / count * 1e3)
                    found[side]["cpu_ms"].append((time.process_time() - cpu) / count * 1e3)
    return found


async def freeze(wish: dict[str, Any]) -> dict[str, Any]:
    """Freeze documents of so many `bytes` each `times` times; return the microseconds of one time, by round."""
    found = []
    for size in wish["bytes"]:
        reply, _ = new_publisher(Nowhere(0), time.time, Pulse())
        _fill(reply, size)
        rounds = []
        for _ in range(wish["rounds"]):
            began = time.perf_counter()
            for _ in range(wish["times"]):
                reply.document(began)
            rounds.append((time.perf_counter() - began) / wish["times"] * 1e6)
            await anyio.lowlevel.checkpoint()
        found.append(rounds)
    return {"us": found}


async def streams(wish: dict[str, Any]) -> dict[str, Any]:
    """Stream `streams` replies at once, to the S3 server or `nowhere`, while a ticker watches the event loop.

    As an engine with one batch does, all of them get a token in the same moment.
    """
    count = wish["streams"]
    if wish["nowhere"]:
        return await _stream_all(Nowhere(0), wish)
    async with ReplyStore.open(BUCKET, connections=count + 1) as store:
        await asyncio.gather(*(store.read("replies/none.json") for _ in range(count)))  # connects
        return await _stream_all(store, wish)


async def _stream_all(store: ReplyStore, wish: dict[str, Any]) -> dict[str, Any]:
    pulse, noting = Pulse(), _Noting(store)
    shape = Shape(wish["tokens"], wish["per_second"])
    replies = [new_publisher(noting, time.time, pulse) for _ in range(wish["streams"])]
    cpu, began = time.process_time(), time.perf_counter()
    async with _ticking() as lags_ms, anyio.create_task_group() as tasks:
        for reply, publisher in replies:
            tasks.start_soon(_stream, reply, publisher, pulse, shape, began)
    return {
        "lag_ms": lags_ms,
        "first_ms": [(each - began - 1 / shape.per_second) * 1e3 for each in noting.first_at],
        "puts": noting.puts,
        "cpu_s": time.process_time() - cpu,
        "seconds": time.perf_counter() - began,
    }


async def _stream(reply: Reply, publisher: Publisher, pulse: Pulse, shape: Shape, began: float) -> None:
    """Feed one reply as `worker.run` does."""
    with pulse.working():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(publisher.snapshots)
            for number, step in enumerate(shape.steps(), start=1):
                await anyio.sleep(max(0.0, began + number / shape.per_second - time.perf_counter()))
                reply.add(step, time.time())
                publisher.grown()
            publisher.end()
    reply.finish("done", time.time())
    await publisher.write_last()


class _Noting(ReplyStore):
    """A store that counts the writes and notes when the first one of each reply was done."""

    def __init__(self, store: ReplyStore) -> None:
        super().__init__(None, store.bucket)
        self.puts = 0
        self.first_at: list[float] = []
        self._store = store

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:
        """See `ReplyStore.write`."""
        etag = await self._store.write(key, document, after=after, writer=writer)
        self.puts += 1
        if after is None:
            self.first_at.append(time.perf_counter())
        return etag


@asynccontextmanager
async def _ticking() -> AsyncIterator[list[float]]:
    """Wake up every `TICK_SECONDS` and note by how many milliseconds too late."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK_SECONDS
            await asyncio.sleep(TICK_SECONDS)
            late.append((time.perf_counter() - due) * 1e3)

    ticker = asyncio.create_task(tick())
    try:
        yield late
    finally:
        ticker.cancel()


async def upload(wish: dict[str, Any]) -> dict[str, Any]:
    """Upload a document of so many `mebibytes`, `ours` or else in the shortest loop that does it.

    Its text is random, as the S3 server compresses what it can, and one block of it again and again: the memory of the
    document itself is not what is measured. The loop has one part that it sends each time.
    """
    block = base64.b64encode(os.urandom(_BLOCK_BYTES * 3 // 4))
    size = wish["mebibytes"] * MEBIBYTE
    async with ReplyStore.open(BUCKET, connections=2) as store, _bare_client() as client:
        await store.read("replies/none.json")
        await client.list_objects_v2(Bucket=BUCKET, MaxKeys=1)
        part = (block * (PART_BYTES // len(block) + 1))[:PART_BYTES]
        before = _forget_peak()
        cpu, began = time.process_time(), time.perf_counter()
        async with _ticking() as lags_ms:
            if wish["ours"]:
                document = Document([block] * (size // len(block)), size)
                await store.write("replies/large.json", document, after=None, writer="bench")
            else:
                await _upload_floor(client, part, size // PART_BYTES)
        seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
        speed = size / MEBIBYTE / seconds
        return {"cpu_s": cpu, "mib_per_s": speed, "grown_mib": _peak() - before, "lag_ms": lags_ms}


async def _upload_floor(client: Any, part: bytes, count: int) -> None:
    where = {"Bucket": BUCKET, "Key": "replies/large.json"}
    upload_id = (await client.create_multipart_upload(**where))["UploadId"]
    done = []
    for number in range(1, count + 1):
        sent = await client.upload_part(**where, UploadId=upload_id, PartNumber=number, Body=part)
        done.append({"ETag": sent["ETag"], "PartNumber": number})
    await client.complete_multipart_upload(**where, UploadId=upload_id, MultipartUpload={"Parts": done})


def _forget_peak() -> float:
    """Let the kernel count the largest resident memory anew; return what it is now, in MiB."""
    Path("/proc/self/clear_refs").write_text("5")  # Linux, Documentation/filesystems/proc.rst
    return _peak()


def _peak() -> float:
    """Return the largest resident memory since then, in MiB."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines["VmHWM"].split()[0]) / 1024


def _bare_client() -> Any:
    """Return a client of the worker's library as it comes, but for the checksums, which the worker has switched off."""
    checksums = {"request_checksum_calculation": "when_required", "response_checksum_validation": "when_required"}
    return get_session().create_client("s3", config=AioConfig(**checksums))


def _fill(reply: Reply, size: int) -> None:
    """Let a reply grow to a size in bytes, in deltas of one token as long as that does not take for ever."""
    while reply.size < size:
        many = max(1, (size - reply.size) // (200 * len(WORD)))
        reply.add(Step(40, [Delta(0, WORD * many, many)]), time.time())


PARTS: Final = {"puts": puts, "freeze": freeze, "streams": streams, "upload": upload}


def main(arguments: list[str]) -> None:
    """Run one part."""
    (name,) = arguments
    json.dump(asyncio.run(PARTS[name](json.load(sys.stdin))), sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
