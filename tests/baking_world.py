"""EC2 Image Builder, SSM and EC2 as far as a bake asks them: real clients of boto3, answered here instead of by AWS.

boto3 checks what it is given against AWS's own model before it asks, and the answers are held against the model, too.
Builds go through their states by a clock of the test's own.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import boto3
from botocore.validate import ParamValidator

from terraform.baking import Limits, World, bake
from terraform.builds import Builds, Names

REGION: Final = "eu-central-1"
ACCOUNT: Final = "123456789012"
NAMES: Final = Names("tl-fif", REGION, ACCOUNT)
SOURCE: Final = "a" * 64
OTHER: Final = "b" * 64
BEGIN: Final = datetime(2026, 11, 26, 8, 0, tzinfo=UTC)

MINUTE: Final = 60.0
States = tuple[tuple[float, str], ...]
USUAL: Final[States] = (
    (0.0, "PENDING"),
    (1 * MINUTE, "BUILDING"),
    (15 * MINUTE, "TESTING"),
    (25 * MINUTE, "DISTRIBUTING"),
    (27 * MINUTE, "AVAILABLE"),
)
"""What a build goes through, by the seconds since its start."""

FAILED: Final[States] = ((0.0, "PENDING"), (1 * MINUTE, "BUILDING"), (9 * MINUTE, "FAILED"))


class Refused(Exception):
    """An error of AWS's: its code, and what it says."""


@dataclass
class FakeBuild:
    """One build.

    Attributes:
        began: seconds of the clock.
        publishes: whether its end sets the SSM parameter.
        reason: why it failed.
    """

    arn: str
    began: float
    states: States = USUAL
    tags: dict[str, str] = field(default_factory=dict)
    publishes: bool = True
    reason: str = ""
    cancelled: bool = False
    kind: str = "g4dn.xlarge"

    def status(self, now: float) -> str:
        """Return its state."""
        if self.cancelled:
            return "CANCELLED"
        return [state for after, state in self.states if now - self.began >= after][-1]

    @property
    def ami(self) -> str:
        """Return the id of what it makes."""
        return f"ami-{int(self.arn.rpartition('/')[2]):017x}"


