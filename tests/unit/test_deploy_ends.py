"""What ends a deployment in a fake account, and where that leaves the callers."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from terraform.deployment import EXIT_FAILED, EXIT_SOMEBODY_ELSE
from tests.deploy_world import BEFORE, World
from tests.fake_deploy_aws import NAME
from tests.fake_lambda import NEW, answer


@pytest.fixture
def world() -> World:
    """Return an account with a system of 0.8.0."""
    return World()


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """Return the new code."""
    path = tmp_path / "new.zip"
    path.write_bytes(NEW)
    return path


def fails(kind: str, how: Callable[[Any], Any]) -> Callable[[str, Any], Any]:
    """Return functions of which one kind answers otherwise."""
    return lambda each, event: how(event) if each == kind else answer(each, event)


def _raise(_event: Any) -> Any:
    raise KeyError("TLFIF_BUCKET")


@pytest.mark.parametrize(
    ("kind", "how", "said"),
    [
        ("router", _raise, "TLFIF_BUCKET"),
        ("router", lambda _: {"statusCode": 500, "body": ""}, "should answer 200"),
        ("router", lambda _: {"statusCode": 200, "body": "{}"}, "whose body should have"),
        ("router", lambda _: {"statusCode": 200, "body": "not JSON"}, "whose body should have"),
        ("router", lambda _: None, "it answers null"),
        ("router", lambda _: "no JSON at all", "no JSON at all"),
        ("queue-health", lambda _: {"statusCode": 503, "body": ""}, "GET /queue-health"),
        ("authorizer", lambda _: {"isAuthorized": True}, "should refuse it"),
        ("authorizer", lambda _: {}, "should refuse it"),
    ],
)
def test_what_is_not_proven_is_not_deployed(
    world: World, package: Path, kind: str, how: Callable[[Any], Any], said: str
) -> None:
    """No caller meets it, nothing is on record, and the reason is told."""
    world.functions.answers[NEW] = fails(kind, how)
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert world.functions.leads() == BEFORE
    assert world.ssm.state() is None
    assert said in deployment.reason
    assert deployment.title == "tl-fif 0.9.0 was not deployed"
    assert deployment.reason in deployment.page()


def test_preflights_are_proven_too(world: World, package: Path) -> None:
    """/ping alone does not let a page in."""
    world.functions.answers[NEW] = fails(
        "router",
        lambda event: {"statusCode": 403} if event["rawPath"] == "/infer" else answer("router", event),
    )
    assert world.deployment(package).run() == EXIT_FAILED


@pytest.mark.parametrize("when", [50.0, 150.0], ids=["in the canary", "when all are led there"])
def test_an_alarm_takes_it_back(world: World, package: Path, when: float) -> None:
    """One that goes off meanwhile, at either time."""

    def ring(waited: float) -> None:
        if waited >= when:
            world.cloudwatch.alarms[f"{NAME}-ping"] = "ALARM"

    world.meanwhile = ring
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert world.waited == when
    assert world.functions.leads() == BEFORE
    assert world.record()["state"] == "rolled back"
    assert "the alarm tl-fif-ping went off" in deployment.reason
    assert "- tl-fif-router: 7, 10% of the calls to 8 → 7" in deployment.page() or when > 120
    assert deployment.title == "tl-fif 0.9.0 failed and was rolled back"


def test_failing_calls_take_it_back(world: World, package: Path) -> None:
    """Those of the new version, as Lambda counts them in a canary."""

    def fail(waited: float) -> None:
        if waited == 60:
            dimensions = {"FunctionName": f"{NAME}-waker", "Resource": f"{NAME}-waker:prod", "ExecutedVersion": "8"}
            world.cloudwatch.errors.append((world.time - timedelta(seconds=5), dimensions))

    world.meanwhile = fail
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert "tl-fif-waker:8 failed 1 times" in deployment.reason
    assert world.functions.leads() == BEFORE


def test_it_cannot_be_put_back_everywhere(world: World, package: Path) -> None:
    """A function whose version before is gone stays where it is, and it is told what to do."""

    def ring(waited: float) -> None:
        if waited >= 130:
            world.cloudwatch.alarms[f"{NAME}-ping"] = "ALARM"
            world.functions.made[f"{NAME}-router"].versions.pop("7", None)

    world.meanwhile = ring
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert world.functions.leads() == BEFORE | {"router": "8"}
    assert "NOT put back everywhere: run make rollback" in deployment.title
    assert "the version 7 of tl-fif-router is gone" in deployment.page()
    assert world.record()["state"] == "shifting"


def test_somebody_else_s_canary(world: World, package: Path) -> None:
    """It is not taken for what was before."""
    alias = world.functions.made[f"{NAME}-router"].alias
    assert alias is not None
    alias["RoutingConfig"] = {"AdditionalVersionWeights": {"6": 0.5}}
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_SOMEBODY_ELSE
    assert "leads to 7, 50% of the calls to 6" in deployment.reason
    assert world.ssm.state() is None


def test_an_alias_of_what_is_not_a_version(world: World, package: Path) -> None:
    """Nobody could go back to `$LATEST`."""
    world.functions.by_hand(f"{NAME}-router", "$LATEST")
    assert world.deployment(package).run() == EXIT_SOMEBODY_ELSE


def test_nobody_to_deploy_to(world: World, package: Path) -> None:
    """Another region, another name, or no alias anywhere."""
    for each in world.functions.made.values():
        each.alias = None
    assert world.deployment(package).run() == EXIT_FAILED
    assert "run terraform apply" in world.told[-1]
    world.functions.made.clear()
    assert world.deployment(package).run() == EXIT_FAILED
    assert "set AWS_REGION and --name" in world.told[-1]


def test_no_package(world: World, tmp_path: Path) -> None:
    """It says what to run."""
    assert world.deployment(tmp_path / "nothing.zip").run() == EXIT_FAILED
    assert "run make lambda-package" in world.told[-1]


def test_code_that_lambda_cannot_take(world: World, package: Path) -> None:
    """Lambda's reason is told."""
    world.functions.made[f"{NAME}-router"].update = ["InProgress", "Successful", "InProgress", "Failed"]
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert "the zip is too large" in deployment.reason


def test_code_that_is_never_ready(world: World, package: Path) -> None:
    """It does not wait for ever."""
    world.functions.made[f"{NAME}-router"].update = ["InProgress"] * 1000
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert "has not made tl-fif-router ready in 120 s" in deployment.reason


def test_a_record_that_is_none(world: World, package: Path) -> None:
    """Somebody else uses the parameter."""
    world.ssm.values[f"/{NAME}/deployment"] = ["hello"]
    deployment = world.deployment(package)
    assert deployment.run() == EXIT_FAILED
    assert "aws ssm delete-parameter --name /tl-fif/deployment" in deployment.reason
    assert world.functions.leads() == BEFORE
