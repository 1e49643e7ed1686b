"""What is allowed to whom, in what was really deployed: no action without a line that needs it, no wider resource."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.infra.deployments import Deployment
from tests.infra.policies import EVERYWHERE, ROLES, TRACE, TRACED_BY_SCHEDULE, Need
from tests.infra.terraform_world import PROFILES, REPOSITORY

Statement = dict[str, Any]


def many(value: Any) -> list[Any]:
    """Return what may be one or many as many."""
    return value if isinstance(value, list) else [value]


def statements(document: Any) -> list[Statement]:
    """Return the statements of a policy."""
    read = json.loads(document) if isinstance(document, str) else document
    return many(read["Statement"])


def actions(found: list[Statement]) -> set[str]:
    """Return the actions that statements allow."""
    return {action for each in found if each["Effect"] == "Allow" for action in many(each["Action"])}


@pytest.fixture(params=PROFILES)
def profile(request: pytest.FixtureRequest) -> str:
    """Return the name of each profile."""
    return str(request.param)


@pytest.fixture
def deployed(profile: str, deployments: dict[str, Deployment]) -> Deployment:
    """Return it, applied."""
    deployments[profile].outputs()
    return deployments[profile]


def roles(deployment: Deployment) -> Iterator[tuple[str, dict[str, Any], list[Statement]]]:
    """Yield our roles: name less the system's, the role, and all that its policies say."""
    iam = deployment.aws.client("iam")
    for role in iam.list_roles(MaxItems=1000)["Roles"]:
        name = role["RoleName"]
        if name.startswith("AWSServiceRole"):
            continue
        assert iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"] == [], "AWS's policies are too wide"
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
        documents = [iam.get_role_policy(RoleName=name, PolicyName=each)["PolicyDocument"] for each in inline]
        yield name.removeprefix("tl-fif-"), role, [found for each in documents for found in statements(each)]


# Roles


def test_a_role_may_do_what_the_table_says_and_nothing_else(profile: str, deployed: Deployment) -> None:
    """Action by action."""
    expected = {name: set(needs) for name, needs in ROLES.items() if name != "ping" or profile == "seed"}
    if profile == "seed":
        for name in TRACED_BY_SCHEDULE:
            expected[name] |= TRACE.keys()
    assert {name: actions(found) for name, _, found in roles(deployed)} == expected


@pytest.mark.parametrize(
    ("action", "need"), [(action, need) for needs in ROLES.values() for action, need in needs.items() if need.file]
)
def test_an_action_has_a_line_that_needs_it(action: str, need: Need) -> None:
    """The call stands in the file that the table names."""
    assert need.call in (REPOSITORY / need.file).read_text(encoding="utf-8"), f"{action}: no {need.call} in {need.file}"


def test_everything_is_allowed_only_where_there_is_nothing_narrower(deployed: Deployment) -> None:
    """No action with a star in it; a star for a resource only for the actions that the table excuses."""
    used = set()
    for name, _, found in roles(deployed):
        for each in found:
            assert all("*" not in action for action in many(each["Action"])), name
            if each["Effect"] == "Allow" and "*" in many(each["Resource"]):
                used |= set(many(each["Action"]))
                assert set(many(each["Action"])) <= EVERYWHERE.keys(), name
    assert used >= EVERYWHERE.keys() - {"s3:ListAllMyBuckets"}, "the table excuses what nobody needs any more"


def test_starts_and_stops_are_for_the_gpu_alone(deployed: Deployment) -> None:
    """By its tag; an instance stops itself and no other."""
    guarded = {"ec2:StartInstances", "ec2:StopInstances"}
    for name, _, found in roles(deployed):
        for each in found:
            if guarded & set(many(each["Action"])):
                if name.startswith("gpu-"):
                    (itself,) = many(each["Resource"])
                    assert itself.partition(":instance/")[2].startswith("i-")
                    assert each["Condition"] == {"ArnEquals": {"ec2:SourceInstanceARN": itself}}
                else:
                    assert each["Condition"] == {"StringEquals": {"aws:ResourceTag/env": "tinyllama"}}


def test_code_in_the_vpc_makes_no_interface(deployed: Deployment) -> None:
    """Lambda may, in its name; the code itself is denied what Lambda may."""
    for name, _, found in roles(deployed):
        for each in found:
            if each["Effect"] == "Allow" and "ec2:CreateNetworkInterface" in many(each["Action"]):
                denied = [other for other in found if other["Effect"] == "Deny"]
                assert [set(many(other["Action"])) for other in denied] == [set(many(each["Action"]))], name
                assert "lambda:SourceFunctionArn" in denied[0]["Condition"]["ArnLike"]


def test_a_role_trusts_one_service(deployed: Deployment) -> None:
    """EC2 that of the GPU, Lambda all others."""
    for name, role, _ in roles(deployed):
        (each,) = statements(role["AssumeRolePolicyDocument"])
        expected = "ec2.amazonaws.com" if name.startswith("gpu-") else "lambda.amazonaws.com"
        assert (each["Effect"], each["Action"], each["Principal"]) == ("Allow", "sts:AssumeRole", {"Service": expected})


# Resources


def resource_policies(deployment: Deployment) -> Iterator[tuple[str, Statement]]:
    """Yield every statement of a policy that hangs on a resource: topics, buckets, functions."""
    sns, s3, functions = (deployment.aws.client(service) for service in ("sns", "s3", "lambda"))
    for topic in sns.list_topics()["Topics"]:
        policy = sns.get_topic_attributes(TopicArn=topic["TopicArn"])["Attributes"]["Policy"]
        yield from ((topic["TopicArn"], each) for each in statements(policy))
    for bucket in s3.list_buckets()["Buckets"]:
        yield from (
            (bucket["Name"], each) for each in statements(s3.get_bucket_policy(Bucket=bucket["Name"])["Policy"])
        )
    for function in functions.list_functions()["Functions"]:
        policy = functions.get_policy(FunctionName=function["FunctionName"])["Policy"]
        yield from ((function["FunctionName"], each) for each in statements(policy))


def test_a_resource_lets_in_one_source(deployed: Deployment) -> None:
    """A service in our name alone: by the source's ARN, and for topics its account besides."""
    found = list(resource_policies(deployed))
    for name, each in found:
        if each["Effect"] == "Deny":
            assert each["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}, name
            continue
        assert list(each["Principal"]) == ["Service"], name
        keys = {key.lower() for test in each["Condition"].values() for key in test}
        assert "aws:sourcearn" in keys, name
        assert name.startswith("tl-fif-") or "aws:sourceaccount" in keys, name
    assert len(found) >= 15


def test_every_bucket_denies_plaintext(deployed: Deployment) -> None:
    """And lets in nobody that IAM does not."""
    buckets = {bucket["Name"] for bucket in deployed.aws.client("s3").list_buckets()["Buckets"]}
    by_bucket = {name: each for name, each in resource_policies(deployed) if name in buckets}
    assert by_bucket.keys() == buckets
    assert {each["Effect"] for each in by_bucket.values()} == {"Deny"}
