"""The GPU's whole life on this machine, with the real worker: it wakes, answers, stops itself, and wakes again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import boto3
import httpx
import redis

from router_lambda.job import GPU_BOOTS, GPU_PHASES, QUEUE_OPEN, QUEUE_READY
from tests.process.local_world import REPOSITORY, LocalProcess, forget_calls, health, wait_until

BOOT_PATIENCE = 90.0
DELAYS = ("--boot-seconds", "0.5", "--stop-seconds", "3")
IDLE = {"TLFIF_IDLE_MINUTES": "0.05"}
PHASES = (
    "tlfif: the instance boots",
    "tlfif: the worker imports vLLM",
    "tlfif: vLLM loads the model",
    "tlfif: the GPU is ready",
)


class User:
    """Somebody with a token, who knows nothing of what is behind the gateway."""

    def __init__(self, addresses: dict[str, Any]) -> None:
        self._addresses = addresses
        self._headers = {"authorization": f"Bearer {addresses['token']}"}

    def infer(self) -> httpx.Response:
        """Post a prompt."""
        forget_calls(self._addresses)
        body = {"prompt": "Hello", "params": {"max_tokens": 8}}
        return httpx.post(f"{self._addresses['gateway']}/infer", headers=self._headers, json=body, timeout=30)

    def status(self) -> dict[str, Any]:
        """Ask how the GPU is."""
        forget_calls(self._addresses)
        answer = httpx.get(f"{self._addresses['gateway']}/status", headers=self._headers, timeout=30)
        shown: dict[str, Any] = answer.raise_for_status().json()
        return shown

    def reply(self, accepted: httpx.Response) -> dict[str, Any]:
        """Wait for the final reply."""
        found: list[dict[str, Any]] = []

        def is_final() -> bool:
            got = httpx.get(accepted.headers["location"])
            if got.status_code == 200 and got.json()["status"] != "streaming":
                found.append(got.json())
            return bool(found)

        wait_until(is_final, "the reply is final", BOOT_PATIENCE)
        return found[0]

    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run the client's command."""
        where = {"TLFIF_URL": self._addresses["gateway"], "TLFIF_TOKEN": self._addresses["token"]}
        command = [sys.executable, "-m", "client.cli", *words]
        return subprocess.run(
            command, cwd=REPOSITORY, env=os.environ | where, capture_output=True, text=True, check=False, timeout=120
        )


def instance_state(addresses: dict[str, Any]) -> str:
    """Return EC2's word for the instance."""
    keys = dict.fromkeys(("aws_access_key_id", "aws_secret_access_key"), "any")
    with closing(boto3.client("ec2", "eu-central-1", endpoint_url=addresses["aws"], **keys)) as ec2:
        (reservation,) = ec2.describe_instances()["Reservations"]
    word: str = reservation["Instances"][0]["State"]["Name"]
    return word


def lambda_metrics(local: LocalProcess) -> list[str]:
    """Return the names of what the Lambdas have counted so far."""
    lines = [json.loads(line) for line in local.file("router.log").read_text().splitlines()]
    return [
        metric["Name"] for line in lines if "_aws" in line for metric in line["_aws"]["CloudWatchMetrics"][0]["Metrics"]
    ]


def test_it_wakes_answers_stops_and_wakes_again(tmp_path: Path) -> None:
    """The second request comes while the instance stops: it is queued, and the waker starts the instance for it."""
    command = [sys.executable, "-m", "local", "--tiny", "--asleep", *DELAYS]
    with LocalProcess(tmp_path, command, **IDLE) as local:
        addresses = local.ready()
        user = User(addresses)
        assert addresses["pids"]["worker"] is None
        assert (instance_state(addresses), user.status()["state"]) == ("stopped", "stopped")

        first = user.infer()
        assert (first.status_code, first.json()["status"], first.json()["eta"]) == (202, "starting", 90)
        assert user.status()["state"] in {"starting", "booting"}
        assert user.reply(first)["status"] == "done"
        assert health(addresses)["worker"]["state"] in {"ready", "draining"}

        wait_until(lambda: instance_state(addresses) == "stopping", "the instance stops itself")
        second = user.infer()
        body = second.json()
        assert (second.status_code, body["status"]) == (202, "starting")
        assert 1 < body["eta"] < 90, "by the boot that was measured, and the stop that has to come first"
        reply = user.reply(second)
        assert (reply["status"], reply["attempt"]) == ("done", 1)

        wait_until(lambda: user.status()["state"] == "stopped", "the instance has stopped again", 30)
        assert lambda_metrics(local) == ["EC2Starts", "EC2Starts"]
        with redis.Redis.from_url(addresses["redis"]) as client:
            boots = [float(each) for each in client.lrange(GPU_BOOTS, 0, -1)]
            phases = [json.loads(each) for each in client.lrange(GPU_PHASES, 0, -1)]
            assert client.exists(QUEUE_OPEN, QUEUE_READY) == 0
        assert len(boots) == len(phases) == 2
        for boot, each in zip(boots, phases, strict=True):
            assert set(each) == {"instance", "daemon", "imports", "engine", "ready", "first_token"}
            assert abs(sum(each.values()) - each["first_token"] - boot) < 1.0


def test_the_client_shows_it_and_a_user_stops_it(tmp_path: Path) -> None:
    """`tlfif infer` tells the phases of a wake, `tlfif status` the countdown, `tlfif stop` ends it at once."""
    command = [sys.executable, "-m", "local", "--tiny", "--asleep", *DELAYS]
    with LocalProcess(tmp_path, command) as local:
        addresses = local.ready()
        user = User(addresses)

        asked = user.command("infer", "--max-tokens", "8", "--idle-minutes", "1", "Hello")
        assert asked.returncode == 0, asked.stderr
        said = [line.partition(",")[0] for line in asked.stderr.splitlines() if "so far" in line]
        # A look every 3 s may miss a phase that is shorter.
        assert said[0] == "tlfif: the instance boots"
        assert {"tlfif: the worker imports vLLM", "tlfif: vLLM loads the model"} & set(said)
        assert said == [line for line in PHASES if line in said]
        forget_calls(addresses)
        shown = user.command("status").stdout
        assert shown.startswith("ready: tiny-model, idle, stops in ")
        # The heartbeat, every 3 s, may still be that from before the job, with the idle time of the start.
        wait_until(lambda: 0 < user.status()["idle_seconds"] <= 60, "it counts down the minute that the job asked for")

        began = time.monotonic()
        assert user.command("stop").stdout == "stopping: the GPU stops as soon as no job is running\n"
        wait_until(lambda: instance_state(addresses) == "stopped", "the instance has stopped", 30)
        assert time.monotonic() - began < 30
        assert user.command("stop").stdout == "stopped: the GPU is down already\n"
        assert "UserStops" in lambda_metrics(local)
