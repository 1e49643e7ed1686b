"""A real worker in trouble: what a user sees of it, what `/healthz` says, and what stays behind.

Scenarios: 9 cancelled jobs · 10 an engine that hangs · 11 Redis away for longer than a lease, back empty · 12 Redis
fails over · 13 Redis is slow or loads · 14 S3 is away, slow or overloaded · 15 Spot takes the instance back · 16
booting.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from local.metadata import MetadataServer
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.s3_server import S3Server
from router_lambda.job import GPU_BOOTING, lease_key, worker_key
from router_lambda.queue import Queue
from tests.process.tcp_proxy import LOADING, SLOW_DOWN, TcpProxy
from tests.process.worker_process import Surroundings, WorkerProcess, running_worker, wait_for

TALKATIVE = {"temperature": 0, "frequency_penalty": -2}
"""What was said is ever more likely to be said again, and the end never was."""

LONG = TALKATIVE | {"max_tokens": 1_900}
SHORT = TALKATIVE | {"max_tokens": 8}


def text(reply: Any) -> str:
    """Return the visible text of a reply; empty while there is none."""
    return "" if reply is None else str(reply["choices"][0]["text"])


def health(worker: WorkerProcess, state: str, reason: str = "") -> Any:
    """Wait until `/healthz` shows a state, with a reason that contains these words."""

    def look() -> Any:
        shown = worker.healthz()
        return shown["state"] == state and reason in " ".join(shown["reasons"]) and shown

    return wait_for(look)


def only_the_worker_is_left(around: Surroundings) -> None:
    """Wait until Redis holds nothing but the worker's heartbeat."""
    wait_for(lambda: around.redis.keys() == [worker_key("one").encode()])


def test_9_a_cancelled_job_stops_or_never_starts(around: Surroundings, tmp_path: Path) -> None:
    """Within 1.5 s, with its text kept and the engine's request gone; the next job runs as ever."""
    with running_worker(around, tmp_path / "log", TLFIF_MAX_CONCURRENCY="1") as worker:
        running, waiting, after = around.enqueue(params=LONG), around.enqueue(params=LONG), around.enqueue(params=SHORT)
        wait_for(lambda: text(around.reply(running.id)))
        queue = Queue(around.redis)
        assert queue.cancel(waiting.id, waiting.sub)
        shown = text(around.reply(running.id))
        began = time.monotonic()
        assert queue.cancel(running.id, running.sub)
        reply = around.final_reply(running.id, within=1.5)
        took = time.monotonic() - began
        assert (reply["status"], reply["error"]["code"]) == ("cancelled", "cancelled"), f"after {took:.2f} s"
        assert text(reply).startswith(shown)
        never = around.final_reply(waiting.id)
        assert (never["status"], text(never), never["usage"]["completion_tokens"]) == ("cancelled", "", 0)
        assert around.final_reply(after.id)["status"] == "done"
        assert not queue.cancel(running.id, running.sub)
        only_the_worker_is_left(around)
        shown_metrics = httpx.get(f"{worker.http}/metrics").text
        assert 'tlfif_jobs_total{status="cancelled"} 2.0' in shown_metrics
        running_requests = [line for line in shown_metrics.splitlines() if line.startswith("vllm:num_requests_running")]
        assert [line.rpartition(" ")[2] for line in running_requests] == ["0.0"]


def test_10_an_engine_that_hangs_ends_the_worker(around: Surroundings, tmp_path: Path) -> None:
    """Exit 70 after the set time without a token, and the job goes back; silence without work is no hang."""
    with running_worker(around, tmp_path / "log", TLFIF_STALL_SECONDS="3") as worker:
        time.sleep(4)  # longer than the limit, with nothing to do
        job = around.enqueue(params=LONG)
        wait_for(lambda: text(around.reply(job.id)))
        worker.engine_core().send_signal(signal.SIGSTOP)
        assert worker.exit_code() == 70
        (died,) = [line for line in worker.events() if line["event"] == "the engine died"]
        assert "no token for 3 s while 1 jobs ran" in died["reason"]
    assert around.reply(job.id)["status"] == "streaming"
    assert around.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]
    assert around.redis.exists(lease_key(job.id)) == 0


