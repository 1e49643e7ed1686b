"""The emulated AWS: its tokens pass the real authorizer, and its instance starts and stops."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from jose import jwt

from local import server as server_module
from local.aws_server import GPU_TAG, AwsServer
from local.ports import LOOPBACK, free_ports
from local.server import StartFailed
from router_lambda import authorizer


@pytest.fixture
def own_aws(tmp_path: Path) -> Iterator[AwsServer]:
    """Yield an AWS that is not started; the test may do with it what it wants."""
    server = AwsServer(tmp_path)
    yield server
    server.stop()


@pytest.fixture
def asking(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the real authorizer trust `aws_server`."""
    monkeypatch.delenv("TL_DISABLE_JWT", raising=False)
    for name, value in aws_server.environment().items():
        monkeypatch.setenv(name, value)
    authorizer._verifier.cache_clear()
    yield
    authorizer._verifier.cache_clear()


def verdict(token: str) -> dict[str, Any]:
    """Return what the authorizer says about a token."""
    return authorizer.handler({"headers": {"authorization": f"Bearer {token}"}}, None)


def instances(server: AwsServer) -> list[tuple[str, str]]:
    """Return id and state of every instance with the GPU's tag."""
    name, value = GPU_TAG.split("=")
    found = server.client("ec2").describe_instances(Filters=[{"Name": f"tag:{name}", "Values": [value]}])
    return [(each["InstanceId"], each["State"]["Name"]) for part in found["Reservations"] for each in part["Instances"]]


@pytest.mark.usefixtures("asking")
def test_token_passes_the_authorizer(aws_server: AwsServer) -> None:
    """Every token names the same user, and the hour that it lives."""
    first, second = aws_server.token(), aws_server.token()
    claims = jwt.get_unverified_claims(second)
    assert first != second
    assert verdict(second) == {"isAuthorized": True, "context": {"sub": claims["sub"], "exp": claims["exp"]}}
    assert claims["exp"] - claims["iat"] == 3_600
    assert verdict(first)["context"]["sub"] == claims["sub"]


@pytest.mark.usefixtures("asking")
def test_changed_token_does_not(aws_server: AwsServer) -> None:
    """The signature is checked, not only looked at."""
    head, claims, signature = aws_server.token().split(".")
    other_claims = aws_server.token().split(".")[1]
    assert claims != other_claims
    assert verdict(f"{head}.{other_claims}.{signature}") == {"isAuthorized": False}


def test_sign_in_and_refresh(aws_server: AwsServer) -> None:
    """Only the right password gets tokens, and the refresh token gets more of them."""
    cognito = aws_server.client("cognito-idp")

    def ask(flow: str, **parameters: str) -> dict[str, Any]:
        answer = cognito.initiate_auth(ClientId=aws_server.client_id, AuthFlow=flow, AuthParameters=parameters)
        tokens: dict[str, Any] = answer["AuthenticationResult"]
        return tokens

    who = {"USERNAME": aws_server.username}
    with pytest.raises(cognito.exceptions.NotAuthorizedException):
        ask("USER_PASSWORD_AUTH", **who, PASSWORD=aws_server.password + "x")
    tokens = ask("USER_PASSWORD_AUTH", **who, PASSWORD=aws_server.password)
    fresh = ask("REFRESH_TOKEN_AUTH", REFRESH_TOKEN=tokens["RefreshToken"])
    assert jwt.get_unverified_claims(fresh["AccessToken"])["client_id"] == aws_server.client_id


def test_one_instance_runs(aws_server: AwsServer) -> None:
    """The GPU's tag finds one instance, which stops and starts."""
    ec2 = aws_server.client("ec2")
    assert instances(aws_server) == [(aws_server.instance_id, "running")]
    ec2.stop_instances(InstanceIds=[aws_server.instance_id])
    assert instances(aws_server) == [(aws_server.instance_id, "stopped")]
    ec2.start_instances(InstanceIds=[aws_server.instance_id])
    assert instances(aws_server) == [(aws_server.instance_id, "running")]


