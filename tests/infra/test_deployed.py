"""The quickstart as it was deployed: what the API leads to, and the deployed functions in Lambda's runtime client."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
import zipfile
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from local.s3_server import S3Server
from router_lambda.job import QUEUE_OPEN, QUEUE_READY, job_key
from tests.infra.deployed import Bench, Deployed, Route
from tests.infra.deployments import Deployment
from tests.infra.terraform_world import REPOSITORY
from tests.integration.lambda_world import runtime
from tests.openapi import operations
from tests.router_samples import JOB_ID, event

FUNCTIONS = {
    *("router", "authorizer", "queue-health", "waker", "reaper", "gauges", "canary"),
    *("cost-publisher", "budget-killer"),
}
SETTING = re.compile(r"\"(TLFIF_[A-Z_]+)\"")


@pytest.fixture(scope="module")
def package(lambda_package: Path | None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the package that was deployed, unpacked."""
    runtime()  # skips, where nothing could be built
    assert lambda_package is not None
    folder = tmp_path_factory.mktemp("task")
    with zipfile.ZipFile(lambda_package) as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture
def deployed(
    deployments: dict[str, Deployment], package: Path, s3_server: S3Server, redis_url: str, tmp_path: Path
) -> Iterator[Deployed]:
    """Yield the quickstart, with a GPU that is stopped, and a budget of which nothing is spent."""
    bench = Bench(runtime(), package, s3_server, redis_url, tmp_path / "function.log")
    made = Deployed(deployments["lean"], bench)
    made.stop_gpu()
    made.put("guard/spend.json", spend(0.0))
    yield made
    for key in ("guard/spend.json", "guard/block.json"):
        made.remove(key)
    made.start_gpu()  # as Terraform left it


def spend(eur: float) -> dict[str, Any]:
    """Return what the cost publisher would write now."""
    return {"month": datetime.now(UTC).strftime("%Y-%m"), "spend_eur": eur, "cap_eur": 20.0, "at": time.time()}


