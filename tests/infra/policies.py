"""Who may do what, and for the sake of which line: the tables that all policies are held against."""

from __future__ import annotations

from typing import Final, NamedTuple


class Need(NamedTuple):
    """Where an action is used: a file, and the call in it; `by` instead names a program that is not ours."""

    file: str = ""
    call: str = ""
    by: str = ""


def _by(program: str, *actions: str) -> dict[str, Need]:
    return dict.fromkeys(actions, Need(by=program))


_FIND: Final = {"ec2:DescribeInstances": Need("router_lambda/ec2.py", '"describe_instances"')}
_START: Final = {
    "ec2:StartInstances": Need("router_lambda/ec2.py", '"start_instances"'),
    # Before a start, the guards of the budget are read; a right to list lets S3 say which of them is absent.
    "s3:GetObject": Need("router_lambda/budget.py", '"GET"'),
    "s3:ListBucket": Need("router_lambda/budget.py", "404"),
}
_STOP: Final = {"ec2:StopInstances": Need("router_lambda/ec2.py", '"stop_instances"')}

_LAMBDA: Final = _by("Lambda's runtime", "logs:CreateLogStream", "logs:PutLogEvents")
_TRACE: Final = _by("Lambda's X-Ray daemon", "xray:PutTelemetryRecords", "xray:PutTraceSegments")
_INTERFACES: Final = _by(
    "Lambda itself, before the code runs; the code is denied it",
    *("ec2:AssignPrivateIpAddresses", "ec2:CreateNetworkInterface", "ec2:DeleteNetworkInterface"),
    *("ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets", "ec2:UnassignPrivateIpAddresses"),
)
_IN_VPC: Final = _LAMBDA | _INTERFACES

