"""What the pipeline, its builds and the workflow on GitHub may do, in what was really applied."""

from __future__ import annotations

import copy
import json
from fnmatch import fnmatchcase
from typing import Any

import pytest

from tests.infra.deployments import Deployment
from tests.infra.policies import DELIVERY_EVERYWHERE, DELIVERY_ROLES, Need
from tests.infra.terraform_world import DELIVERY, REPOSITORY, resources
from tests.infra.test_iam import Statement, actions, many, statements

Found = dict[str, dict[str, Any]]


@pytest.fixture
def found(deployments: dict[str, Deployment]) -> Found:
    """Return the resources as they are applied, with every policy known, free to be changed."""
    return copy.deepcopy(resources(deployments[DELIVERY].plan_again()))


def roles(found: Found) -> dict[str, list[Statement]]:
    """Return what the policy of each role says, by its name, less the system's."""
    policies = [each["values"] for each in found.values() if each["type"] == "aws_iam_role_policy"]
    return {each["role"].removeprefix("tl-fif-delivery-"): statements(each["policy"]) for each in policies}


def saying(found: Found, action: str) -> list[tuple[str, Statement]]:
    """Return the statements that allow an action, each with its role."""
    return [(role, each) for role, said in roles(found).items() for each in said if action in many(each["Action"])]


def test_a_role_may_do_what_the_table_says_and_nothing_else(found: Found) -> None:
    """Action by action, none of them with a star, and by its own policy alone."""
    assert {role: actions(said) for role, said in roles(found).items()} == {
        role: set(needs) for role, needs in DELIVERY_ROLES.items()
    }
    assert not any("*" in action for said in roles(found).values() for action in actions(said))
    assert not [each for each in found.values() if each["type"] == "aws_iam_role_policy_attachment"]


@pytest.mark.parametrize(
    ("action", "need"),
    [(action, need) for needs in DELIVERY_ROLES.values() for action, need in needs.items() if need.file],
)
def test_an_action_has_a_line_that_needs_it(action: str, need: Need) -> None:
    """The call stands in the file that the table names."""
    assert need.call in (REPOSITORY / need.file).read_text(encoding="utf-8"), f"{action}: no {need.call} in {need.file}"


def wide(found: Found) -> set[str]:
    """Return the actions that are allowed whatever they are done to."""
    said = [each for statement in roles(found).values() for each in statement if "*" in many(each["Resource"])]
    return {action for each in said for action in many(each["Action"])}


def test_everything_is_allowed_only_where_there_is_nothing_narrower(found: Found) -> None:
    """As the table excuses, which excuses nothing that nobody needs any more."""
    assert wide(found) == DELIVERY_EVERYWHERE.keys()


def foreign(found: Found) -> set[str]:
    """Return resources of policies that are not of this system: by the name that all of ours have."""
    named = {
        resource
        for said in roles(found).values()
        for each in said
        for resource in many(each["Resource"])
        if resource != "*" and "tl-fif" not in resource and ":connection/" not in resource
    }
    return {each for each in named if not each.endswith(":aws:image/*")}  # what AWS itself publishes


def test_rights_end_at_the_system(found: Found) -> None:
    """Another system of the same account, and anything else in it, is out of reach."""
    assert foreign(found) == set()


def test_nobody_changes_who_may_do_what(found: Found) -> None:
    """Of IAM a build may read the image's roles, and hand Image Builder its own: no push makes a role or a policy."""
    said = [each for statement in roles(found).values() for each in statement]
    of_iam = {action for each in said for action in many(each["Action"]) if action.startswith("iam:")}
    assert {action for action in of_iam if not action.startswith(("iam:Get", "iam:List"))} == {"iam:PassRole"}
    ((role, passing),) = saying(found, "iam:PassRole")
    assert role == "bake"
    assert passing["Resource"].rpartition("/")[2] == "tl-fif-image-pipeline"
    assert passing["Condition"] == {"StringEquals": {"iam:PassedToService": "imagebuilder.amazonaws.com"}}


def test_versions_are_deleted_and_no_function(found: Found) -> None:
    """The ARN of a function itself has no colon behind its name."""
    ((role, deleting),) = saying(found, "lambda:DeleteFunction")
    assert (role, deleting["Resource"].partition(":function:")[2]) == ("deploy", "tl-fif-*:*")
    function = deleting["Resource"].replace("tl-fif-*:*", "tl-fif-router")
    assert [fnmatchcase(each, deleting["Resource"]) for each in (function, f"{function}:7")] == [False, True]


