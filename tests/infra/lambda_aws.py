"""An emulated AWS with a system's functions in it, which deployments and rollbacks change for real."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from local.aws_server import AwsServer
from local.ports import LOOPBACK
from local.run_directory import RunDirectory

REPOSITORY: Final = Path(__file__).parents[2]
NAME: Final = "tl-fif"

KINDS: Final = (
    *("authorizer", "budget-killer", "canary", "cost-publisher", "gauges"),
    *("queue-health", "reaper", "router", "waker"),
)
"""The system's functions, as terraform/modules has them."""

HANDLERS: Final = {
    kind: f"router_lambda.{'handler' if kind == 'router' else kind.replace('-', '_')}.handler" for kind in KINDS
}

GOOD: Final = {
    "authorizer": "return {'isAuthorized': False}",
    "queue_health": 'return {"statusCode": 200, "body": \'{"redis": "ok"}\'}',
    "handler": (
        "http = event['requestContext']['http']\n"
        "    if http['method'] == 'OPTIONS':\n"
        "        return {'statusCode': 204, 'body': ''}\n"
        "    return {'statusCode': 200, 'body': '{\"status\": \"ok\"}'}"
    ),
    **dict.fromkeys(
        ("budget_killer", "canary", "cost_publisher", "gauges", "reaper", "waker"),
        "raise RuntimeError('a function that acts on a schedule was called')",
    ),
}


def package(release: str, **bodies: str) -> bytes:
    """Return a zip with the functions of a release; `bodies` are what some of them do otherwise."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for module, body in (GOOD | bodies).items():
            source = f"# {release}\ndef handler(event, context):\n    {body}\n"
            archive.writestr(zipfile.ZipInfo(f"router_lambda/{module}.py"), source)
    return content.getvalue()


class LambdaAws(AwsServer):
    """A moto with `tests.infra.moto_lambda` in a process of its own."""

    def set_up(self) -> None:
        """See `Server.set_up`; makes nothing."""

    def command(self) -> list[str]:
        """See `Server.command`."""
        return [sys.executable, "-m", "tests.infra.moto_lambda", LOOPBACK, str(self._ports[0])]

    def child_environment(self) -> dict[str, str]:
        """See `Server.child_environment`."""
        return super().child_environment() | {"PYTHONPATH": str(REPOSITORY)}

    def make_system(self, name: str, releases: Mapping[str, str]) -> None:
        """Make the functions of a system as Terraform does, and publish a version of each release, the last in use.

        `releases` are each with the description of its versions.
        """
        role = self.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
        functions = self.client("lambda")
        for kind, handler in HANDLERS.items():
            function = f"{name}-{kind}"
            functions.create_function(
                FunctionName=function,
                Runtime="python3.12",
                Role=role,
                Handler=handler,
                Code={"ZipFile": package("of Terraform")},
                Architectures=["arm64"],
                Description="What it does",
                Environment={"Variables": {"TLFIF_PING_CIDRS": "10.20.0.0/22", "TLFIF_GPU_TAG": "env=none"}},
                Publish=True,
            )
            version = "1"
            for release, description in releases.items():
                functions.update_function_code(FunctionName=function, ZipFile=package(release), Publish=False)
                made = functions.publish_version(FunctionName=function, Description=description)
                version = made["Version"]
            functions.create_alias(FunctionName=function, Name="prod", FunctionVersion=version)

    def leads(self, name: str) -> dict[str, str]:
        """Return the version that each alias of a system leads to; one in a canary fails the test."""
        functions = self.client("lambda")
        found = {}
        for kind in HANDLERS:
            alias: dict[str, Any] = functions.get_alias(FunctionName=f"{name}-{kind}", Name="prod")
            assert not alias.get("RoutingConfig", {}).get("AdditionalVersionWeights")
            found[kind] = alias["FunctionVersion"]
        return found

    def remove_system(self, name: str) -> None:
        """Remove what was made of a system, its record too."""
        for kind in HANDLERS:
            self.client("lambda").delete_function(FunctionName=f"{name}-{kind}")
        self.client("iam").delete_role(RoleName=name)
        self.client("ssm").delete_parameters(Names=[f"/{name}/deployment", f"/{name}/latest_ami_id"])

    def process_environment(self) -> dict[str, str]:
        """Return the environment of a process that works here."""
        left_out = ("AWS_", "CODEBUILD_", "GITHUB_", "TLFIF_")
        ours = {name: value for name, value in os.environ.items() if not name.startswith(left_out)}
        return ours | {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
            "AWS_EC2_METADATA_DISABLED": "true",
        }


@contextmanager
def lambda_aws() -> Iterator[LambdaAws]:
    """Run one."""
    with RunDirectory("tl-fif-test-lambda-") as directory:
        aws = LambdaAws(directory.path)
        aws.start()
        yield aws
        aws.stop()