ROLES: Final[dict[str, dict[str, Need]]] = {
    # Of s3:GetObject, the router lends what is below replies/ to whom it gives a signed address.
    "router": _IN_VPC | _TRACE | _FIND | _START | _STOP,
    "authorizer": _LAMBDA | _TRACE,
    "queue-health": _IN_VPC | _TRACE,
    "waker": _IN_VPC | _FIND | _START | {"s3:PutObject": Need("router_lambda/overdue.py", "put_object(")},
    "reaper": _IN_VPC | _FIND | _STOP,
    "gauges": _IN_VPC | _FIND,
    "canary": _IN_VPC,
    "cost-publisher": _LAMBDA
    | _TRACE
    | {
        "ce:GetCostAndUsage": Need("router_lambda/cost_explorer.py", "get_cost_and_usage("),
        "cloudwatch:GetMetricStatistics": Need("router_lambda/cost_publisher.py", "get_metric_statistics("),
        "s3:GetObject": Need("router_lambda/cost_publisher.py", "get_object("),
        "s3:PutObject": Need("router_lambda/cost_publisher.py", "put_object("),
    },
    "budget-killer": _LAMBDA
    | _TRACE
    | _FIND
    | _STOP
    | _by("Lambda, in the function's name, when its last try has failed", "sns:Publish")
    | {"s3:PutObject": Need("router_lambda/budget_killer.py", "put_object(")},
    "gpu-0": {
        "ec2:StopInstances": Need("worker/instance.py", "stop_instances("),
        "s3:AbortMultipartUpload": Need("worker/store.py", "abort_multipart_upload("),
        "s3:GetObject": Need("worker/store.py", "get_object("),
        "s3:PutObject": Need("worker/store.py", "put_object("),
        "s3:ListBucket": Need("worker/store.py", "except _NotFound"),
    }
    | _by(
        "the CloudWatch agent",
        *("cloudwatch:PutMetricData", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"),
    )
    | _by(
        "the SSM agent, for a shell without SSH",
        *("ssm:UpdateInstanceInformation", "ssmmessages:CreateControlChannel", "ssmmessages:CreateDataChannel"),
        *("ssmmessages:OpenControlChannel", "ssmmessages:OpenDataChannel"),
    ),
    # The role of CloudWatch Synthetics, in the profile `seed` alone.
    "ping": _by(
        "CloudWatch Synthetics, as its user guide has it",
        *("cloudwatch:PutMetricData", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
        *("s3:GetBucketLocation", "s3:GetObject", "s3:ListAllMyBuckets", "s3:PutObject"),
    )
    | _INTERFACES,
}
"""By role, less the system's name: its actions, each with what needs it."""

TRACED_BY_SCHEDULE: Final = ("waker", "reaper", "gauges", "canary")
"""Functions that are traced, and may send traces, in the profile `seed` alone."""

TRACE: Final = _TRACE

EVERYWHERE: Final[dict[str, str]] = {
    "ec2:DescribeInstances": "EC2 knows no narrower resource for a description",
    **dict.fromkeys(_INTERFACES, "Lambda asks for it so: it makes the interfaces before there is anything to name"),
    **dict.fromkeys(_TRACE, "X-Ray knows no resource for traces that are sent"),
    "cloudwatch:PutMetricData": "CloudWatch knows no resource; the namespace is a condition",
    "cloudwatch:GetMetricStatistics": "CloudWatch knows no resource for a metric",
    "ce:GetCostAndUsage": "Cost Explorer knows no resource: it is the account's costs",
    "s3:ListAllMyBuckets": "the list of all buckets is of no bucket",
    "ssm:UpdateInstanceInformation": "as AWS's own policy for the agent has it",
    **{action: "Session Manager's channels have no resource" for action in ROLES["gpu-0"] if "ssmmessages" in action},
}
"""Actions that may be allowed for `*`, each with the reason why there is nothing narrower."""

_SHELL: Final = [action for action, need in ROLES["gpu-0"].items() if "SSM agent" in need.by]

IMAGE_ROLES: Final[dict[str, dict[str, Need]]] = {
    "builder": _by("the SSM agent, by which Image Builder gives its orders", *_SHELL)
    | _by(
        "AWSTOE, Image Builder's program on the machine",
        *("imagebuilder:GetComponent", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"),
        *("s3:GetObject", "s3:PutObject"),
    ),
    "pipeline": _by(
        "Image Builder, to launch a machine, give it orders and end it",
        *("ec2:DescribeInstanceAttribute", "ec2:DescribeInstanceStatus", "ec2:DescribeInstanceTypeOfferings"),
        *("ec2:DescribeInstanceTypes", "ec2:DescribeInstances", "ec2:DescribeSubnets", "ec2:RunInstances"),
        *("ec2:StartInstances", "ec2:StopInstances", "ec2:TerminateInstances", "iam:PassRole"),
        *("ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommandInvocations"),
        "ssm:SendCommand",
    )
    | _by(
        "Image Builder, to make an image of it, tag it, and drop one whose test failed",
        *("ec2:CopyImage", "ec2:CreateImage", "ec2:CreateTags", "ec2:DeregisterImage", "ec2:DescribeSnapshots"),
        *("ec2:DescribeTags", "ec2:ModifyImageAttribute"),
    )
    | _by("Image Builder's logs", "logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
    | _by(
        "Image Builder, to publish the image; Systems Manager looks in its name whether there is such an image",
        *("ec2:DescribeImages", "ssm:GetParameter", "ssm:GetParameters", "ssm:PutParameter"),
    ),
    "lifecycle": _by(
        "Image Builder, to find and delete old images with their snapshots",
        *("ec2:DeleteSnapshot", "ec2:DeregisterImage", "ec2:DescribeImageAttribute", "ec2:DescribeImages"),
        *("imagebuilder:DeleteImage", "tag:GetResources"),
    ),
}
"""By role of the image's root, less `NAME-image-`: its actions, each with what needs it."""

IMAGE_EVERYWHERE: Final[dict[str, str]] = {
    **dict.fromkeys(_SHELL, EVERYWHERE["ssm:UpdateInstanceInformation"]),
    **{
        action: "EC2 and Systems Manager know no narrower resource for a description"
        for actions in IMAGE_ROLES.values()
        for action in actions
        if action.startswith("ec2:Describe") and action != "ec2:DescribeImageAttribute"
    },
    **dict.fromkeys(
        ["ssm:DescribeInstanceInformation", "ssm:GetCommandInvocation", "ssm:ListCommandInvocations"],
        "what an order came to has no resource",
    ),
    "tag:GetResources": "the search by tag has no resource",
}
"""Actions that may be allowed for `*` there, likewise."""

_BUILD: Final = _by("CodeBuild, to clone the commit that the pipeline hands on", "codeconnections:UseConnection") | _by(
    "CodeBuild itself, for every build",
    *("codestar-connections:UseConnection", "logs:CreateLogStream", "logs:PutLogEvents"),
    *("s3:GetObject", "s3:GetObjectVersion"),
)
_SECRETS: Final = _by("CodeBuild, to put secrets into the build's environment", "ssm:GetParameters")
_REPORTS: Final = {"s3:PutObject": Need(".ci/buildspecs/test.yml", "aws s3 cp")}

_GO_BACK: Final = {
    "lambda:GetAlias": Need("terraform/aliases.py", "get_alias("),
    "lambda:GetFunctionConfiguration": Need("terraform/functions.py", "get_function_configuration("),
    "lambda:ListFunctions": Need("terraform/functions.py", '"list_functions"'),
    "lambda:ListVersionsByFunction": Need("terraform/functions.py", '"list_versions_by_function"'),
    "lambda:UpdateAlias": Need("terraform/aliases.py", "update_alias("),
    "ssm:GetParameter": Need("terraform/record.py", "get_parameter("),
    "ssm:GetParameterHistory": Need("terraform/record.py", '"get_parameter_history"'),
    "ssm:PutParameter": Need("terraform/record.py", "put_parameter("),
}
_DEPLOY: Final = _GO_BACK | {
    "cloudwatch:DescribeAlarms": Need("terraform/watch.py", '"describe_alarms"'),
    "cloudwatch:GetMetricStatistics": Need("terraform/watch.py", "get_metric_statistics("),
    "ec2:DescribeInstances": Need("terraform/summary.py", '"describe_instances"'),
    "lambda:DeleteFunction": Need("terraform/prune.py", "delete_function("),
    "lambda:InvokeFunction": Need("terraform/probes.py", "invoke("),
    "lambda:ListAliases": Need("terraform/prune.py", '"list_aliases"'),
    "lambda:PublishVersion": Need("terraform/functions.py", "publish_version("),
    "lambda:UpdateFunctionCode": Need("terraform/functions.py", "update_function_code("),
}

TERRAFORM: Final = "Terraform, for a change of the image's sources; tests/infra/test_bake_rights.py records its calls"

_BAKE: Final = _by(
    TERRAFORM,
    *("ec2:DescribeInstanceTypeOfferings", "ec2:DescribeInternetGateways", "ec2:DescribeNetworkAcls"),
    *("ec2:DescribeRouteTables", "ec2:DescribeSecurityGroupRules", "ec2:DescribeSecurityGroups"),
    *("ec2:DescribeSubnets", "ec2:DescribeVpcAttribute", "ec2:DescribeVpcs"),
    *("iam:GetInstanceProfile", "iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies"),
    *("iam:ListRolePolicies", "iam:PassRole"),
    *("imagebuilder:CreateComponent", "imagebuilder:CreateImagePipeline", "imagebuilder:CreateImageRecipe"),
    *("imagebuilder:DeleteComponent", "imagebuilder:DeleteImagePipeline", "imagebuilder:DeleteImageRecipe"),
    *("imagebuilder:GetComponent", "imagebuilder:GetDistributionConfiguration", "imagebuilder:GetImagePipeline"),
    *("imagebuilder:GetImage", "imagebuilder:GetImageRecipe", "imagebuilder:GetInfrastructureConfiguration"),
    *("imagebuilder:GetLifecyclePolicy", "imagebuilder:TagResource", "imagebuilder:UpdateDistributionConfiguration"),
    *("logs:DescribeLogGroups", "logs:ListTagsForResource"),
    *("s3:DeleteObject", "s3:GetAccelerateConfiguration", "s3:GetBucketAcl", "s3:GetBucketCORS"),
    *("s3:GetBucketLogging", "s3:GetBucketObjectLockConfiguration", "s3:GetBucketOwnershipControls"),
    *("s3:GetBucketPolicy", "s3:GetBucketPublicAccessBlock", "s3:GetBucketRequestPayment", "s3:GetBucketTagging"),
    *("s3:GetBucketVersioning", "s3:GetBucketWebsite", "s3:GetEncryptionConfiguration"),
    *("s3:GetLifecycleConfiguration", "s3:GetObject", "s3:GetObjectTagging", "s3:GetReplicationConfiguration"),
    *("s3:ListBucket", "s3:PutObject", "s3:PutObjectTagging"),
) | {
    "ec2:DescribeImages": Need("terraform/builds.py", "describe_images("),
    "imagebuilder:CancelImageCreation": Need("terraform/builds.py", "cancel_image_creation("),
    "imagebuilder:ListImageBuildVersions": Need("terraform/builds.py", "list_image_build_versions("),
    "imagebuilder:ListWorkflowExecutions": Need("terraform/builds.py", "list_workflow_executions("),
    "imagebuilder:StartImagePipelineExecution": Need("terraform/builds.py", "start_image_pipeline_execution("),
    "ssm:GetParameter": Need("terraform/builds.py", "get_parameter("),
}

DELIVERY_ROLES: Final[dict[str, dict[str, Need]]] = {
    "pipeline": _by(
        "CodePipeline, to take a commit, hand it on and start the builds",
        *("codebuild:BatchGetBuilds", "codebuild:StartBuild"),
        *("codeconnections:UseConnection", "codestar-connections:UseConnection"),
        *("s3:GetBucketAcl", "s3:GetBucketLocation", "s3:GetBucketVersioning"),
        *("s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"),
    ),
    "test": _BUILD | _REPORTS,
    "bake": _BUILD | _BAKE,
    "deploy": _BUILD | _SECRETS | _DEPLOY,
    "smoke": _BUILD | _SECRETS | _GO_BACK | {"s3:PutObject": Need(".ci/buildspecs/smoke.yml", "aws s3 cp")},
    "github": _GO_BACK,
}
"""By role of the delivery's root, less `NAME-delivery-`: its actions, each with what needs it."""

DELIVERY_EVERYWHERE: Final[dict[str, str]] = {
    **{action: "EC2 knows no narrower resource for a description" for action in _BAKE if "ec2:Describe" in action},
    "ec2:DescribeInstances": EVERYWHERE["ec2:DescribeInstances"],
    "cloudwatch:DescribeAlarms": "a search by the beginning of a name is one of all alarms",
    "cloudwatch:GetMetricStatistics": EVERYWHERE["cloudwatch:GetMetricStatistics"],
    "lambda:ListFunctions": "the list of all functions is of no function",
    "logs:DescribeLogGroups": "the list of all log groups is of no log group",
}
"""Actions that may be allowed for `*` there, likewise."""
