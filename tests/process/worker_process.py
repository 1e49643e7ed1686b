"""A real `python -m worker` with a tiny model, real Redis and real S3, as the process tests drive it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

import boto3
import httpx
import psutil
import redis

from local.ports import free_ports
from local.redis_server import RedisServer
from local.s3_server import S3Server
from router_lambda.job import FINAL_STATUSES, Job, reply_key, reply_path, worker_key
from router_lambda.queue import Queue
from tests.fakes import make_job
from worker.parent_death import die_with

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]

COVERAGE = "COVERAGE_PROCESS_CONFIG"
"""By this variable coverage measures the processes that tests spawn; those that are many or measured go without it."""


class Surroundings:
    """What a worker needs around it, and what a test wants to see of it."""

    def __init__(self, redis_server: RedisServer, s3_server: S3Server, model: Path) -> None:
        self.use_redis(redis_server.url)
        self.bucket = s3_server.bucket
        # vLLM's sockets stay behind when it is killed; the S3 server's folder is removed after the tests.
        self._environment = {**s3_server.environment(), "TMPDIR": str(s3_server.folder)}
        self._model = model
        self.s3: Any = boto3.client(
            "s3",
            endpoint_url=s3_server.endpoint,
            aws_access_key_id=s3_server.access_key,
            aws_secret_access_key=s3_server.secret_key,
            region_name=s3_server.region,
        )

    def use_redis(self, url: str) -> None:
        """Look at another Redis from now on, and tell it to workers that start."""
        self.redis_url = url
        self.redis = redis.Redis.from_url(url)

    def environment(self, **changed: str) -> dict[str, str]:
        """Return the environment of a worker."""
        return {
            **{name: value for name, value in os.environ.items() if not name.startswith("TLFIF_")},
            **self._environment,
            "TLFIF_REDIS_URL": self.redis_url,
            "TLFIF_BUCKET": self.bucket,
            "TLFIF_MODEL": str(self._model),
            "TLFIF_HTTP_PORT": str(free_ports(1)[0]),
            "TLFIF_WORKER_ID": "one",
            "AWS_EC2_METADATA_DISABLED": "true",
            **changed,
        }

    def enqueue(self, **changed: Any) -> Job:
        """Queue a job as the router does."""
        job_id = str(uuid4())
        job = make_job(id=job_id, enqueued_at=time.time(), reply_path=reply_path(self.bucket, job_id), **changed)
        Queue(self.redis).enqueue(job)
        return job

    def reply(self, job_id: str) -> Any:
        """Return a job's reply, `None` while there is none."""
        try:
            got = self.s3.get_object(Bucket=self.bucket, Key=reply_key(job_id))
        except self.s3.exceptions.NoSuchKey:
            return None
        return json.loads(got["Body"].read())

    def heartbeat(self, worker_id: str = "one") -> Any:
        """Return what a worker tells the routers, `None` while it tells nothing."""
        shown: Any = self.redis.get(worker_key(worker_id))
        return shown and json.loads(shown)

    def heartbeat_life(self, worker_id: str = "one") -> float:
        """Return the seconds until its heartbeat runs out; negative without one."""
        return float(self.redis.pttl(worker_key(worker_id))) / 1e3

    def final_reply(self, job_id: str, within: float = 60.0) -> Any:
        """Wait for a job's final reply."""
        return wait_for(lambda: _final(self.reply(job_id)), within)


def _final(reply: Any) -> Any:
    return reply if reply is not None and reply["status"] in FINAL_STATUSES else None


def wait_for(look: Callable[[], T | None], within: float = 30.0) -> T:
    """Look until there is something to see."""
    give_up_at = time.monotonic() + within
    while time.monotonic() < give_up_at:
        seen = look()
        if seen:
            return seen
        time.sleep(0.02)
    raise AssertionError(f"nothing seen within {within} s")


class WorkerProcess:
    """One worker process and its log."""

    def __init__(self, environment: Mapping[str, str], log: Path) -> None:
        self.log = log
        self.http = f"http://127.0.0.1:{environment['TLFIF_HTTP_PORT']}"
        with log.open("ab") as output:
            self.popen = subprocess.Popen(
                [sys.executable, "-m", "worker"],
                cwd=ROOT,
                env=environment,
                stdout=output,
                stderr=subprocess.PIPE,
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
            )

    def healthz(self) -> Any:
        """Return what `/healthz` says, `None` while nobody listens."""
        try:
            return httpx.get(f"{self.http}/healthz").json()
        except httpx.TransportError:
            assert self.popen.poll() is None, f"the worker ended: {self.log.read_text()[-3000:]}"
            return None

    def wait_until_ready(self) -> None:
        """Wait for the state `ready`."""
        wait_for(lambda: (self.healthz() or {}).get("state") == "ready", within=120)

    def engine_core(self) -> psutil.Process:
        """Return vLLM's engine core."""
        (core,) = psutil.Process(self.popen.pid).children()
        return core

    def exit_code(self, within: float = 30.0) -> int:
        """Wait for the end."""
        return self.popen.wait(within)

    def kill(self) -> None:
        """End what is left of it, a stopped engine core included."""
        if self.popen.poll() is None:
            os.killpg(self.popen.pid, signal.SIGKILL)
        self.popen.communicate()

    def events(self) -> list[dict[str, Any]]:
        """Return the log, which is JSON line by line."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def running_worker(around: Surroundings, log: Path, **changed: str) -> Iterator[WorkerProcess]:
    """Start a worker, wait until it is ready, and kill what is left of it afterwards."""
    worker = WorkerProcess(around.environment(**changed), log)
    try:
        worker.wait_until_ready()
        yield worker
    finally:
        worker.kill()
