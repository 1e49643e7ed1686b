"""A bake in every order in which things can happen: nothing to do, two at once, killed, failed, not published."""

from __future__ import annotations

import pytest
from botocore.exceptions import ClientError

from terraform.baking import (
    EXIT_FAILED,
    EXIT_STOPPED,
    Limits,
    NotBaked,
    Stopped,
    follow,
)
from tests.baking_world import FAILED, MINUTE, NAMES, OTHER, SOURCE, USUAL, Baking, Refused

OLD = "ami-0123"


@pytest.fixture
def baking() -> Baking:
    """Return a bake in an account with an image of other sources."""
    made = Baking()
    made.aws.publish(OLD, OTHER)
    return made


# Whether to bake


def test_the_same_sources_are_baked_once(baking: Baking) -> None:
    """Neither Terraform nor Image Builder is asked for anything: a push that is not for the node costs nothing."""
    baking.aws.publish(OLD, SOURCE)
    baking.bake()
    assert (baking.applied, baking.started, baking.waits) == (0, 0, [])
    assert f"{OLD} is made of these sources already" in baking.said[0]


def test_other_sources_are_baked(baking: Baking) -> None:
    """Applied, started, waited for, published; each state is said once, with its time."""
    baking.bake()
    assert (baking.applied, baking.started) == (1, 1)
    states = [line.split()[-1] for line in baking.said if " min " in line]
    assert states == ["PENDING", "BUILDING", "TESTING", "DISTRIBUTING", "AVAILABLE"]
    assert "27:00 min AVAILABLE" in baking.said
    (build,) = baking.aws.builds
    assert build.tags == {NAMES.source_tag: SOURCE}
    assert baking.aws.parameter == build.ami
    assert any("terraform apply" in line for line in baking.said)
    baking.bake()
    assert baking.started == 1


@pytest.mark.parametrize(
    ("parameter", "images"),
    [
        pytest.param(None, {}, id="nothing was ever baked"),
        pytest.param(OLD, {}, id="the image was deleted"),
        pytest.param(OLD, {OLD: {}}, id="an image from before there were tags"),
    ],
)
def test_without_an_image_of_known_sources_one_is_baked(
    baking: Baking, parameter: str | None, images: dict[str, dict[str, str]]
) -> None:
    """Whatever is not known to be the same is not the same."""
    baking.aws.parameter, baking.aws.images = parameter, images
    baking.bake()
    assert baking.started == 1


def test_the_same_sources_can_be_baked_anew(baking: Baking) -> None:
    """For a newer parent image, say."""
    baking.aws.publish(OLD, SOURCE)
    baking.bake(anew=True)
    assert (baking.applied, baking.started) == (1, 1)


# Two at once


def test_a_build_of_the_same_sources_is_joined(baking: Baking) -> None:
    """Somebody's else, or that of a run that was killed: nobody pays twice."""
    for _ in range(3):
        baking.aws.begin(OTHER, ((0.0, "FAILED"),))
    theirs = baking.aws.begin(SOURCE)
    baking.aws.seconds = 5 * MINUTE
    baking.bake()
    assert (baking.applied, baking.started) == (0, 0)
    assert theirs.arn in baking.said[0]
    assert baking.aws.parameter == theirs.ami


def test_a_build_of_other_sources_is_waited_for(baking: Baking) -> None:
    """Terraform would replace what it is made by; then comes our own, whether the other one did well or not."""
    theirs = baking.aws.begin(OTHER, FAILED)
    baking.on_apply = lambda: None if theirs.status(baking.aws.seconds) == "FAILED" else pytest.fail("too early")
    baking.bake()
    assert (baking.applied, baking.started) == (1, 1)


def test_an_image_that_came_meanwhile_is_enough(baking: Baking) -> None:
    """While another build is waited for, somebody bakes the same sources: the look at the image comes again."""
    baking.aws.begin(OTHER, FAILED)
    baking.on_wait = lambda: baking.aws.publish("ami-0456", SOURCE)
    baking.bake()
    assert (baking.applied, baking.started) == (0, 0)