def answer(deployed: Deployed, function: str, asked: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Invoke a function and return status and body of its answer."""
    with deployed.run(function) as running:
        said = running.invoke(asked)
    return said["statusCode"], json.loads(said["body"])


def from_address(method: str, path: str, address: str) -> dict[str, Any]:
    """Return a request without a token from an address."""
    asked = event(method, path, authorizer=None)
    asked["requestContext"]["http"]["sourceIp"] = address
    return asked


def sample(name: str) -> dict[str, Any]:
    """Return an event of docs/sam/events."""
    content = (REPOSITORY / "docs" / "sam" / "events" / f"{name}.json").read_text(encoding="utf-8")
    return dict(json.loads(content))


# What leads where


def test_every_route_leads_to_its_function(deployed: Deployed) -> None:
    """By the alias; those that ask for a token are behind the authorizer, and so is whatever is on no list."""
    expected = {
        f"{method} {path}": Route(
            "queue-health" if path == "/queue-health" else "router", "prod", "authorizer" if each["security"] else None
        )
        for method, path, each in operations()
        if method != "OPTIONS"
    }
    expected["OPTIONS /{path+}"] = Route("router", "prod", None)
    expected["$default"] = Route("router", "prod", "authorizer")
    assert deployed.routes() == expected


def test_whoever_is_called_is_there(deployed: Deployed) -> None:
    """EventBridge's minute, its word of a stop, and the publisher's quarter of an hour."""
    calls = deployed.calls()
    schedules = {
        function: {name: rule.get("ScheduleExpression") for name, rule in rules.items()}
        for function, rules in calls.items()
    }
    minute = {"minute": "rate(1 minute)"}
    assert schedules == {
        "waker": minute | {"stopped": None},
        "reaper": minute,
        "gauges": minute,
        "canary": minute,
        "cost-publisher": {"cost-publisher": "rate(15 minutes)"},
    }
    assert json.loads(calls["waker"]["stopped"]["EventPattern"]) == {
        "source": ["aws.ec2"],
        "detail-type": ["EC2 Instance State-change Notification"],
        "detail": {"state": ["stopped"]},
    }


def test_the_budget_calls_the_killer(deployed: Deployed) -> None:
    """AWS Budgets at 100 % and the alarm on the cap publish to one topic, and it calls the killer."""
    subscriptions = deployed.aws.client("sns").list_subscriptions()["Subscriptions"]
    kill = {each["TopicArn"]: each["Endpoint"] for each in subscriptions if each["Protocol"] == "lambda"}
    ((topic, function),) = kill.items()
    assert topic.endswith(":tl-fif-budget-kill")
    assert function.endswith(":function:tl-fif-budget-killer:prod")
    (alarm,) = deployed.aws.client("cloudwatch").describe_alarms(AlarmNames=["tl-fif-spend-cap"])["MetricAlarms"]
    assert topic in alarm["AlarmActions"]
    account = deployed.aws.client("sts").get_caller_identity()["Account"]
    (budget,) = deployed.aws.client("budgets").describe_budgets(AccountId=account)["Budgets"]
    assert (budget["BudgetType"], budget["TimeUnit"]) == ("COST", "MONTHLY")


def test_the_access_log_is_as_agreed(deployed: Deployed) -> None:
    """Its five fields, in the log group that keeps them for 30 days."""
    (stage,) = deployed.aws.client("apigatewayv2").get_stages(ApiId=deployed.api_id)["Items"]
    settings = stage["AccessLogSettings"]
    assert json.loads(settings["Format"]).keys() == {"requestId", "ip", "route", "status", "latencyMs"}
    (group,) = deployed.aws.client("logs").describe_log_groups(logGroupNamePrefix="/apigw/")["logGroups"]
    assert (group["logGroupName"], group["retentionInDays"]) == ("/apigw/tl-fif", 30)
    assert settings["DestinationArn"] == group["arn"].removesuffix(":*")


# What is deployed


@pytest.mark.parametrize("function", sorted(FUNCTIONS))
def test_a_function_is_the_package_and_its_settings(
    deployed: Deployed, function: str, lambda_package: Path | None
) -> None:
    """The very bytes, Python 3.12 and 512 MB; it is given nothing that nobody reads."""
    assert lambda_package is not None
    found = deployed.configuration(function)
    assert base64.b64decode(found["CodeSha256"]) == hashlib.sha256(lambda_package.read_bytes()).digest()
    assert (found["Runtime"], found["MemorySize"], found["Architectures"]) == ("python3.12", 512, ["x86_64"])
    known = {
        name
        for path in ("settings.py", "watch_settings.py")
        for name in SETTING.findall((REPOSITORY / "router_lambda" / path).read_text(encoding="utf-8"))
    }
    assert {name for name in deployed.environment(function) if name.startswith("TLFIF_")} <= known


def test_the_functions_in_the_vpc_speak_ipv6(deployed: Deployed) -> None:
    """There is no other way out; those that need none, or IPv4, are outside."""
    inside = {name for name in FUNCTIONS if deployed.configuration(name).get("VpcConfig", {}).get("SubnetIds")}
    assert inside == FUNCTIONS - {"authorizer", "cost-publisher", "budget-killer"}
    redis_users = {name for name in FUNCTIONS if "TLFIF_REDIS_URL" in deployed.environment(name)}
    assert redis_users == inside - {"canary"}
    for name in redis_users:
        assert deployed.environment(name)["AWS_USE_DUALSTACK_ENDPOINT"] == "true"
        assert deployed.outputs["redis_endpoint"] in deployed.environment(name)["TLFIF_REDIS_URL"]


# The functions


def test_ping_is_for_the_vpc_alone(deployed: Deployed) -> None:
    """By both of its address blocks."""
    (vpc,) = [each for each in deployed.aws.client("ec2").describe_vpcs()["Vpcs"] if not each["IsDefault"]]
    ours = vpc["Ipv6CidrBlockAssociationSet"][0]["Ipv6CidrBlock"].partition("/")[0]
    for address in ("10.20.2.7", f"{ours}7"):
        assert answer(deployed, "router", from_address("GET", "/ping", address)) == (200, {"status": "ok"})
    for address in ("203.0.113.9", "10.20.4.1", "2001:db8::1"):
        assert answer(deployed, "router", from_address("GET", "/ping", address))[0] == 403


def test_queue_health_asks_redis(deployed: Deployed) -> None:
    """From inside alone, too."""
    status, body = answer(deployed, "queue-health", from_address("GET", "/queue-health", "10.20.2.7"))
    assert (status, body["redis"]) == (200, "ok")
    assert answer(deployed, "queue-health", from_address("GET", "/queue-health", "203.0.113.9"))[0] == 403


def token(deployed: Deployed) -> str:
    """Return an access token of a user of the deployed pool."""
    cognito, pool, client = (
        deployed.aws.client("cognito-idp"), deployed.outputs["user_pool_id"], deployed.outputs["client_id"],
    )  # fmt: skip
    who = {"UserPoolId": pool, "Username": "anna"}
    cognito.admin_create_user(**who, MessageAction="SUPPRESS")
    cognito.admin_set_user_password(**who, Password="Long-enough-for-2026", Permanent=True)
    signed_in = cognito.initiate_auth(
        ClientId=client,
        AuthFlow="USER_PASSWORD_AUTH",
        AuthParameters={"USERNAME": "anna", "PASSWORD": "Long-enough-for-2026"},
    )
    cognito.admin_delete_user(**who)
    return str(signed_in["AuthenticationResult"]["AccessToken"])


def test_infer_takes_a_token_of_the_pool_and_wakes_the_gpu(deployed: Deployed) -> None:
    """First the authorizer, as the gateway asks it, then the router with what it said; the instance is started."""
    good = token(deployed)
    with deployed.run("authorizer") as authorizer:
        verdicts = [
            authorizer.invoke(event("POST", "/infer", headers={"authorization": f"Bearer {each}"}))
            for each in (f"{good[:-4]}AAAA", "a.b.c", good)
        ]
    assert verdicts[:2] == [{"isAuthorized": False}, {"isAuthorized": False}]
    assert verdicts[2]["isAuthorized"] is True

    asked = event("POST", "/infer", '{"prompt": "Why?"}', authorizer={"lambda": verdicts[2]["context"]})
    status, body = answer(deployed, "router", asked)
    assert (status, body["status"]) == (202, "starting")
    assert deployed.gpu() == "running"


@pytest.mark.parametrize(("eur", "status"), [(19.99, 202), (20.0, 402)])
def test_the_budget_that_was_deployed_lets_a_gpu_start_or_not(deployed: Deployed, eur: float, status: int) -> None:
    """The router reads what was spent, and knows the cap."""
    deployed.put("guard/spend.json", spend(eur))
    assert answer(deployed, "router", event("POST", "/infer", '{"prompt": "Why?"}'))[0] == status
    assert deployed.gpu() == ("running" if status == 202 else "stopped")


@pytest.mark.parametrize("name", ["every-minute", "instance-stopped"])
def test_the_waker_starts_the_gpu_for_what_waits(deployed: Deployed, redis_url: str, name: str) -> None:
    """By either of the events that EventBridge has for it."""
    with closing(redis.Redis.from_url(redis_url)) as client:
        client.set(job_key(JOB_ID), "{}", ex=300)
        client.zadd(QUEUE_OPEN, {JOB_ID: time.time()})
        client.rpush(QUEUE_READY, JOB_ID)
    with deployed.run("waker") as waker:
        waker.invoke(sample(name))
    assert deployed.gpu() == "running", deployed.bench.log.read_text(encoding="utf-8")


def test_the_reaper_looks_after_the_gpu(deployed: Deployed) -> None:
    """One that has just started and has no worker yet is left alone."""
    deployed.start_gpu()
    with deployed.run("reaper") as reaper:
        assert reaper.invoke(sample("every-minute")).keys()
    assert deployed.gpu() == "running"


def test_the_gauges_measure_queue_and_gpu(deployed: Deployed, redis_url: str) -> None:
    """Into the log, as metrics."""
    deployed.start_gpu()
    with deployed.run("gauges") as gauges:
        gauges.invoke(sample("every-minute") | {"time": datetime.now(UTC).isoformat()})
    log = deployed.bench.log.read_text(encoding="utf-8")
    assert '"GpusUp"' in log
    assert '"GpuSeconds"' in log
    assert '"QueueDepth"' in log


def test_the_canary_asks_the_api(deployed: Deployed) -> None:
    """Its address is the API's; here nobody answers, and both figures say so."""
    assert deployed.environment("canary")["TLFIF_URL"] == deployed.outputs["api_url"]
    with deployed.run("canary") as canary:
        assert canary.invoke(sample("every-minute")) == {"PingFailures": 1, "QueueHealthFailures": 1}


def test_the_killer_stops_the_gpu_and_nothing_starts_it(deployed: Deployed) -> None:
    """Called as SNS does; what it writes is what the router reads."""
    deployed.start_gpu()
    with deployed.run("budget-killer") as killer:
        killer.invoke(
            {"Records": [{"Sns": {"Subject": "AWS Budgets: tl-fif-month", "Message": "AWS Budget Notification"}}]},
            seconds=60,
        )
    assert deployed.gpu() == "stopped"
    assert deployed.get("guard/block.json")["reason"] == "AWS Budgets"
    assert answer(deployed, "router", event("POST", "/infer", '{"prompt": "Why?"}'))[0] == 402
    assert deployed.gpu() == "stopped"
