"""Who gets into `python -m local`, and what its log keeps of them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from jose import jwt

from tests.process.local_world import REPOSITORY, LocalProcess, forget_calls, wait_until

PROMPT = "a prompt that no log may hold"

FOREIGN_WORLD = {
    "AWS_PROFILE": "no-such-profile",
    "AWS_SESSION_TOKEN": "a-real-one",
    "HTTP_PROXY": "http://127.0.0.1:9",
}
"""What the caller may have set for other purposes."""


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalProcess]:
    """Yield a system whose worker takes no jobs, started by somebody who has AWS settings of his own."""
    with LocalProcess.with_stand_in(tmp_path_factory.mktemp("local"), **FOREIGN_WORLD) as process:
        yield process


@pytest.fixture(scope="module")
def ready(local: LocalProcess) -> dict[str, Any]:
    """Return the ready line."""
    return local.ready()


@pytest.fixture
def addresses(ready: dict[str, Any]) -> dict[str, Any]:
    """Return the ready line of a system that has not been called lately."""
    forget_calls(ready)
    return ready


def infer(addresses: dict[str, Any], token: str | None) -> httpx.Response:
    """Post a prompt with a token, or with none."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    return httpx.post(f"{addresses['gateway']}/infer", headers=headers, json={"prompt": PROMPT})


def lines(local: LocalProcess) -> list[dict[str, Any]]:
    """Return what the Lambdas have logged."""
    return [json.loads(line) for line in local.file("router.log").read_text().splitlines()]


def forged(token: str) -> str:
    """Return a token with the same claims and key id, signed by another key."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2_048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    kid = jwt.get_unverified_header(token)["kid"]
    made: str = jwt.encode(jwt.get_unverified_claims(token), pem, "RS256", {"kid": kid})
    return made


def test_token_of_the_ready_line_gets_in(addresses: dict[str, Any]) -> None:
    """A live worker's heartbeat is there, so the prompt is queued."""
    answer = infer(addresses, addresses["token"])
    assert (answer.status_code, answer.json()["status"]) == (202, "queued")


def test_forged_token_is_403(addresses: dict[str, Any]) -> None:
    """The same claims, signed by another key, are refused at the edge."""
    answer = infer(addresses, forged(addresses["token"]))
    assert (answer.status_code, answer.json()) == (403, {"message": "Forbidden"})


def test_no_token_is_401(addresses: dict[str, Any]) -> None:
    """Without the header the edge refuses before any Lambda runs."""
    answer = infer(addresses, None)
    assert (answer.status_code, answer.json()) == (401, {"message": "Unauthorized"})


@pytest.mark.parametrize("route", ["/ping", "/queue-health"])
def test_health_is_open_to_this_machine(addresses: dict[str, Any], route: str) -> None:
    """Both health checks answer without a token."""
    assert httpx.get(f"{addresses['gateway']}{route}").status_code == 200


def test_login_as_told(local: LocalProcess, addresses: dict[str, Any]) -> None:
    """The line on standard error and the password of the ready line are all that `tlfif login` needs."""
    local.wait_for_stderr("tlfif login")
    (hint,) = [line.split() for line in local.stderr().splitlines() if line.endswith(" tlfif login")]
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", "login", "--print"],
        cwd=REPOSITORY,
        env=os.environ | dict(word.split("=", 1) for word in hint if "=" in word),
        input=addresses["cognito"]["password"] + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert infer(addresses, done.stdout.strip()).status_code == 202
    assert addresses["cognito"]["password"] not in local.stderr()


def test_log_has_access_lines_and_nothing_secret(local: LocalProcess, addresses: dict[str, Any]) -> None:
    """Each request has its line; neither token nor prompt is in it, nor in any log."""
    request_id = infer(addresses, addresses["token"]).headers["apigw-requestid"]
    (line,) = [line for line in lines(local) if line.get("requestId") == request_id]
    assert {"ip": "127.0.0.1", "route": "POST /infer", "status": 202}.items() <= line.items()
    written = local.stderr() + "".join(file.read_text(errors="replace") for file in local.folder.rglob("*.log"))
    assert PROMPT not in written
    assert addresses["token"].split(".")[2] not in written


def test_wake_is_a_real_call(tmp_path: Path) -> None:
    """Without a heartbeat the router asks EC2: a running instance is waited for, a stopped one is started, once.

    While it stops nobody can start it; the waker does as soon as it has.

    None of the Lambdas' lines comes after the ready line.
    """
    with LocalProcess.with_stand_in(tmp_path, "silent") as local:
        addresses = local.ready()
        ec2 = boto3.client(
            "ec2",
            endpoint_url=addresses["aws"],
            region_name="eu-central-1",
            aws_access_key_id="any",
            aws_secret_access_key="any",
        )

        def instance() -> tuple[str, str]:
            (each,) = ec2.describe_instances()["Reservations"][0]["Instances"]
            return each["InstanceId"], each["State"]["Name"]

        assert infer(addresses, addresses["token"]).json()["status"] == "starting"
        ec2.stop_instances(InstanceIds=[instance()[0]])
        assert instance()[1] == "stopping"
        answers = [infer(addresses, addresses["token"]) for _ in range(2)]
        assert [answer.json()["status"] for answer in answers] == ["starting", "starting"]
        assert answers[0].headers["retry-after"] == str(answers[0].json()["eta"])
        wait_until(lambda: instance()[1] == "running", "it runs again")
        assert sum(line.get("EC2Starts", 0) for line in lines(local)) == 1
        local.send(signal.SIGTERM)
        assert local.end() == (0, "")


def test_without_jwt_any_token_will_do(tmp_path: Path) -> None:
    """TL_DISABLE_JWT=1 reaches the authorizer; a header is wanted all the same."""
    with LocalProcess.with_stand_in(tmp_path, TL_DISABLE_JWT="1") as local:
        addresses = local.ready()
        assert infer(addresses, "anything").status_code == 202
        assert infer(addresses, None).status_code == 401