def test_environment_leads_every_sdk_here(aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK with any credentials finds the instance."""
    credentials = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_REGION": aws_server.region}
    for name, value in (aws_server.environment() | credentials).items():
        monkeypatch.setenv(name, value)
    found = boto3.Session(region_name=aws_server.region).client("ec2").describe_instances()
    assert found["Reservations"][0]["Instances"][0]["InstanceId"] == aws_server.instance_id


def test_no_page_may_use_it(aws_server: AwsServer) -> None:
    """A browser keeps its answers from every page."""
    answer = httpx.get(aws_server.jwks_url, headers={"origin": "http://localhost:3000"}, trust_env=False)
    assert answer.json()["keys"][0]["kty"] == "RSA"
    assert not [name for name in answer.headers if name.startswith("access-control-")]


def test_restart_sets_it_up_anew(own_aws: AwsServer) -> None:
    """After a crash everything is there again, at the same addresses and for the same password."""
    own_aws.start()
    before, instance, token = own_aws.environment(), own_aws.instance_id, own_aws.token()
    own_aws.kill()
    own_aws.restart()
    assert own_aws.environment() == before
    assert instances(own_aws) == [(own_aws.instance_id, "running")]
    assert own_aws.instance_id != instance
    assert jwt.get_unverified_claims(own_aws.token())["iss"] == jwt.get_unverified_claims(token)["iss"]


class Stranger(BaseHTTPRequestHandler):
    """Answers everything with a page."""

    def do_POST(self) -> None:
        """Answer."""
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"<html>it works")

    def log_message(self, *_: object) -> None:
        """Keep quiet."""


def test_a_stranger_at_the_port(own_aws: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another server at the port is not taken for ours; the next port is tried."""
    with HTTPServer((LOOPBACK, 0), Stranger) as stranger:
        threading.Thread(target=stranger.serve_forever, daemon=True).start()
        choices = iter([[stranger.server_port], free_ports(1)])
        monkeypatch.setattr(server_module, "free_ports", lambda _count: next(choices))
        own_aws.start()
        stranger.shutdown()
    assert not own_aws.endpoint.endswith(f":{stranger.server_port}")
    assert own_aws.token()


def test_another_moto_at_the_port(own_aws: AwsServer, aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even another moto is taken for ours, and it gets no user of ours."""
    taken = int(aws_server.endpoint.rsplit(":", 1)[1])
    monkeypatch.setattr(server_module, "free_ports", lambda _count: [taken])
    with pytest.raises(StartFailed, match="ended with exit code"):
        own_aws.start()
    pools = aws_server.client("cognito-idp").list_user_pools(MaxResults=60)["UserPools"]
    assert [pool["Name"] for pool in pools if own_aws._account in pool["Name"]] == []
    assert [pool["Name"] for pool in pools if aws_server._account in pool["Name"]]


def test_refused_set_up_is_a_failed_start(own_aws: AwsServer) -> None:
    """What the emulated AWS refuses ends the start with its words, and the process with it."""
    own_aws.password = "weak"
    with pytest.raises(StartFailed, match=r"setting it up failed: .*InvalidPassword"):
        own_aws.start()
    with pytest.raises(RuntimeError, match="aws is not running"):
        _ = own_aws.pid


def test_launch_does_not_wait(own_aws: AwsServer, aws_server: AwsServer, tmp_path: Path) -> None:
    """A launched server is a process at once and ready later; it shares nothing with another and writes but a log."""
    own_aws.launch()
    assert own_aws.pid
    assert own_aws.client_id == ""
    own_aws.wait_ready()
    assert own_aws.token()
    assert own_aws.issuer != aws_server.issuer
    assert own_aws.client_id != aws_server.client_id
    assert own_aws.password != aws_server.password
    own_aws.stop()
    assert [file.name for file in tmp_path.iterdir()] == ["aws.log"]
