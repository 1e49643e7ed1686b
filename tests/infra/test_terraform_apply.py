"""Both profiles and the other roots for real: applied to an emulated AWS, planned again unchanged, removed wholly.

The emulated AWS is moto with `tests.infra.moto_patches`; nothing of the configuration is left out for its sake.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from tests.infra.deployments import Deployment
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.terraform_world import DELIVERY, IMAGE, PLANS, PROFILES, resources

LEAST = dict.fromkeys(PROFILES, (100, 40)) | {IMAGE: (30, 6), DELIVERY: (35, 15)}
"""By profile, how many resources Terraform makes, and how many of them `left` looks for, at the least."""


@pytest.fixture(params=PLANS)
def profile(request: pytest.FixtureRequest) -> str:
    """Return the name of each."""
    return str(request.param)


@pytest.fixture
def deployment(profile: str, deployments: dict[str, Deployment]) -> Deployment:
    """Return one of them, applied."""
    found = deployments[profile]
    found.outputs()
    return found


def test_everything_that_was_planned_is_there(profile: str, deployment: Deployment) -> None:
    """Nothing is left out for the emulated AWS."""
    there = {address for address in deployment.state() if ".data." not in address and not address.startswith("data.")}
    assert there == resources(deployment.planned).keys()
    assert len(there) > LEAST[profile][0]


def test_a_second_plan_changes_nothing(deployment: Deployment) -> None:
    """What AWS says of each resource is what the configuration asks for."""
    plan = deployment.plan_again()
    changes = {each["address"]: each["change"]["actions"] for each in plan["resource_changes"]}
    assert {address: actions for address, actions in changes.items() if actions not in (["no-op"], ["read"])} == {}
    assert {each["actions"][0] for each in plan["output_changes"].values()} == {"no-op"}


def test_the_two_profiles_differ_where_they_should(deployments: dict[str, Deployment]) -> None:
    """The letter of the requirements has a load balancer and Synthetics; the quickstart has neither."""
    kinds = {
        profile: {each["type"] for each in resources(deployments[profile].planned).values()}
        for profile in PROFILES
        if deployments[profile].outputs()
    }
    assert {"aws_lb", "aws_cloudformation_stack", "aws_acm_certificate"} <= kinds["seed"] - kinds["lean"]
    assert kinds["lean"] <= kinds["seed"]


def names(client: Any, call: str, result: str, name: str) -> set[str]:
    """Return the names that a call of boto3 lists."""
    found: Iterable[Any] = client.get_paginator(call).paginate().build_full_result()[result]
    return {each if isinstance(each, str) else each[name] for each in found}


def left(aws: EmulatedAws) -> set[str]:
    """Return the names of everything of ours that an emulated AWS holds."""
    ec2 = aws.client("ec2")
    instances = [each for found in ec2.describe_instances()["Reservations"] for each in found["Instances"]]
    found = {
        *names(aws.client("lambda"), "list_functions", "Functions", "FunctionName"),
        *names(aws.client("iam"), "list_roles", "Roles", "RoleName"),
        *names(aws.client("logs"), "describe_log_groups", "logGroups", "logGroupName"),
        *names(aws.client("cloudwatch"), "describe_alarms", "MetricAlarms", "AlarmName"),
        *names(aws.client("events"), "list_rules", "Rules", "Name"),
        *names(aws.client("sns"), "list_topics", "Topics", "TopicArn"),
        *names(aws.client("elasticache"), "describe_replication_groups", "ReplicationGroups", "ReplicationGroupId"),
        *names(aws.client("elbv2"), "describe_load_balancers", "LoadBalancers", "LoadBalancerName"),
        *names(aws.client("apigatewayv2"), "get_apis", "Items", "Name"),
        *(
            provider["Arn"]
            for provider in aws.client("iam").list_open_id_connect_providers()["OpenIDConnectProviderList"]
        ),
        *names(aws.client("codepipeline"), "list_pipelines", "pipelines", "name"),
        *names(aws.client("codebuild"), "list_projects", "projects", ""),
        *(each["ConnectionArn"] for each in aws.client("codeconnections").list_connections()["Connections"]),
        *(bucket["Name"] for bucket in aws.client("s3").list_buckets()["Buckets"]),
        *(vpc["VpcId"] for vpc in ec2.describe_vpcs()["Vpcs"] if not vpc["IsDefault"]),
        *(each["InstanceId"] for each in instances if each["State"]["Name"] != "terminated"),
    }
    # AWS makes roles of its own for its services.
    return {name for name in found if not name.startswith("AWSServiceRole")}


def test_something_of_everything_was_there(profile: str, deployment: Deployment) -> None:
    """The look at what is left can fail."""
    assert len(left(deployment.aws)) > LEAST[profile][1]


def test_nothing_is_left_in_the_end(
    deployments: dict[str, Deployment], gone: dict[str, list[str]], profile: str
) -> None:
    """Neither in Terraform's state nor in AWS."""
    assert gone[profile] == []
    assert left(deployments[profile].aws) == set()
