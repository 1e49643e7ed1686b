"""The smoke test as a process: at the whole system on this machine, or at the one that TLFIF_URL names.

It runs where httpx alone is installed.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis

from router_lambda.job import cancel_key
from tests.e2e.small_environment import small_python
from tests.process.local_world import LocalProcess, wait_until

MODULE = "tests.e2e.smoke"
DEPLOYED = bool(os.environ.get("TLFIF_URL"))
local_only = pytest.mark.skipif(DEPLOYED, reason="TLFIF_URL names a deployed system, which is not ours to stop")


def where(addresses: dict[str, Any]) -> dict[str, str]:
    """Return the environment that signs in at the system on this machine."""
    cognito = addresses["cognito"]
    return {
        "TLFIF_URL": addresses["gateway"],
        "TLFIF_COGNITO_URL": cognito["url"],
        "TLFIF_COGNITO_CLIENT_ID": cognito["client_id"],
        "TLFIF_USERNAME": cognito["username"],
        "TLFIF_PASSWORD": cognito["password"],
    }


class Smoke:
    """One smoke test, started and perhaps still running; its files are in `artifacts`."""

    def __init__(self, folder: Path, environment: dict[str, str], *options: str) -> None:
        packages = folder / "packages"
        packages.mkdir(exist_ok=True)
        self.artifacts = Path(tempfile.mkdtemp(prefix="artifacts-", dir=folder))
        command = [*small_python(packages, MODULE), "--artifacts", str(self.artifacts), *options]
        self._process = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def end(self) -> tuple[int, str, dict[str, Any]]:
        """Wait until it ends; return exit code, output and `result.json`."""
        try:
            printed, _ = self._process.communicate(timeout=300)
        finally:
            self._process.kill()
        return self._process.returncode, printed, json.loads((self.artifacts / "result.json").read_text())


def assert_replied(smoke: Smoke) -> dict[str, Any]:
    """Wait for a pass; return the result."""
    code, printed, result = smoke.end()
    assert (code, result["verdict"]) == (0, "passed"), printed
    reply = json.loads((smoke.artifacts / "reply.json").read_text())
    assert reply["status"] == "done"
    assert reply["choices"][0]["text"].strip()
    assert (smoke.artifacts / "log.txt").read_text() == printed
    return result


@pytest.mark.skipif(not DEPLOYED, reason="TLFIF_URL names no deployed system")
def test_at_a_deployed_system(tmp_path: Path) -> None:
    """As the pipeline runs it; the environment says who asks, as docs/smoke.md has it."""
    code, printed, result = Smoke(tmp_path, dict(os.environ)).end()
    assert code == 0, printed
    assert result["verdict"] in {"passed", "unstable"}


@local_only
def test_a_gpu_that_sleeps_one_that_is_awake_and_one_that_stops(tmp_path: Path) -> None:
    """The first prompt wakes it, the second finds it warm, the third wakes it again; nothing secret is written."""
    command = [sys.executable, "-m", "local", "--tiny", "--asleep", "--boot-seconds", "0.5", "--stop-seconds", "2"]
    with LocalProcess(tmp_path, command) as local:
        addresses = local.ready()
        first = Smoke(tmp_path, where(addresses))
        woken = assert_replied(first)
        assert woken["gpu"] == "stopped"
        assert "the instance boots" in (first.artifacts / "log.txt").read_text()
        with_token = {"TLFIF_URL": addresses["gateway"], "TLFIF_TOKEN": addresses["token"]}
        warm = assert_replied(Smoke(tmp_path, with_token))
        assert warm["gpu"] == "ready"
        assert warm["seconds"] < woken["seconds"]
        assert warm["answers"]["the service"] == {"200": 1, "202": 1}

        headers = {"authorization": f"Bearer {addresses['token']}"}
        assert httpx.post(f"{addresses['gateway']}/stop", headers=headers).json() == {"status": "stopping"}
        again = Smoke(tmp_path, with_token)
        assert_replied(again)
        # Whether it was found so, or stopped after that look: both may be, and both end well.
        assert "the GPU is stopping" in (again.artifacts / "log.txt").read_text()

        written = "".join(file.read_text() for file in first.artifacts.iterdir())
        for secret in (addresses["token"], addresses["cognito"]["password"], "X-Amz-Signature"):
            assert secret not in written


@local_only
def test_nobody_works(tmp_path: Path) -> None:
    """A worker that takes no job, a signal, a wrong password and a wrong token: each ends as it should."""
    with LocalProcess.with_stand_in(tmp_path) as local:
        addresses = local.ready()

        def assert_cancelled(result: dict[str, Any]) -> None:
            with redis.Redis.from_url(addresses["redis"]) as client:
                assert client.exists(cancel_key(result["job"]))

        late = Smoke(tmp_path, where(addresses), "--unstable-seconds", "1", "--deadline-seconds", "2")
        code, printed, result = late.end()
        assert (code, result["reason"]) == (1, "no final reply within 2 s; the GPU is ready"), printed
        assert_cancelled(result)

        interrupted = Smoke(tmp_path, where(addresses))
        log = interrupted.artifacts / "log.txt"
        wait_until(lambda: log.exists() and "is accepted" in log.read_text(), "the prompt is sent")
        interrupted.send(signal.SIGTERM)
        code, printed, result = interrupted.end()
        assert (code, result["verdict"]) == (143, "interrupted"), printed
        assert_cancelled(result)

        password = Smoke(tmp_path, where(addresses) | {"TLFIF_PASSWORD": "Wrong-Password-1"})
        code, printed, result = password.end()
        assert (code, result["job"]) == (1, None), printed
        assert "check the user name and the password" in result["reason"]

        code, printed, result = Smoke(tmp_path, {"TLFIF_URL": addresses["gateway"], "TLFIF_TOKEN": "nonsense"}).end()
        assert (code, result["answers"]) == (1, {"the service": {"403": 1}}), printed
