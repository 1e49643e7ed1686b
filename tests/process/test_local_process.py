"""`python -m local` as a process: what it prints, and what it leaves behind, whatever ends it."""

from __future__ import annotations

import signal
from pathlib import Path

import httpx
import psutil
import pytest
import redis

from tests.process.local_world import LocalProcess, health, wait_until


def test_01_ready_line_then_sigterm(tmp_path: Path) -> None:
    """One line names everything, all of it answers; SIGTERM ends it with 0 and nothing is left."""
    with LocalProcess.with_stand_in(tmp_path) as local:
        addresses = local.ready()
        assert set(addresses) == {
            *("gateway", "redis", "s3", "bucket", "token", "worker_http", "pids"),
            *("aws", "cognito"),
        }
        assert set(addresses["cognito"]) == {"url", "client_id", "username", "password"}
        assert set(addresses["pids"]) == {"worker", "redis", "s3", "aws", "gateway"}
        assert all(psutil.pid_exists(pid) for pid in addresses["pids"].values())
        with redis.Redis.from_url(addresses["redis"]) as client:
            assert client.ping()
        assert httpx.get(f"{addresses['gateway']}/ping").json() == {"status": "ok"}
        assert httpx.get(f"{addresses['worker_http']}/healthz").json()["model"].endswith("/tiny-model")
        assert httpx.get(addresses["s3"]).status_code == 403
        local.send(signal.SIGTERM)
        assert local.end() == (0, "")
        local.assert_nothing_is_left()


def test_02_sigint(tmp_path: Path) -> None:
    """Ctrl-C ends it with 0, after the worker had time to drain, and nothing is left."""
    with LocalProcess.with_stand_in(tmp_path) as local:
        local.ready()
        local.send(signal.SIGINT)
        assert local.end() == (0, "")
        local.assert_nothing_is_left()
        assert "the worker drains" in local.stderr()


def test_03_sigkill(tmp_path: Path) -> None:
    """Killed with -9 it takes every process and its temporary files along."""
    with LocalProcess.with_stand_in(tmp_path) as local:
        addresses = local.ready()
        s3_socket = Path(f"/tmp/seaweedfs-s3-{addresses['s3'].rsplit(':')[-1]}.sock")  # noqa: S108 - SeaweedFS's choice
        assert s3_socket.exists()
        assert len(local.alive()) >= 6  # itself, Redis, S3, moto, the worker, the janitor
        local.send(signal.SIGKILL)
        assert local.end()[0] == -signal.SIGKILL
        local.assert_nothing_is_left()
        assert not s3_socket.exists()


def test_04_second_signal_does_not_wait(tmp_path: Path) -> None:
    """While a worker drains for long, a second SIGTERM ends everything at once."""
    with LocalProcess.with_stand_in(tmp_path, "stubborn") as local:
        local.ready()
        local.send(signal.SIGTERM)
        local.wait_for_stderr("the worker drains")
        local.send(signal.SIGTERM)
        assert local.end(patience=5)[0] == 128 + signal.SIGTERM
        local.assert_nothing_is_left()


def test_05_signal_while_starting(tmp_path: Path) -> None:
    """SIGTERM before the worker is ready ends it in good order and without a ready line."""
    with LocalProcess.with_stand_in(tmp_path, "booting") as local:
        local.wait_for_stderr("starting the worker")
        local.send(signal.SIGTERM)
        assert local.end() == (0, "")
        local.assert_nothing_is_left()


def test_06_worker_killed(tmp_path: Path) -> None:
    """A worker killed with -9 is started again, and `/healthz` names the new one."""
    with LocalProcess.with_stand_in(tmp_path) as local:
        addresses = local.ready()
        first = addresses["pids"]["worker"]
        psutil.Process(first).kill()
        wait_until(lambda: health(addresses)["worker"].get("pid", first) != first, "a new worker is ready")
        shown = health(addresses)
        assert shown["pids"]["worker"] == shown["worker"]["pid"] != first
        assert "the worker ended with exit code -9" in local.stderr()


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ("exit-2", "refused its settings (exit code 2)"),
        ("exit-7", "died 3 times before it was ready (exit code 7)"),
    ],
)
def test_07_worker_that_never_comes_up(tmp_path: Path, wish: str, message: str) -> None:
    """Bad settings at once, or three deaths, end everything with 1 and the last words of the worker's log."""
    with LocalProcess.with_stand_in(tmp_path, wish) as local:
        assert local.end() == (1, "")
        assert message in local.stderr()
        assert f"about to {wish}" in local.stderr()
        local.assert_nothing_is_left()
