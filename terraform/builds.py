"""The builds of a system's image, as EC2 Image Builder tells of them, and the image that is published."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

RECIPE_VERSION: Final = "1.0.0"
"""The one version of the recipe that there is; terraform/image/recipe.tf says why."""

RUNNING: Final = frozenset({"PENDING", "CREATING", "BUILDING", "TESTING", "DISTRIBUTING", "INTEGRATING"})
"""States of a build that something is still to come after; `AVAILABLE` alone is success."""


@dataclass(frozen=True, slots=True)
class Names:
    """What the parts of one system's image are called; terraform/image makes them by the same names."""

    name: str
    region: str
    account: str
    partition: str = "aws"

    @property
    def image(self) -> str:
        """Return what image, recipe and pipeline are called."""
        return f"{self.name}-gpu-node"

    @property
    def parameter(self) -> str:
        """Return the SSM parameter that names the newest image."""
        return f"/{self.name}/latest_ami_id"

    @property
    def source_tag(self) -> str:
        """Return the tag, of an image and of a build, that says what it is made of."""
        return f"{self.name}:source"

    @property
    def log_group(self) -> str:
        """Return the log group of the builds."""
        return f"/aws/imagebuilder/{self.image}"

    @property
    def pipeline_arn(self) -> str:
        """Return the ARN of the pipeline."""
        return f"{self._arn}:image-pipeline/{self.image}"

    @property
    def builds_arn(self) -> str:
        """Return what the ARNs of all builds begin with, a slash and a number behind it."""
        return f"{self._arn}:image/{self.image}/{RECIPE_VERSION}"

    @property
    def _arn(self) -> str:
        return f"arn:{self.partition}:imagebuilder:{self.region}:{self.account}"


@dataclass(frozen=True, slots=True)
class Build:
    """One build, at the moment of a look at it.

    Attributes:
        reason: why it failed; empty where Image Builder says nothing.
        source: digest of what it is made of; empty of one that was started by hand.
        ami: the image's id, once there is one.
        created: when it began, in UTC, such as 2026-11-26T08:00:00.000Z.
        kind: type of the machines that build and test it; empty in a list of builds, as are both of the disk.
    """

    arn: str
    status: str
    reason: str = ""
    source: str = ""
    ami: str = ""
    created: str = ""
    kind: str = ""
    disk: str = ""
    disk_gb: float = 0.0


@dataclass(frozen=True, slots=True)
class Published:
    """The image that the SSM parameter names: its id, and the digest of what it is made of, if its tags say so."""

    ami: str
    source: str = ""


class Builds:
    """The API, for the builds of one system.

    Args:
        client: gives boto3's client of a service.
    """

    def __init__(self, client: Callable[[str], Any], names: Names) -> None:
        self._builder = client("imagebuilder")
        self._ssm = client("ssm")
        self._ec2 = client("ec2")
        self._names = names

    def published(self) -> Published | None:
        """Return the image that new instances boot from; `None` where there is none, or no longer."""
        try:
            ami = self._ssm.get_parameter(Name=self._names.parameter)["Parameter"]["Value"]
        except self._ssm.exceptions.ParameterNotFound:
            return None
        # By a filter: of an id that is not there, a question by the id itself would be an error.
        images = self._ec2.describe_images(Owners=["self"], Filters=[{"Name": "image-id", "Values": [ami]}])["Images"]
        if not images:
            return None
        tags = {tag["Key"]: tag["Value"] for tag in images[0].get("Tags", [])}
        return Published(ami, tags.get(self._names.source_tag, ""))

    def all(self) -> list[Build]:
        """Return the builds that Image Builder remembers, in no order."""
        found: list[Build] = []
        token = None
        while True:
            try:
                page = self._builder.list_image_build_versions(
                    imageVersionArn=self._names.builds_arn, **({"nextToken": token} if token else {})
                )
            except self._builder.exceptions.ResourceNotFoundException:
                return []  # nothing has ever been baked
            found += [self._read(each) for each in page.get("imageSummaryList", [])]
            token = page.get("nextToken")
            if not token:
                return found

    def start(self, source: str) -> str:
        """Start a build; return its ARN."""
        started = self._builder.start_image_pipeline_execution(
            imagePipelineArn=self._names.pipeline_arn,
            clientToken=str(uuid.uuid4()),
            tags={self._names.source_tag: source},
        )
        return str(started["imageBuildVersionArn"])

    def look(self, arn: str) -> Build:
        """Return how far a build is."""
        return self._read(self._builder.get_image(imageBuildVersionArn=arn)["image"])

    def workflows(self, arn: str) -> list[dict[str, Any]]:
        """Return a build's parts: type, status, message, start and end of each."""
        found: list[dict[str, Any]] = []
        token = None
        while True:
            page = self._builder.list_workflow_executions(
                imageBuildVersionArn=arn, **({"nextToken": token} if token else {})
            )
            found += page.get("workflowExecutions", [])
            token = page.get("nextToken")
            if not token:
                return found

    def cancel(self, arn: str) -> None:
        """End a build; its machines go."""
        self._builder.cancel_image_creation(imageBuildVersionArn=arn, clientToken=str(uuid.uuid4()))

    def _read(self, told: Mapping[str, Any]) -> Build:
        state = told.get("state", {})
        amis = told.get("outputResources", {}).get("amis", [])
        disks = [each["ebs"] for each in told.get("imageRecipe", {}).get("blockDeviceMappings", []) if "ebs" in each]
        return Build(
            arn=told["arn"],
            status=state.get("status", ""),
            reason=state.get("reason", ""),
            source=told.get("tags", {}).get(self._names.source_tag, ""),
            ami=next((each["image"] for each in amis if each.get("region") == self._names.region), ""),
            created=told.get("dateCreated", ""),
            kind=next(iter(told.get("infrastructureConfiguration", {}).get("instanceTypes", [])), ""),
            disk=disks[0].get("volumeType", "") if disks else "",
            disk_gb=float(disks[0].get("volumeSize", 0)) if disks else 0.0,
        )
