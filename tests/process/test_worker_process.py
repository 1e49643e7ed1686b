"""Real workers, real signals, kill -9: what each process leaves behind and how it exits.

Scenarios: 1 a working life · 2 SIGTERM while a job runs · 3 past the drain deadline · 4 the second signal · 5 kill -9
· 6 the engine core killed · 7 the engine core ended politely · 8 bad settings.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import httpx
import psutil
import pytest

from router_lambda.job import GPU_WAKING, job_key, lease_key, worker_key
from tests.process.worker_process import ROOT, Surroundings, running_worker, wait_for

LONG = {"max_tokens": 1_900, "temperature": 0, "frequency_penalty": -2}
"""Some seconds of generation: what was said is ever more likely to be said again, and the end never was."""


TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"


def streaming(around: Surroundings, job_id: str) -> bool:
    """Tell whether the first snapshot is out."""
    reply = around.reply(job_id)
    return reply is not None and reply["status"] == "streaming"


def test_1_a_working_life(around: Surroundings, tmp_path: Path) -> None:
    """Health, heartbeat, metrics, 16 good jobs at once and bad ones, JSON logs that name the trace and no prompt.

    And a clean end with nothing left.
    """
    around.redis.set(GPU_WAKING, "a router")
    with running_worker(around, tmp_path / "log") as worker:
        beat = around.heartbeat()
        assert (beat["state"], beat["running"], beat["slots"], beat["job_seconds"]) == ("ready", 0, 64, None)
        assert 8 <= around.heartbeat_life() <= 10
        assert not around.redis.exists(GPU_WAKING)
        health = worker.healthz()
        assert (health["state"], health["redis"], health["s3"], health["running"]) == ("ready", "ok", "ok", 0)
        assert health["pid"] == worker.popen.pid

        around.redis.rpush("queue:ready", b"\xff\xfe", "not-an-id")
        malformed = str(uuid4())
        around.redis.set(job_key(malformed), b'{"prompt": "a secret prompt')
        around.redis.zadd("queue:open", {malformed: time.time()})
        around.redis.rpush("queue:ready", malformed)
        good = [around.enqueue(prompt=f"a secret prompt {number}", params={"max_tokens": 20}) for number in range(16)]
        too_long = around.enqueue(prompt="x" * 3_000)
        # vLLM warns of such a temperature, in the middle of the job.
        traced = around.enqueue(params={"max_tokens": 5, "temperature": 0.001}, traceparent=TRACEPARENT)
        badly_traced = around.enqueue(params={"max_tokens": 5, "temperature": 0.001}, traceparent="of no known form")

        for job in good:
            reply = around.final_reply(job.id)
            assert reply["status"] == "done"
            assert reply["usage"]["completion_tokens"] <= 20
            assert reply["timing"]["first_token_ms"] <= reply["timing"]["total_ms"]
        assert around.final_reply(too_long.id)["error"]["code"] == "prompt_too_long"
        assert {around.final_reply(job.id)["status"] for job in (traced, badly_traced)} == {"done"}
        assert wait_for(lambda: around.redis.keys() == [worker_key("one").encode()])
        wait_for(lambda: around.heartbeat_life() < 8)
        wait_for(lambda: around.heartbeat_life() > 8, within=4)
        assert around.heartbeat()["job_seconds"] > 0

        metrics = httpx.get(f"{worker.http}/metrics").text
        assert 'tlfif_jobs_total{status="done"} 18.0' in metrics
        assert metrics.count("\nvllm:") > 50
        listeners = [c for c in psutil.Process(worker.popen.pid).net_connections() if c.status == "LISTEN"]
        assert {connection.laddr.ip for connection in listeners} == {"127.0.0.1"}

        worker.popen.terminate()
        assert worker.exit_code() == 0
        assert around.heartbeat() is None
    events = worker.events()
    finished = [event for event in events if event["event"] == "job finished"]
    assert {event["job"] for event in finished} >= {job.id for job in [*good, too_long]}
    assert any(event["logger"].startswith("vllm") for event in events)
    assert "a secret prompt" not in worker.log.read_text()
    assert "of no known form" not in worker.log.read_text()
    of_the_trace = [event for event in events if "trace_id" in event]
    assert of_the_trace == [event for event in events if event.get("job") == traced.id]
    assert {(event["trace_id"], event["traceparent"]) for event in of_the_trace} == {(TRACE_ID, TRACEPARENT)}
    assert {event["logger"].partition(".")[0] for event in of_the_trace} == {"worker", "vllm"}


def test_2_sigterm_lets_running_jobs_finish(around: Surroundings, tmp_path: Path) -> None:
    """The job that runs is finished, the one that waits stays in Redis, exit 0."""
    with running_worker(around, tmp_path / "log", TLFIF_MAX_CONCURRENCY="1", TLFIF_DRAIN_SECONDS="120") as worker:
        running, waiting = around.enqueue(params=LONG | {"max_tokens": 600}), around.enqueue()
        wait_for(lambda: streaming(around, running.id))
        worker.popen.terminate()
        assert wait_for(lambda: worker.healthz()["state"] == "draining")
        beat = wait_for(lambda: (found := around.heartbeat())["state"] == "draining" and found, within=1)
        assert beat["running"] == 1
        assert worker.exit_code(150) == 0
    assert around.heartbeat() is None
    assert around.reply(running.id)["status"] == "done"
    assert around.reply(waiting.id) is None
    assert around.redis.lrange("queue:ready", 0, -1) == [waiting.id.encode()]


def test_3_past_the_drain_deadline_jobs_go_back(around: Surroundings, tmp_path: Path) -> None:
    """What takes too long is handed back with its text so far, exit 0, and the next worker goes on behind it."""
    with running_worker(around, tmp_path / "log", TLFIF_DRAIN_SECONDS="0") as worker:
        job = around.enqueue(params=LONG | {"max_tokens": 700})
        wait_for(lambda: streaming(around, job.id))
        worker.popen.send_signal(signal.SIGINT)
        assert worker.exit_code() == 0
    shown = around.reply(job.id)["choices"][0]["text"]
    assert shown
    assert around.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]
    assert around.redis.exists(lease_key(job.id)) == 0
    with running_worker(around, tmp_path / "two", TLFIF_WORKER_ID="two"):
        reply = around.final_reply(job.id)
    assert (reply["status"], reply["attempt"]) == ("done", 2)
    assert reply["choices"][0]["text"].startswith(shown)
    assert len(reply["choices"][0]["text"]) > len(shown)


def test_4_the_second_signal_kills(around: Surroundings, tmp_path: Path) -> None:
    """Nobody has to wait for a drain; the engine core goes along."""
    with running_worker(around, tmp_path / "log", TLFIF_DRAIN_SECONDS="600") as worker:
        core = worker.engine_core()
        job = around.enqueue(params=LONG)
        wait_for(lambda: streaming(around, job.id))
        worker.popen.terminate()
        wait_for(lambda: worker.healthz()["state"] == "draining")
        worker.popen.terminate()
        assert worker.exit_code(5) == -signal.SIGTERM
        wait_for(lambda: not core.is_running() or core.status() == psutil.STATUS_ZOMBIE)


def test_5_kill_9_leaves_no_engine_and_loses_no_job(around: Surroundings, tmp_path: Path) -> None:
    """The engine core dies with its parent; the next worker goes on with the job behind what is shown."""
    with running_worker(around, tmp_path / "one", TLFIF_WORKER_ID="one", TLFIF_MAX_CONCURRENCY="1") as worker:
        core = worker.engine_core()
        running = around.enqueue(params=LONG | {"max_tokens": 700})
        waiting = around.enqueue(params={"max_tokens": 5})
        wait_for(lambda: streaming(around, running.id))
        shown = around.reply(running.id)["choices"][0]["text"]
        worker.popen.kill()
        worker.exit_code()
        assert around.heartbeat()["state"] == "ready"
        assert 0 < around.heartbeat_life() <= 10
        wait_for(lambda: not core.is_running() or core.status() == psutil.STATUS_ZOMBIE)
    around.redis.delete(worker_key("one"))  # instead of waiting until it runs out
    with running_worker(around, tmp_path / "two", TLFIF_WORKER_ID="one") as worker:
        assert around.final_reply(waiting.id)["status"] == "done"
        reply = around.final_reply(running.id)
        assert worker.healthz()["running"] == 0
    assert (reply["status"], reply["error"], reply["attempt"]) == ("done", None, 2)
    assert reply["choices"][0]["text"].startswith(shown)
    assert len(reply["choices"][0]["text"]) > len(shown)
    assert reply["usage"]["completion_tokens"] <= 700
    (finished,) = [line for line in worker.events() if line["event"] == "job finished" and line["job"] == running.id]
    assert finished["attempt"] == 2


@pytest.mark.parametrize(("scenario", "number"), [(6, signal.SIGKILL), (7, signal.SIGTERM)])
def test_6_and_7_a_dying_engine_core_ends_the_worker(
    around: Surroundings, tmp_path: Path, scenario: int, number: signal.Signals
) -> None:
    """Exit 70, and the job goes back; also when vLLM would call it a normal end."""
    with running_worker(around, tmp_path / "log") as worker:
        job = around.enqueue(params=LONG)
        wait_for(lambda: streaming(around, job.id))
        worker.engine_core().send_signal(number)
        assert worker.exit_code() == 70, f"scenario {scenario}"
        assert around.heartbeat() is None
    assert around.reply(job.id)["status"] == "streaming"
    assert around.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]


def failed_start(around: Surroundings, **changed: str) -> tuple[int, str, float]:
    """Start a worker that cannot run; return its exit code, its standard error and the seconds it took."""
    began = time.monotonic()
    environment = {name: value for name, value in around.environment(**changed).items() if value != "unset"}
    ended = subprocess.run(
        [sys.executable, "-m", "worker"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    for line in ended.stdout.splitlines():
        json.loads(line)
    return ended.returncode, ended.stderr, time.monotonic() - began


def test_8_bad_settings_end_at_once_with_every_problem(around: Surroundings) -> None:
    """Exit 2, before vLLM is even imported, one line a problem, and no secret in any of them."""
    code, said, _ = failed_start(
        around, TLFIF_BUCKET="unset", TLFIF_HTTP_PORT="99999", TLFIF_REDIS_URL="ftp://:hunter2@host"
    )
    assert code == 2
    assert [line.split()[1] for line in said.splitlines()] == [
        "TLFIF_REDIS_URL",
        "TLFIF_BUCKET",
        "TLFIF_HTTP_PORT",
    ]
    assert "hunter2" not in said


def test_8_a_taken_port_is_a_bad_setting(around: Surroundings) -> None:
    """Said before the model is loaded."""
    taken = around.redis_url.rpartition(":")[2].partition("/")[0]
    code, said, _ = failed_start(around, TLFIF_HTTP_PORT=taken)
    assert code == 2
    assert f"port {taken} cannot be used" in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("TLFIF_ENGINE_ARGS", '{"no_such_argument": 1}'),
        ("TLFIF_MODEL", "tests"),
        ("TLFIF_ENGINE_ARGS", '{"dtype": "x"}'),
    ],
)
def test_8_what_vllm_refuses_is_a_bad_setting(around: Surroundings, name: str, value: str) -> None:
    """Exit 2 with vLLM's reason."""
    code, said, _ = failed_start(around, **{name: value})
    assert code == 2
    assert "TLFIF_ENGINE_ARGS" in said