class FakeAws:
    """What there is in the account.

    Attributes:
        seconds: the clock.
        states: what the next build goes through.
        trouble: by operation, errors that the next calls of it meet.
        calls: every operation that was called, in order.
        billed: by build, what Cost Explorer has of it, in USD.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.builds: list[FakeBuild] = []
        self.parameter: str | None = None
        self.images: dict[str, dict[str, str]] = {}
        self.states: States = USUAL
        self.publishes = True
        self.reason = ""
        self.kind = "g4dn.xlarge"
        self.tells_parts = True
        self.trouble: dict[str, list[Refused]] = {}
        self.calls: list[str] = []
        self.billed: dict[str, float] = {}

    def begin(self, source: str = "", states: States | None = None) -> FakeBuild:
        """Begin a build as somebody else would."""
        tags = {NAMES.source_tag: source} if source else {}
        arn = f"{NAMES.builds_arn}/{len(self.builds) + 1}"
        build = FakeBuild(arn, self.seconds, states or self.states, tags, self.publishes, self.reason, kind=self.kind)
        self.builds.append(build)
        return build

    def publish(self, ami: str, source: str = "") -> None:
        """Have an image that instances boot from."""
        self.parameter = ami
        self.images[ami] = {NAMES.source_tag: source} if source else {}

    def client(self, service: str, **_options: Any) -> Any:
        """Return a client whose questions come here."""
        made, answering = _client(service)
        answering[0] = self._answer
        return made

    def _answer(self, operation: str, params: dict[str, Any]) -> dict[str, Any]:
        self.calls.append(operation)
        if waiting := self.trouble.get(operation):
            raise waiting.pop(0)
        for build in self.builds:
            if build.publishes and build.ami not in self.images and build.status(self.seconds) == "AVAILABLE":
                self.images[build.ami] = dict(build.tags)
                self.parameter = build.ami
        answered: dict[str, Any] = getattr(self, f"_{operation}")(params)
        return answered

    def _GetCallerIdentity(self, _params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - AWS's name
        return {"Account": ACCOUNT, "Arn": f"arn:aws:iam::{ACCOUNT}:user/somebody", "UserId": "AIDA"}

    def _GetParameter(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert params["Name"] == NAMES.parameter
        if self.parameter is None:
            raise Refused("ParameterNotFound", "")
        return {"Parameter": {"Name": params["Name"], "Value": self.parameter}}

    def _DescribeImages(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        (wanted,) = params["Filters"][0]["Values"]
        tags = self.images.get(wanted)
        if tags is None:
            return {"Images": []}
        return {"Images": [{"ImageId": wanted, "Tags": [{"Key": k, "Value": v} for k, v in tags.items()]}]}

    def _ListImageBuildVersions(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert params["imageVersionArn"] == NAMES.builds_arn
        if not self.builds:
            raise Refused("ResourceNotFoundException", "no such image")
        # Two at a time, as if there were hundreds.
        first = int(params.get("nextToken", "0"))
        told = [self._tell(build) for build in self.builds[first : first + 2]]
        for each in told:
            del each["infrastructureConfiguration"], each["imageRecipe"]
        more = {"nextToken": str(first + 2)} if first + 2 < len(self.builds) else {}
        return {"imageSummaryList": told, **more}

    def _StartImagePipelineExecution(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert params["imagePipelineArn"] == NAMES.pipeline_arn
        build = self.begin()
        build.tags = params["tags"]
        return {"imageBuildVersionArn": build.arn, "clientToken": params["clientToken"]}

    def _GetImage(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"image": self._tell(self._find(params))}

    def _CancelImageCreation(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        self._find(params).cancelled = True
        return {"imageBuildVersionArn": params["imageBuildVersionArn"]}

    def _ListWorkflowExecutions(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        build = self._find(params)
        if not self.tells_parts:
            return {"workflowExecutions": []}
        parts: list[dict[str, Any]] = []
        for kind, state in (("BUILD", "BUILDING"), ("TEST", "TESTING"), ("DISTRIBUTION", "DISTRIBUTING")):
            starts = [after for after, each in build.states if each == state]
            ends = [after for after, _ in build.states if starts and after > starts[0]]
            if not starts or build.began + starts[0] > self.seconds:
                continue
            failed = build.status(self.seconds) == "FAILED" and ends == [build.states[-1][0]]
            part = {
                "type": kind,
                "status": "FAILED" if failed else "COMPLETED",
                "startTime": self._at(starts[0], build),
            }
            part["message"] = "step Prove failed" if failed else "Completed"
            if ends and build.began + ends[0] <= self.seconds:
                part["endTime"] = self._at(ends[0], build)
            parts.append(part)
        first = int(params.get("nextToken", "0"))
        more = {"nextToken": str(first + 2)} if first + 2 < len(parts) else {}
        return {"workflowExecutions": parts[first : first + 2], **more}

    def _GetCostAndUsage(self, params: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        assert params["TimePeriod"] == {"Start": "2026-11-26", "End": "2026-11-27"}
        assert params["Filter"]["And"][0]["Dimensions"]["Values"] == [REGION]
        tag = params["GroupBy"][0]["Key"]
        amounts = {f"{tag}$": 3.0, f"{tag}$arn:aws:imagebuilder:{REGION}:{ACCOUNT}:image/other/1.0.0/1": 9.0}
        amounts |= {f"{tag}${arn}": usd for arn, usd in self.billed.items()}
        groups = [
            {"Keys": [key], "Metrics": {"UnblendedCost": {"Amount": str(usd), "Unit": "USD"}}}
            for key, usd in amounts.items()
        ]
        if "NextPageToken" not in params:
            return {"ResultsByTime": [{"Groups": groups[:2]}], "NextPageToken": "2"}
        return {"ResultsByTime": [{"Groups": groups[2:]}]}

    def _find(self, params: dict[str, Any]) -> FakeBuild:
        for build in self.builds:
            if build.arn == params["imageBuildVersionArn"]:
                return build
        raise Refused("InvalidRequestException", "no such build")

    def _at(self, after: float, build: FakeBuild) -> str:
        moment = BEGIN + timedelta(seconds=build.began + after)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def _tell(self, build: FakeBuild) -> dict[str, Any]:
        status = build.status(self.seconds)
        made = [{"region": "us-east-1", "image": "ami-0"}, {"region": REGION, "image": build.ami}]
        ebs = {"volumeType": "gp3", "volumeSize": 30}
        return {
            "arn": build.arn,
            "state": {"status": status, **({"reason": build.reason} if status == "FAILED" and build.reason else {})},
            "tags": build.tags,
            "dateCreated": self._at(0.0, build),
            "outputResources": {"amis": made} if status == "AVAILABLE" else {},
            "infrastructureConfiguration": {"instanceTypes": [build.kind]},
            "imageRecipe": {"blockDeviceMappings": [{"deviceName": "/dev/xvda", "ebs": ebs}]},
        }


_Answer = Callable[[str, dict[str, Any]], dict[str, Any]]


@functools.cache
def _client(service: str) -> tuple[Any, list[_Answer]]:
    """Return a client, and where to put who answers for AWS; made once, for that takes longer than all else here."""
    made = boto3.client(service, region_name=REGION, aws_access_key_id="any", aws_secret_access_key="any")
    answering: list[_Answer] = [lambda _operation, _params: {}]
    asked: dict[str, Any] = {}

    def remember(params: dict[str, Any], **_: Any) -> None:
        asked["params"] = dict(params)

    def answer(model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        http: Any = type("Http", (), {"status_code": 200})()
        try:
            parsed = answering[0](model.name, asked["params"])
        except Refused as refused:
            code, message = refused.args
            http.status_code = 400
            return http, {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": 400}}
        report = ParamValidator().validate(parsed, model.output_shape)
        assert not report.has_errors(), report.generate_report()
        return http, parsed

    made.meta.events.register("before-parameter-build.*.*", remember)
    made.meta.events.register("before-call.*.*", answer)
    return made, answering


class Baking:
    """A bake in a fake account.

    Attributes:
        said: what it printed.
        applied: how often Terraform was run.
        on_apply: what happens meanwhile.
        on_wait: what happens while it waits.
        asked_at: the second at which somebody asks to stop.
        waits: for how long it waited, each time.
    """

    def __init__(self) -> None:
        self.aws = FakeAws()
        self.said: list[str] = []
        self.applied = 0
        self.on_apply: Callable[[], object] = lambda: None
        self.on_wait: Callable[[], object] = lambda: None
        self.asked_at: float | None = None
        self.waits: list[float] = []

    @property
    def world(self) -> World:
        """Return what the code under test works with."""
        return World(
            builds=Builds(self.aws.client, NAMES),
            names=NAMES,
            apply=self._apply,
            say=self.said.append,
            clock=lambda: self.aws.seconds,
            now=lambda: BEGIN + timedelta(seconds=self.aws.seconds),
            wait=self._wait,
            asked=lambda: self.asked_at is not None and self.aws.seconds >= self.asked_at,
        )

    def bake(self, *, anew: bool = False, limits: Limits | None = None) -> None:
        """Bake."""
        bake(self.world, SOURCE, limits or Limits(), anew=anew)

    @property
    def started(self) -> int:
        """Return how many builds it started."""
        return self.aws.calls.count("StartImagePipelineExecution")

    def _apply(self) -> None:
        self.applied += 1
        self.on_apply()

    def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.aws.seconds += seconds
        self.on_wait()