def test_11_redis_comes_back_empty_after_longer_than_a_lease(
    around: Surroundings, own_redis: RedisServer, tmp_path: Path
) -> None:
    """The job that runs is finished and leaves nothing; whoever dies then is found again; new jobs run."""
    around.use_redis(own_redis.url)
    with running_worker(around, tmp_path / "log") as worker:
        job = around.enqueue(params=TALKATIVE | {"max_tokens": 700})
        wait_for(lambda: text(around.reply(job.id)))
        own_redis.kill()
        degraded = health(worker, "degraded", "redis does not answer")
        assert degraded["running"] == 1
        assert httpx.get(f"{worker.http}/healthz").status_code == 503
        shown = text(around.reply(job.id))
        worker.engine_core().send_signal(signal.SIGSTOP)  # so that the job outlasts the outage
        time.sleep(17)
        worker.engine_core().send_signal(signal.SIGCONT)
        wait_for(lambda: len(text(around.reply(job.id))) > len(shown))  # its reply grows without Redis
        own_redis.restart()
        health(worker, "ready")
        around.use_redis(own_redis.url)
        wait_for(lambda: around.redis.get(lease_key(job.id)) == b"one" or around.reply(job.id)["status"] == "done")
        reply = around.final_reply(job.id)
        assert (reply["status"], reply["attempt"]) == ("done", 1)
        assert text(reply).startswith(shown)
        assert around.final_reply(around.enqueue(params=SHORT).id)["status"] == "done"
        only_the_worker_is_left(around)
        assert 'tlfif_component_up{component="redis"} 1.0' in httpx.get(f"{worker.http}/metrics").text
    said = [line["event"] for line in worker.events() if line.get("component") == "redis"]
    assert said == ["component does not answer", "component answers again"]


def test_12_redis_fails_over(around: Surroundings, own_redis: RedisServer, tmp_path: Path) -> None:
    """The old primary lives on as a replica and keeps its connections; the worker leaves it for the new one."""
    with another_redis() as replica, TcpProxy(own_redis.url) as proxy:
        around.use_redis(own_redis.url)
        with running_worker(around, tmp_path / "log", TLFIF_REDIS_URL=proxy.url) as worker:
            before = around.enqueue(params=SHORT)
            assert around.final_reply(before.id)["status"] == "done"
            old = around.redis
            around.use_redis(replica.url)
            old.replicaof("127.0.0.1", replica.url.rpartition(":")[2].partition("/")[0])
            proxy.target = replica.url
            after = around.enqueue(params=SHORT)
            assert around.final_reply(after.id)["status"] == "done"
            health(worker, "ready")
            wait_for(lambda: around.heartbeat() is not None)
            only_the_worker_is_left(around)
    assert any(line["event"] == "component does not answer" for line in worker.events())


@contextmanager
def another_redis() -> Iterator[RedisServer]:
    """Run one more Redis meanwhile."""
    with RunDirectory("tl-fif-test-replica-") as directory:
        server = RedisServer(directory.path)
        server.start()
        yield server
        server.stop()


def test_13_redis_is_slow_or_loads(around: Surroundings, own_redis: RedisServer, tmp_path: Path) -> None:
    """Jobs take longer and lose nothing: neither an attempt when it is slow, nor themselves when it cannot answer."""
    with TcpProxy(own_redis.url) as proxy:
        around.use_redis(own_redis.url)
        with running_worker(around, tmp_path / "log", TLFIF_REDIS_URL=proxy.url) as worker:
            proxy.delay_seconds = 1.5
            slow = around.enqueue(params=SHORT)
            reply = around.final_reply(slow.id)
            assert (reply["status"], reply["attempt"]) == ("done", 1)
            proxy.delay_seconds = 0.0
            proxy.canned = LOADING
            health(worker, "degraded", "redis does not answer")
            wait_for(lambda: around.redis.info("clients")["blocked_clients"] == 0)  # the last BLPOP that got through
            waits = around.enqueue(params=SHORT)
            health(worker, "degraded", "redis does not answer")
            assert around.reply(waits.id) is None
            proxy.canned = None
            assert around.final_reply(waits.id)["status"] == "done"
            health(worker, "ready")
            only_the_worker_is_left(around)