def test_a_build_by_hand_is_of_nobody_knows_what(baking: Baking) -> None:
    """It has no tag, and is waited for like one of other sources."""
    baking.aws.begin()
    baking.bake()
    assert baking.started == 1


def test_anew_waits_for_a_build_of_the_same_sources_first(baking: Baking) -> None:
    """It is not what was asked for, and two at once would fight for the parameter."""
    theirs = baking.aws.begin(SOURCE)
    baking.on_apply = lambda: None if theirs.status(baking.aws.seconds) == "AVAILABLE" else pytest.fail("too early")
    baking.bake(anew=True)
    assert baking.started == 1


def test_who_waited_for_terraform_joins_who_was_first(baking: Baking) -> None:
    """Both saw no build, the lock on the state let one go first, and it has started one."""
    baking.on_apply = lambda: baking.aws.begin(SOURCE)
    baking.bake()
    assert (baking.applied, baking.started) == (1, 0)


def test_a_build_of_others_is_never_cancelled(baking: Baking) -> None:
    """It may be in somebody's hands."""
    theirs = baking.aws.begin(OTHER, ((0.0, "BUILDING"),))
    with pytest.raises(NotBaked, match="wait for it and run this again"):
        baking.bake()
    assert not theirs.cancelled
    assert (baking.applied, baking.started) == (0, 0)


def test_a_later_build_of_the_same_sources_may_have_published(baking: Baking) -> None:
    """Ours is not what the parameter names, and the one that is there is as good."""
    baking.aws.publishes = False
    build = baking.aws.begin(SOURCE)
    baking.on_wait = lambda: baking.aws.publish("ami-0later", SOURCE)
    follow(baking.world, build.arn, Limits())
    assert baking.aws.parameter != build.ami


# Killed


def test_a_run_that_is_stopped_says_how_to_go_on(baking: Baking) -> None:
    """The build goes on; the next run finds it."""
    baking.asked_at = 10 * MINUTE
    with pytest.raises(Stopped) as stopped:
        baking.bake()
    assert stopped.value.status == EXIT_STOPPED
    (build,) = baking.aws.builds
    assert f"--follow {build.arn}" in str(stopped.value)
    assert not build.cancelled
    baking.asked_at = None
    baking.bake()
    assert (baking.applied, baking.started) == (1, 1)
    assert baking.aws.parameter == build.ami


def test_a_run_that_is_stopped_at_once_changes_nothing(baking: Baking) -> None:
    """Terraform has not run."""
    baking.asked_at = 0.0
    with pytest.raises(Stopped, match="before anything was changed"):
        baking.bake()
    assert (baking.applied, baking.started) == (0, 0)


def test_a_run_that_is_stopped_while_terraform_works_starts_nothing(baking: Baking) -> None:
    """Nothing is paid for until a build starts."""
    baking.on_apply = lambda: setattr(baking, "asked_at", 0.0)
    with pytest.raises(Stopped, match="before a build was started"):
        baking.bake()
    assert (baking.applied, baking.started) == (1, 0)


# Failed


def test_a_build_that_fails_says_why(baking: Baking) -> None:
    """Image Builder's reason, the part that failed, where its output is; and the old image stays."""
    baking.aws.states, baking.aws.reason = FAILED, "SSM execution failed"
    with pytest.raises(NotBaked) as failed:
        baking.bake()
    said = str(failed.value)
    assert "ended as FAILED: SSM execution failed" in said
    assert "BUILD: step Prove failed" in said
    assert "log group /aws/imagebuilder/tl-fif-gpu-node, stream 1.0.0/1" in said
    assert failed.value.status == EXIT_FAILED
    assert baking.aws.parameter == OLD


