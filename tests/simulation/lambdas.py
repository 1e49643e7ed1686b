"""The router, the waker and the reaper in a simulation: the real code, each of its calls whole and at once."""

from __future__ import annotations

import hashlib
import io
import random
from typing import Any

import anyio

from router_lambda.ec2 import Ec2, Ec2Unavailable
from router_lambda.gpu import Gpu
from router_lambda.infer import Infer
from router_lambda.job import Job, new_job_id
from router_lambda.overdue import SLOWEST_SECONDS, Overdue
from router_lambda.queue import Placed, Queue
from router_lambda.reaper import Limits, Reaper
from router_lambda.waker import Stopped, Waker
from tests.fakes import BUCKET, make_job
from tests.simulation.cloud import Cloud
from tests.simulation.ledger import Known, Ledger
from tests.simulation.loop import EPOCH, Process, VirtualLoop
from tests.simulation.redis_side import RedisServer
from tests.simulation.s3_side import Bucket, StoredObject

TAG = ("env", "tinyllama")


class SyncBucket:
    """The bucket as boto3's client."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._process = Process("waker", "waker")

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto3's names
        """See boto3."""
        found = self._bucket.get("GetObject", Key)
        return {"Body": io.BytesIO(found.body), "ETag": found.etag}

    def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803 - boto3's names
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        ContentType: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
    ) -> None:
        """See boto3."""
        new = StoredObject(Body, hashlib.md5(Body, usedforsecurity=False).hexdigest(), {})
        self._bucket.put(self._process, Key, new, first=IfNoneMatch is not None, after=IfMatch)


class Lambdas:
    """All of them over one Redis, one EC2 and one bucket."""

    def __init__(
        self,
        loop: VirtualLoop,
        rng: random.Random,
        ledger: Ledger,
        *,
        server: RedisServer,
        bucket: Bucket,
        cloud: Cloud,
        most_gpus: int,
    ) -> None:
        self._loop = loop
        self._rng = rng
        self._ledger = ledger
        self._server = server
        self._cloud = cloud
        client, ec2 = server.client(), Ec2(TAG, lambda: cloud)
        self._queue = Queue(client, self._clock)
        self._gpu = Gpu(ec2, client, self._clock, lambda _: None)
        unused: Any = None
        self._infer = Infer(unused, self._queue, self._gpu, unused, self._clock, max_gpus=most_gpus)
        overdue = Overdue(BUCKET, lambda: SyncBucket(bucket), self._clock)
        self._waker = Waker(ec2, self._gpu, self._queue, overdue, lambda _: None)
        self._reaper = Reaper(ec2, client, Limits(session_seconds=14_400.0), self._clock)

    def _clock(self) -> float:
        return EPOCH + self._loop.time()

    async def infer(self, idle_minutes: int) -> Known | None:
        """Queue a job and wake the GPU for it, with time between the two; `None` if it was refused and taken back."""
        job = self._job(idle_minutes)
        known = self._ledger.jobs.setdefault(job.id, Known(job.id, 1))
        placed = self._queue.enqueue(job)
        self._ledger.note("router", "queued", job.id[:4], "worker" if placed.has_worker else "no worker")
        self._server.serve()
        known.queued.append(self._loop.time())
        self._ledger.counts.update({f"queued while {machine.state}" for machine in self._cloud.machines})
        self._ledger.counts["queued while closing"] += placed.closing_at is not None
        if self._rng.random() < 0.5:
            await anyio.sleep(self._rng.choice((0.01, 0.2, 2.0)) * self._rng.random())
        return known if self._wake(placed, known) else None

    def _wake(self, placed: Placed, known: Known) -> bool:
        try:
            eta = self._infer._wake(placed, None)
        except Ec2Unavailable as refusal:
            known.is_withdrawn = True
            self._ledger.note("router", "refused", known.id[:4], refusal.code)
            return False
        self._ledger.note("router", "said of", known.id[:4], "queued" if eta is None else f"starting, {eta} s")
        return True

    def _job(self, idle_minutes: int) -> Job:
        job_id = new_job_id(self._rng.randbytes(16))
        return make_job(id=job_id, idle_minutes=idle_minutes, enqueued_at=self._clock())

    def stop(self) -> None:
        """Stop the GPU as a user does."""
        self._ledger.note("router", "stop:", self._gpu.stop(self._queue))

    def wake(self, stopped: tuple[str, float] | None) -> None:
        """Run the waker, by an event or by the schedule."""
        event = stopped and Stopped(stopped[0], EPOCH + stopped[1])
        outcome = self._waker(event, lambda: SLOWEST_SECONDS)  # time to answer, and none to wait for a second try
        if outcome != "nothing waits":
            self._ledger.note("waker", "by event" if stopped else "by schedule", outcome)

    def reap(self) -> None:
        """Run the reaper."""
        if stopped := self._reaper.reap()["stopped"]:
            self._ledger.counts["reaped"] += len(stopped)
            self._ledger.note("reaper", "stops", stopped)
