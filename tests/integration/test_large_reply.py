"""A reply of 20 MB on its way into the real S3 server."""

from __future__ import annotations

import json
import time
import tracemalloc

import pytest

from local.s3_server import S3Server
from router_lambda.job import new_job_id, reply_key
from worker.engine import Delta, Step
from worker.health import Health
from worker.lease import Lease
from worker.publisher import Publisher
from worker.pulse import Pulse
from worker.queue import Claim, JobQueue
from worker.reply import Reply
from worker.store import PART_BYTES, ReplyStore

MEGABYTE = 1_000_000


async def test_a_reply_of_20_mb_goes_up_in_bounded_memory(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the reply itself the upload holds about two parts, not another 20 MB, and the document arrives whole."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    now = time.time()
    reply = Reply(new_job_id(b"0123456789abcdef"), "model", attempt=1, enqueued_at=now, now=now)
    text = "größer " * 125_000
    for _ in range(20):
        reply.add(Step(1, [Delta(0, text, 1)]), now)
    reply.finish("done", now)
    assert reply.size > 20 * MEGABYTE

    async with ReplyStore.open(s3_server.bucket, connections=2) as store:
        queue = JobQueue.from_url("redis://127.0.0.1:1/0", "one")  # the lease is fresh, so that nobody asks it
        lease = Lease(reply.id, Claim("run", 1), queue, Health())
        publisher = Publisher(store, Health(), reply, lease, time.time, pulse=Pulse())
        tracemalloc.start()
        await publisher.write_last()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 2.5 * PART_BYTES
        stored = await store.read(reply_key(reply.id))
    assert stored is not None
    body, etag = stored
    assert json.loads(body)["choices"][0]["text"] == text * 20
    assert etag.strip('"').endswith("-5")
