"""What was deployed, read back from AWS's API: routes, functions and who calls them; and the functions, run here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import boto3

from local.lambda_runtime import LambdaFunction, Runtime
from local.s3_server import S3Server
from tests.infra.deployments import Deployment

_LAMBDA_SETS: Final = {"AWS_REGION": "eu-central-1", "AWS_DEFAULT_REGION": "eu-central-1"}


def function_of(arn: str) -> tuple[str, str]:
    """Return the function's and the alias's name of an ARN, as such or as API Gateway writes it."""
    name, _, alias = arn.partition(":function:")[2].partition("/invocations")[0].partition(":")
    return name.removeprefix("tl-fif-"), alias


@dataclass(frozen=True, slots=True)
class Route:
    """Where a route leads: a function by an alias, behind the authorizer or not."""

    function: str
    alias: str
    authorizer: str | None


@dataclass(frozen=True, slots=True)
class Bench:
    """What it takes to run a deployed function here.

    Attributes:
        runtime: see `local.lambda_runtime.install_runtime`.
        package: the Lambda package that was deployed, unpacked.
        s3: stands in for the bucket: moto takes a bucket's rule against plaintext for one against everything.
        redis_url: stands in for the queue.
        log: file that functions log to.
    """

    runtime: Runtime
    package: Path
    s3: S3Server
    redis_url: str
    log: Path


class Deployed:
    """What a deployment has made in its emulated AWS, and whose functions run on a bench."""

    def __init__(self, deployment: Deployment, bench: Bench) -> None:
        self.outputs = deployment.outputs()
        self.aws = deployment.aws
        self.bench = bench

    @cached_property
    def api_id(self) -> str:
        """Id of the one API."""
        (api,) = self.aws.client("apigatewayv2").get_apis()["Items"]
        assert api["ApiEndpoint"] == self.outputs["api_url"]
        return str(api["ApiId"])

    def routes(self) -> dict[str, Route]:
        """Return every route of the API."""
        client = self.aws.client("apigatewayv2")
        integrations = {each["IntegrationId"]: each for each in client.get_integrations(ApiId=self.api_id)["Items"]}
        found = {}
        for route in client.get_routes(ApiId=self.api_id)["Items"]:
            integration = integrations[route["Target"].removeprefix("integrations/")]
            assert (integration["IntegrationType"], integration["PayloadFormatVersion"]) == ("AWS_PROXY", "2.0")
            authorizer = None
            if route["AuthorizationType"] == "CUSTOM":
                asked = client.get_authorizer(ApiId=self.api_id, AuthorizerId=route["AuthorizerId"])
                authorizer, _ = function_of(asked["AuthorizerUri"])
            found[route["RouteKey"]] = Route(*function_of(integration["IntegrationUri"]), authorizer)
        return found

    def calls(self) -> dict[str, dict[str, dict[str, Any]]]:
        """Return whom EventBridge calls: function to rule to the rule."""
        client = self.aws.client("events")
        found: dict[str, dict[str, dict[str, Any]]] = {}
        for rule in client.list_rules()["Rules"]:
            for target in client.list_targets_by_rule(Rule=rule["Name"])["Targets"]:
                function, alias = function_of(target["Arn"])
                assert alias == "prod"
                assert "Input" not in target, "the function gets EventBridge's own event"
                found.setdefault(function, {})[rule["Name"].removeprefix("tl-fif-")] = rule
        return found

    def configuration(self, function: str) -> dict[str, Any]:
        """Return the configuration of the version that the alias `prod` calls."""
        client, name = self.aws.client("lambda"), f"tl-fif-{function}"
        version = client.get_alias(FunctionName=name, Name="prod")["FunctionVersion"]
        assert version.isdecimal(), "an alias of $LATEST would change under its callers"
        found: dict[str, Any] = client.get_function(FunctionName=name, Qualifier=version)["Configuration"]
        return found

    def environment(self, function: str) -> dict[str, str]:
        """Return the variables that Terraform gave a function."""
        return dict(self.configuration(function)["Environment"]["Variables"])

    def run(self, function: str) -> LambdaFunction:
        """Return the function as it was deployed; only addresses of servers are those of this machine's."""
        given = self.environment(function)
        # A custom endpoint and AWS's dual-stack ones exclude each other.
        given.pop("AWS_USE_DUALSTACK_ENDPOINT", None)
        given |= _LAMBDA_SETS | self.bench.s3.environment() | {"AWS_ENDPOINT_URL": self.aws.endpoint}
        stand_ins = {
            "TLFIF_REDIS_URL": self.bench.redis_url,
            "TLFIF_BUCKET": self.bench.s3.bucket,
            "TLFIF_URL": "http://127.0.0.1:1",  # nobody listens there
        }
        given |= {name: value for name, value in stand_ins.items() if name in given}
        if url := given.get("TLFIF_JWKS_URL"):
            given["TLFIF_JWKS_URL"] = f"{self.aws.endpoint}{urlsplit(url).path}"
        handler = self.configuration(function)["Handler"]
        return LambdaFunction(self.bench.runtime, self.bench.package, handler, given, self.bench.log)

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Write a document into the bucket."""
        self._client().put_object(Bucket=self.bench.s3.bucket, Key=key, Body=json.dumps(document).encode())

    def get(self, key: str) -> dict[str, Any]:
        """Read a document of the bucket."""
        return dict(json.loads(self._client().get_object(Bucket=self.bench.s3.bucket, Key=key)["Body"].read()))

    def remove(self, key: str) -> None:
        """Remove a document of the bucket; harmless when it is not there."""
        self._client().delete_object(Bucket=self.bench.s3.bucket, Key=key)

    def _client(self) -> Any:
        given = self.bench.s3.environment()
        return boto3.client(
            "s3",
            endpoint_url=given["AWS_ENDPOINT_URL_S3"],
            aws_access_key_id=given["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=given["AWS_SECRET_ACCESS_KEY"],
            region_name=given["AWS_REGION"],
        )

    def gpu(self) -> str:
        """Return the state of the GPU's instance."""
        (found,) = self._instances()
        return str(found["State"]["Name"])

    def stop_gpu(self) -> None:
        """Stop the GPU's instance from outside."""
        (found,) = self._instances()
        self.aws.client("ec2").stop_instances(InstanceIds=[found["InstanceId"]])

    def start_gpu(self) -> None:
        """Start it from outside."""
        (found,) = self._instances()
        self.aws.client("ec2").start_instances(InstanceIds=[found["InstanceId"]])

    def _instances(self) -> list[dict[str, Any]]:
        reservations = self.aws.client("ec2").describe_instances(
            Filters=[{"Name": "tag:env", "Values": ["tinyllama"]}]
        )["Reservations"]
        return [each for reservation in reservations for each in reservation["Instances"]]
