"""The whole system with the real worker and a real vLLM, on the tiny model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil

from tests.process.local_world import REPOSITORY, LocalProcess, health, wait_until

ENGINE_PATIENCE_SECONDS = 120.0


def ask(addresses: dict[str, Any]) -> str:
    """Return what the `tlfif` command prints for a prompt; it must succeed."""
    command = [sys.executable, "-m", "client.cli", "infer", "--max-tokens", "16", "Grüße 🦙"]
    where = {"TLFIF_URL": addresses["gateway"], "TLFIF_TOKEN": addresses["token"]}
    done = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | where,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout


def test_01_answers_survives_and_leaves_nothing(tmp_path: Path) -> None:
    """It answers, answers again after its worker was killed, and, killed itself, takes vLLM along."""
    with LocalProcess(tmp_path, [sys.executable, "-m", "local", "--tiny"]) as local:
        addresses = local.ready()
        assert ask(addresses)

        first = psutil.Process(addresses["pids"]["worker"])
        engine = first.children(recursive=True)
        assert engine, "vLLM's engine core is a process of its own"
        first.kill()
        wait_until(lambda: not any(process.is_running() for process in engine), "vLLM is gone with its worker")
        wait_until(
            lambda: health(addresses)["worker"]["state"] == "ready",
            "a new worker is ready",
            ENGINE_PATIENCE_SECONDS,
        )
        assert health(addresses)["pids"]["worker"] != first.pid
        assert ask(addresses)

        local.send(signal.SIGKILL)
        assert local.end()[0] == -signal.SIGKILL
        local.assert_nothing_is_left()


def test_02_demo(tmp_path: Path) -> None:
    """The demo prints an answer, says how to go on, ends with the client's code and leaves nothing."""
    with LocalProcess(tmp_path, [sys.executable, "-m", "local.demo", "--tiny", "Hello"]) as demo:
        code, output = demo.end(ENGINE_PATIENCE_SECONDS)
        assert code == 0, demo.stderr()
        answer, afterwards = output.split("To keep it running", 1)
        assert answer.strip()
        assert " -m local\n" in afterwards
        assert "asking: Hello" in demo.stderr()
        demo.assert_nothing_is_left()
