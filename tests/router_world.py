"""A router whose Redis, EC2 and clock belong to the test."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime
from ipaddress import ip_network
from typing import Any

import redis
from botocore.exceptions import ClientError

from router_lambda.app import App
from router_lambda.budget import Check, unlimited
from router_lambda.ec2 import Ec2
from router_lambda.handler import build
from router_lambda.job import Job, job_key, worker_key
from router_lambda.settings import HealthSettings, RouterSettings

NOW = 1_790_000_000.25
LONG_AGO = NOW - 86_400
GPU_TAG = ("env", "tinyllama")
SETTINGS = RouterSettings(HealthSettings("redis://unused", (ip_network("127.0.0.0/8"),)), "tl-fif", GPU_TAG)
BOOT = 90


@dataclass
class Clock:
    """Unix seconds that only `sleep` and the test move; safe to share among threads."""

    now: float = NOW

    def __call__(self) -> float:
        """Tell the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass without taking any."""
        self.now += seconds


@dataclass
class FakeEc2:
    """One tagged instance, as boto3's client shows it; a start or stop is only begun, the test ends it.

    Attributes:
        state: EC2's word for it, `None` for no instance at all.
        beside: the states of more instances, by id.
        lags: how often `describe_instances` still shows the state before the last start.
        failures: what the next calls raise, by method.
        calls: the methods that were called.
    """

    clock: Clock
    state: str | None = "stopped"
    launched_at: float = LONG_AGO
    beside: dict[str, str] = field(default_factory=dict)
    lags: int = 0
    failures: dict[str, Exception] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def describe_instances(self, Filters: list[dict[str, Any]]) -> dict[str, Any]:  # noqa: N803 - boto3's name
        """Show the instance if the filters ask for its tag and state."""
        self._note("describe_instances")
        assert {"Name": "tag:env", "Values": ["tinyllama"]} in Filters
        (states,) = (each["Values"] for each in Filters if each["Name"] == "instance-state-name")
        shown = self.state
        if self.lags:
            self.lags, shown = self.lags - 1, "stopped"
        found = {"i-1": (shown, self.launched_at)} | {name: (each, LONG_AGO) for name, each in self.beside.items()}
        instances = [
            {"InstanceId": name, "State": {"Name": each}, "LaunchTime": datetime.fromtimestamp(launched_at, UTC)}
            for name, (each, launched_at) in found.items()
            if each in states
        ]
        return {"Reservations": [{"Instances": [each]} for each in instances]}

    def start_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Begin to start."""
        self._note("start_instances")
        (name,) = InstanceIds
        if name == "i-1":
            self.state, self.launched_at = "pending", self.clock.now
        else:
            assert name in self.beside
            self.beside[name] = "pending"

    def stop_instances(self, InstanceIds: list[str]) -> None:  # noqa: N803 - boto3's name
        """Begin to stop."""
        self._note("stop_instances")
        for name in InstanceIds:
            if name == "i-1":
                self.state = "stopping"
            else:
                assert name in self.beside
                self.beside[name] = "stopping"

    def _note(self, method: str) -> None:
        with self.lock:
            self.calls.append(method)
        if method in self.failures:
            raise self.failures[method]


def refusal(code: str) -> ClientError:
    """Return what boto3 raises when EC2 refuses."""
    return ClientError({"Error": {"Code": code, "Message": "as the test wants"}}, "StartInstances")


def make_router(
    client: redis.Redis, ec2: FakeEc2, clock: Clock, settings: RouterSettings = SETTINGS, check: Check = unlimited
) -> App:
    """Build the router; signing finds its credentials in the environment."""
    return build(settings, client, client, Ec2(settings.gpu_tag, lambda: ec2), clock, check=check)


def beat(client: redis.Redis, worker: str = "w1", **said: Any) -> None:
    """Write a heartbeat, as a worker does every few seconds."""
    client.set(worker_key(worker), json.dumps({"state": "ready", "running": 0} | said), ex=10)


def content(answer: dict[str, Any]) -> Any:
    """Return what the body of an answer holds, after a look at the shape that API Gateway wants."""
    assert answer.keys() == {"statusCode", "headers", "body", "isBase64Encoded"}
    assert answer["isBase64Encoded"] is False
    assert all(name == name.lower() and isinstance(value, str) for name, value in answer["headers"].items())
    return json.loads(answer["body"])


def problem(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the problem in an error answer, whose form is that of RFC 9457."""
    found: dict[str, Any] = content(answer)
    assert answer["headers"]["content-type"] == "application/problem+json"
    assert found["type"] == "about:blank"
    assert found["status"] == answer["statusCode"]
    assert found["request_id"] == "request-1"
    assert found["title"]
    assert found["detail"]
    return found


def stored(client: redis.Redis, answer: dict[str, Any]) -> Job:
    """Return the job that an answer is about."""
    payload = client.get(job_key(content(answer)["id"]))
    assert isinstance(payload, bytes)
    return Job.from_json(payload)


def metrics(output: str) -> list[str]:
    """Return the names of the metrics among the lines that a Lambda wrote."""
    lines = [json.loads(line) for line in output.splitlines()]
    return [
        metric["Name"]
        for line in lines
        if "_aws" in line
        for directive in line["_aws"]["CloudWatchMetrics"]
        for metric in directive["Metrics"]
    ]