@pytest.mark.parametrize("state", ["FAILED", "CANCELLED", "DELETED", "DEPRECATED", "DISABLED"])
def test_only_an_image_that_is_available_is_good(baking: Baking, state: str) -> None:
    """Whatever else there is in the model's list of states ends the wait, and not well."""
    baking.aws.states = ((0.0, "BUILDING"), (MINUTE, state))
    with pytest.raises(NotBaked, match=f"ended as {state}: Image Builder gives no reason"):
        baking.bake()


def test_a_failure_is_told_although_its_parts_are_not(baking: Baking) -> None:
    """A right that is missing does not hide what went wrong."""
    baking.aws.states, baking.aws.reason = FAILED, "SSM execution failed"
    baking.aws.trouble = {"ListWorkflowExecutions": [Refused("ForbiddenException", "no right")]}
    with pytest.raises(NotBaked, match=r"SSM execution failed\n  its parts cannot be listed"):
        baking.bake()


def test_a_build_without_an_end_is_cancelled(baking: Baking) -> None:
    """So that nobody pays for its machine."""
    baking.aws.states = ((0.0, "BUILDING"),)
    with pytest.raises(NotBaked, match="60:00 min and is cancelled"):
        baking.bake()
    assert baking.aws.builds[0].cancelled


def test_a_start_that_fails_can_be_repeated(baking: Baking) -> None:
    """What was applied stays, and nothing is there to be joined."""
    baking.aws.trouble = {"StartImagePipelineExecution": [Refused("ServiceUnavailableException", "later")]}
    with pytest.raises(ClientError, match="later"):
        baking.bake()
    baking.bake()
    assert (baking.applied, len(baking.aws.builds)) == (2, 1)


def test_looks_that_fail_are_repeated(baking: Baking) -> None:
    """AWS is away for some minutes; the build is not."""
    baking.aws.trouble = {"GetImage": [Refused("CallRateLimitExceededException", "slower")] * 9}
    baking.bake()
    assert sum("no look at the build" in line for line in baking.said) == 9


def test_looks_that_fail_for_long_end_the_wait(baking: Baking) -> None:
    """A right that is missing does not come back."""
    baking.aws.trouble = {"GetImage": [Refused("ForbiddenException", "no right")] * 10}
    with pytest.raises(ClientError, match="no right"):
        baking.bake()


def test_an_image_that_is_not_published_is_no_success(baking: Baking) -> None:
    """Instances would go on to boot from the old one, and nobody would know."""
    baking.aws.publishes = False
    with pytest.raises(NotBaked, match="names ami-0123") as failed:
        baking.bake()
    assert f"--name /tl-fif/latest_ami_id --value {baking.aws.builds[0].ami}" in str(failed.value)


def test_an_image_with_the_tag_of_another_is_no_success(baking: Baking) -> None:
    """Somebody applied other sources by hand while it was built: the next bake would believe the tag."""
    build = baking.aws.begin(SOURCE)
    baking.aws.seconds = 30 * MINUTE
    baking.aws.publish(build.ami, OTHER)
    with pytest.raises(NotBaked, match="tagged as made of other sources"):
        follow(baking.world, build.arn, Limits())
    build.tags = {}  # started by hand: nobody knows better
    follow(baking.world, build.arn, Limits())


def test_an_image_that_is_published_late_is_one(baking: Baking) -> None:
    """The parameter may come a moment after the end."""
    baking.aws.publishes = False
    build = baking.aws.begin(SOURCE)
    baking.aws.seconds = 27 * MINUTE
    baking.on_wait = lambda: baking.aws.publish(build.ami, SOURCE)
    follow(baking.world, build.arn, Limits())
    assert len(baking.waits) == 1


def test_the_usual_build_is_one_that_ends() -> None:
    """The fake walks through states of the model's, as far as success."""
    from terraform.builds import RUNNING  # noqa: PLC0415 - nobody else wants it

    assert {state for _, state in USUAL} - RUNNING == {"AVAILABLE"}
