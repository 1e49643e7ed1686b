"""A deployment in a fake account: what it does, and what it says."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.deploy_world import AFTER, World
from tests.fake_deploy_aws import NAME, refusal
from tests.fake_lambda import KINDS, NEW, TRACE, sha


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


# What it does


def test_everybody_is_led_to_the_new(world: World, package: Path) -> None:
    """After a canary of a tenth; with a record, and versions that say of which release they are."""
    seen: list[dict[str, str]] = []
    world.meanwhile = lambda _: seen.append(world.functions.leads())
    assert world.deployment(package).run() == 0
    assert seen[0] == dict.fromkeys(KINDS, "7+8:0.1")
    assert seen[-1] == world.functions.leads() == AFTER
    assert seen.count(seen[0]) == 12  # of ten seconds
    assert world.waited == 180
    assert world.record() == {
        "version": "0.9.0",
        "commit": "c9",
        "at": "2026-11-26T12:03:30+00:00",
        "state": "deployed",
        "functions": {f"{NAME}-{kind}": {"now": "8", "before": "7"} for kind in KINDS},
    }
    made = world.functions.made[f"{NAME}-waker"].versions["8"]
    assert (made.content, made.description) == (NEW, "0.9.0 c9")


def test_all_at_once(world: World, package: Path) -> None:
    """Without a canary."""
    assert world.deployment(package, weight=0).run() == 0
    assert world.functions.leads() == AFTER
    assert world.waited == 60
    assert world.calls.names.count("update_alias") == len(KINDS)


def test_the_record_comes_before_the_first_move(world: World, package: Path) -> None:
    """Whoever finds the system half moved knows what was before."""
    world.deployment(package).run()
    first = world.calls.names.index("update_alias")
    assert "put_parameter" in world.calls.names[:first]


def test_five_versions_stay_and_what_was_before(world: World, package: Path) -> None:
    """However old that is."""
    world.functions.by_hand(f"{NAME}-router", "2")
    assert world.deployment(package).run() == 0
    assert list(world.functions.made[f"{NAME}-waker"].versions) == ["4", "5", "6", "7", "8"]
    assert list(world.functions.made[f"{NAME}-router"].versions) == ["2", "4", "5", "6", "7", "8"]


def test_pruning_may_fail(world: World, package: Path) -> None:
    """The deployment stands."""

    def fail(_number: int, name: str, _done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        if name == "delete_function":
            raise refusal("AccessDeniedException")

    world.calls.act = fail
    assert world.deployment(package).run() == 0
    assert "old versions stay" in world.told[-1]


def test_the_same_code_again(world: World, package: Path) -> None:
    """Lambda publishes nothing new, and the record, by which one can still go back, stays as it was."""
    world.deployment(package).run()
    kept = world.record()
    again = world.deployment(package, commit="c9b")
    assert again.run() == 0
    assert world.record() == kept
    assert world.functions.leads() == AFTER
    assert again.title == "tl-fif runs 0.9.0 already: nothing new to deploy"
    world.ec2.image = "ami-old"
    assert "i-1 boots from ami-old" in again.page(), "a push of the worker alone has a new image to tell of"


def test_new_settings_alone(world: World, package: Path) -> None:
    """What Terraform published since is deployed too, and is all that this deployment's record names."""
    world.deployment(package).run()
    latest = world.functions.made[f"{NAME}-waker"].latest
    latest.environment = latest.environment | {"TLFIF_BUDGET_EUR": "30"}
    world.functions.on_publish_version(f"{NAME}-waker", latest.sha, "Starts the GPU")
    assert world.deployment(package).run() == 0
    assert world.functions.leads() == AFTER | {"waker": "9"}
    assert world.record()["functions"] == {f"{NAME}-waker": {"now": "9", "before": "8"}}


def test_the_same_code_is_not_uploaded_again(world: World, package: Path) -> None:
    """What Terraform has uploaded is there."""
    for each in world.functions.made.values():
        each.latest.content, each.latest.sha = NEW, sha(NEW)
    assert world.deployment(package).run() == 0
    assert "update_function_code" not in world.calls.names
    assert world.functions.leads() == AFTER


def test_a_function_without_an_alias_is_left_alone(world: World, package: Path) -> None:
    """Terraform was interrupted; the others are deployed."""
    world.functions.made[f"{NAME}-waker"].alias = None
    assert world.deployment(package).run() == 0
    assert any("tl-fif-waker has no alias prod" in line for line in world.told)
    assert f"{NAME}-waker" not in world.record()["functions"]


# What it says


def test_the_summary(world: World, package: Path) -> None:
    """Versions, proofs with their traces, and the GPU that boots from an old image."""
    world.ec2.image = "ami-old"
    deployment = world.deployment(package)
    deployment.run()
    page = deployment.page()
    assert page.startswith("## tl-fif 0.9.0 is deployed\n\nCommit `c9`.\n\n- tl-fif-authorizer: 7 → 8\n")
    link = f"https://eu-central-1.console.aws.amazon.com/cloudwatch/home?region=eu-central-1#xray:traces/{TRACE}"
    assert f"- tl-fif-router: GET /ping ([trace]({link}))\n" in page
    assert "i-1 boots from ami-old; the newest image is ami-new: `terraform apply` moves the GPU to it." in page


def test_what_nobody_may_ask_is_left_out(world: World, package: Path) -> None:
    """The role may lack the right; and a GPU of the newest image is no news."""
    deployment = world.deployment(package)
    deployment.run()
    assert "boots from" not in deployment.page()
    world.ec2.image = "ami-old"

    def refuse(_number: int, name: str, _done: bool) -> None:  # noqa: FBT001 - as `Calls` calls it
        if name == "describe_instances":
            raise refusal("UnauthorizedOperation")

    world.calls.act = refuse
    assert "boots from" not in deployment.page()