def test_14_s3_is_away(around: Surroundings, s3_server: S3Server, tmp_path: Path) -> None:
    """Generation goes on; the job is acknowledged when its final reply is in, and not before."""
    with running_worker(around, tmp_path / "log") as worker:
        job = around.enqueue(params=TALKATIVE | {"max_tokens": 300})
        wait_for(lambda: text(around.reply(job.id)))
        shown = text(around.reply(job.id))
        s3_server.kill()
        try:
            health(worker, "degraded", "s3 does not answer")
            wait_for(lambda: 'tlfif_reply_writes_total{kind="final",outcome="unavailable"}' in metrics_of(worker))
            assert around.redis.zrange("queue:open", 0, -1) == [job.id.encode()]
            assert around.redis.ttl(lease_key(job.id)) > 0
        finally:
            s3_server.restart()
        reply = around.final_reply(job.id)
        assert (reply["status"], reply["attempt"]) == ("done", 1)
        assert text(reply).startswith(shown)
        only_the_worker_is_left(around)
        health(worker, "ready")


def test_14_s3_is_slow_or_sends_us_away(around: Surroundings, s3_server: S3Server, tmp_path: Path) -> None:
    """Snapshots come later or not at all, the final reply comes, and so do the acknowledgement and the next job."""
    with (
        TcpProxy(s3_server.endpoint) as proxy,
        running_worker(around, tmp_path / "log", AWS_ENDPOINT_URL_S3=proxy.url) as worker,
    ):
        proxy.delay_seconds = 0.7
        slow = around.enqueue(params=TALKATIVE | {"max_tokens": 100})
        assert around.final_reply(slow.id)["status"] == "done"
        proxy.delay_seconds = 0.0
        proxy.canned = SLOW_DOWN
        refused = around.enqueue(params=TALKATIVE | {"max_tokens": 100})
        health(worker, "degraded", "s3 does not answer")
        wait_for(lambda: 'tlfif_reply_writes_total{kind="final",outcome="unavailable"}' in metrics_of(worker))
        assert around.redis.zrange("queue:open", 0, -1) == [refused.id.encode()]
        proxy.canned = None
        reply = around.final_reply(refused.id)
        assert (reply["status"], reply["attempt"]) == ("done", 1)
        only_the_worker_is_left(around)
        health(worker, "ready")


def metrics_of(worker: WorkerProcess) -> str:
    """Return what `/metrics` shows."""
    return httpx.get(f"{worker.http}/metrics").text


def test_15_spot_takes_the_instance_back(around: Surroundings, tmp_path: Path) -> None:
    """The notice drains the worker as SIGTERM does: the job goes back with its text, exit 0; SIGTERM may follow."""
    with (
        MetadataServer() as metadata,
        running_worker(
            around,
            tmp_path / "log",
            AWS_EC2_METADATA_DISABLED="false",
            AWS_EC2_METADATA_SERVICE_ENDPOINT=metadata.url,
            TLFIF_DRAIN_SECONDS="1",
        ) as worker,
    ):
        job, *_ = [around.enqueue(params=LONG) for _ in range(8)]  # so many that they take longer than the drain
        wait_for(lambda: text(around.reply(job.id)))
        metadata.give_notice("terminate", "2026-11-25T12:00:00Z")
        health(worker, "draining", "told to stop")
        worker.popen.terminate()
        assert worker.exit_code() == 0
    (drained,) = [line for line in worker.events() if line["event"] == "draining" and "Spot" in line["reason"]]
    assert drained["reason"] == "Spot interruption: terminate at 2026-11-25T12:00:00Z"
    assert job.id.encode() in around.redis.lrange("queue:ready", 0, -1)
    assert text(around.reply(job.id))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_16_a_worker_that_boots_says_so_and_can_be_stopped(
    around: Surroundings, tmp_path: Path, number: signal.Signals
) -> None:
    """`/healthz` answers 503 with how long it takes already; a signal ends it at once with exit 0."""
    worker = WorkerProcess(around.environment(), tmp_path / "log")
    try:
        shown = wait_for(worker.healthz)
        assert (shown["state"], shown["reasons"], shown["pid"]) == ("booting", ["the engine loads"], worker.popen.pid)
        assert httpx.get(f"{worker.http}/healthz").status_code == 503
        worker.popen.send_signal(number)
        assert worker.exit_code() == 0
        # The phase that it was in runs out by itself, or ends with the next start.
        assert around.redis.keys() == [GPU_BOOTING.encode()]
        assert 0 < around.redis.ttl(GPU_BOOTING) <= 600
    finally:
        worker.kill()