def test_versions_of_three_functions_are_called(found: Found) -> None:
    """Those that change nothing when they are called."""
    ((role, calling),) = saying(found, "lambda:InvokeFunction")
    assert role == "deploy"
    assert {each.partition(":function:")[2] for each in calling["Resource"]} == {
        *("tl-fif-authorizer:*", "tl-fif-queue-health:*", "tl-fif-router:*")
    }


def test_new_code_comes_from_one_stage(found: Found) -> None:
    """Whoever goes back leads the calls elsewhere, and brings nothing new."""
    assert [role for role, _ in saying(found, "lambda:UpdateFunctionCode")] == ["deploy"]
    assert {role for role, _ in saying(found, "lambda:UpdateAlias")} == {"deploy", "smoke", "github"}


def test_a_build_reads_its_own_secrets(found: Found) -> None:
    """The webhook, and for the smoke test its password."""
    read = {
        role: {each.rpartition("/")[2] for each in said["Resource"]}
        for role, said in saying(found, "ssm:GetParameters")
    }
    assert read == {"deploy": {"slack_webhook"}, "smoke": {"slack_webhook", "smoke_password"}}


def test_a_build_writes_below_its_own_prefix(found: Found) -> None:
    """Reports, replies, state and archive; the pipeline what it hands on, which no build can change."""
    written: dict[str, set[str]] = {}
    for role, each in saying(found, "s3:PutObject"):
        written.setdefault(role, set()).update(place.partition("eu-central-1/")[2] for place in many(each["Resource"]))
    assert written == {
        "pipeline": {"tl-fif/*"},
        "test": {"coverage/*", "sbom/*"},
        "bake": {"archives/*", "image.tfstate", "image.tfstate.tflock"},
        "smoke": {"smoke/*"},
    }


def test_a_clone_is_of_one_repository(found: Found) -> None:
    """The connection may see more of them."""
    for prefix in ("codeconnections", "codestar-connections"):
        said = saying(found, f"{prefix}:UseConnection")
        assert sorted(role for role, _ in said) == ["bake", "deploy", "pipeline", "smoke", "test"]
        for _, each in said:
            assert each["Condition"] == {"ForAllValues:StringEquals": {f"{prefix}:FullRepositoryId": ["owner/tl-fif"]}}
            assert "*" not in each["Resource"]


def trust(found: Found) -> dict[str, Statement]:
    """Return who may take each role."""
    values = [each["values"] for each in found.values() if each["type"] == "aws_iam_role"]
    return {each["name"].removeprefix("tl-fif-delivery-"): statements(each["assume_role_policy"])[0] for each in values}


def test_a_role_is_taken_by_one_service_for_one_project(found: Found) -> None:
    """The service says for the sake of which project it asks."""
    for role, each in trust(found).items():
        if role == "github":
            continue
        service = "codepipeline" if role == "pipeline" else "codebuild"
        assert (each["Action"], each["Principal"]) == ("sts:AssumeRole", {"Service": f"{service}.amazonaws.com"})
        if role != "pipeline":
            (source,) = each["Condition"]["StringEquals"].values()
            assert source.endswith(f":project/tl-fif-{role}")


def test_github_s_role_is_for_one_environment_of_one_repository(found: Found) -> None:
    """To the letter: a star would let in pull requests, branches, or whoever names a repository alike."""
    each = trust(found)["github"]
    assert each["Action"] == "sts:AssumeRoleWithWebIdentity"
    assert each["Condition"] == {
        "StringEquals": {
            "token.actions.githubusercontent.com:aud": "sts.amazonaws.com",
            "token.actions.githubusercontent.com:sub": "repo:owner/tl-fif:environment:production",
        }
    }


def test_what_is_too_wide_is_found(found: Found) -> None:
    """The looks at the policies can fail."""
    policy = found['module.pipeline.aws_iam_role_policy.build["deploy"]']["values"]
    document = json.loads(policy["policy"])
    document["Statement"] += [
        {"Effect": "Allow", "Action": "lambda:DeleteFunction", "Resource": "*"},
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::somebody-else-s/*"},
    ]
    policy["policy"] = json.dumps(document)
    assert wide(found) - DELIVERY_EVERYWHERE.keys() == {"lambda:DeleteFunction"}
    assert foreign(found) == {"arn:aws:s3:::somebody-else-s/*"}
