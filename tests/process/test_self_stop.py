"""A real worker that stops what it runs on: when it is idle, when it is asked to, when it does not come up."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from router_lambda.job import GPU_BOOTS, GPU_CLOSING, GPU_PHASES, GPU_STOP, GPU_WAKING
from tests.process.worker_process import Surroundings, WorkerProcess, running_worker, wait_for

IDLE_SECONDS = 3.0
IDLE = {"TLFIF_IDLE_MINUTES": str(IDLE_SECONDS / 60)}


@pytest.fixture
def halted(tmp_path: Path) -> Path:
    """Return the file that stands for a machine that has halted."""
    return tmp_path / "halted"


def halt_command(file: Path) -> dict[str, str]:
    """Return the setting that makes a worker halt its machine."""
    return {"TLFIF_HALT_COMMAND": f'{sys.executable} -c \'open("{file}", "w")\''}


def metric(worker: WorkerProcess, name: str) -> dict[str, Any]:
    """Return the one line of the log that counts a metric."""
    (line,) = (event for event in worker.events() if event["event"] == name)
    assert line["_aws"]["CloudWatchMetrics"][0]["Metrics"] == [{"Name": name, "Unit": "Count"}]
    assert line[name] == 1
    return line


def prometheus(worker: WorkerProcess) -> dict[str, float]:
    """Return what `/metrics` measures, by name and labels."""
    lines = httpx.get(f"{worker.http}/metrics").text.splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_1_an_idle_worker_stops_its_machine(around: Surroundings, tmp_path: Path, halted: Path) -> None:
    """After its last job and the idle time: the routers are told, it is counted, the machine halts, exit code 0."""
    around.redis.set(GPU_WAKING, f"started:{time.time() - 30}")
    with running_worker(around, tmp_path / "log", **IDLE, **halt_command(halted)) as worker:
        job = around.enqueue(params={"max_tokens": 8})
        ended = around.final_reply(job.id)["updated_at"]
        shown = wait_for(lambda: worker.healthz()["idle_seconds"])
        assert 0 < shown <= IDLE_SECONDS
        measured = prometheus(worker)
        assert 0 < measured["tlfif_idle_seconds_left"] <= IDLE_SECONDS
        assert measured['tlfif_boot_seconds{phase="instance"}'] > 29
        assert measured['tlfif_boot_seconds{phase="engine"}'] > 0
        told = wait_for(lambda: around.heartbeat()["idle_deadline"])
        assert told == pytest.approx(ended + IDLE_SECONDS, abs=1.0)

        assert worker.exit_code() == 0
        assert halted.exists()
        assert around.redis.get(GPU_CLOSING) == b"one"
        assert around.heartbeat() is None
        stop = metric(worker, "AutoStops")
        assert (stop["reason"], stop["instance"]) == ("idle", None)
        assert 0 <= stop["secondsLate"] < 1.0

        (boot,) = map(float, around.redis.lrange(GPU_BOOTS, 0, -1))
        assert boot > 30
        assert around.redis.llen(GPU_PHASES) == 1
        (phases,) = (event["phases"] for event in worker.events() if event["event"] == "first token")
        assert list(phases) == ["daemon", "imports", "engine", "instance", "ready", "first_token"]
        assert sum(phases.values()) - phases["first_token"] == pytest.approx(boot, abs=1.0)


def test_2_a_worker_that_is_asked_to_stop_finishes_first(around: Surroundings, tmp_path: Path, halted: Path) -> None:
    """A user pressed stop while a job ran: the job gets its whole answer, and the machine stops right after it."""
    with running_worker(around, tmp_path / "log", **halt_command(halted)) as worker:
        job = around.enqueue(params={"max_tokens": 400, "temperature": 0})
        wait_for(lambda: around.reply(job.id))
        around.redis.set(GPU_STOP, "1")

        assert worker.exit_code() == 0
        assert around.reply(job.id)["status"] == "done"
        assert halted.exists()
        assert metric(worker, "AutoStops")["reason"] == "asked"
        assert around.redis.exists(GPU_STOP) == 0


def test_3_a_machine_that_cannot_be_stopped(around: Surroundings, tmp_path: Path) -> None:
    """The worker says so and ends with 75, to be started again: what costs money had better serve."""
    changed = {**IDLE, "TLFIF_HALT_COMMAND": "/nonexistent/halt"}
    with running_worker(around, tmp_path / "log", **changed) as worker:
        assert worker.exit_code() == 75
        assert worker.events()[-1]["event"] == "the instance runs on"


def test_4_a_worker_that_does_not_come_up(around: Surroundings, tmp_path: Path, halted: Path) -> None:
    """Its machine is stopped at the deadline, and it is counted."""
    environment = around.environment(TLFIF_BOOT_DEADLINE_SECONDS="1.5", **halt_command(halted))
    worker = WorkerProcess(environment, tmp_path / "log")
    try:
        assert worker.exit_code() in {0, -9}
        assert halted.exists()
        assert metric(worker, "BootFailures")["seconds"] == 1.5
    finally:
        worker.kill()
