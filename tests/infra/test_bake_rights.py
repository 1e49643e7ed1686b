"""Whether the stage Bake may do what `make bake` does there, and no more: held against the calls that Terraform makes.

terraform/image is applied as its owner does, with its state in a bucket; then the sources change, and what Terraform
asks the emulated AWS for from there on is recorded.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatchcase

import pytest

from local.run_directory import RunDirectory
from tests.infra.deployments import Deployment
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.policies import DELIVERY_ROLES, TERRAFORM
from tests.infra.recorded_calls import Call, calls
from tests.infra.terraform_world import DELIVERY, IMAGE, REGION, Workspace, program
from tests.infra.test_iam import Statement, many, statements

ACCOUNT = re.compile(r"(?<!\d)\d{12}(?!\d)")
"""Every emulated AWS has an account of its own."""

ARN = "arn:aws:{}:eu-central-1:123456789012:{}"


def nobody_s(arn: str) -> str:
    """Return an ARN, or a pattern, without the account."""
    return ACCOUNT.sub("ACCOUNT", arn)


def allows(said: list[Statement], call: Call) -> bool:
    """Tell whether a policy allows a call; conditions are looked at elsewhere."""
    return any(
        each["Effect"] == "Allow"
        and call.action in many(each["Action"])
        and any(fnmatchcase(nobody_s(call.resource), nobody_s(pattern)) for pattern in many(each["Resource"]))
        for each in said
    )


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory, deployments: dict[str, Deployment]) -> Iterator[set[Call]]:
    """Yield what Terraform asks for after another archive, document, parent image and version."""
    program()
    with RunDirectory("tl-fif-test-bake-") as directory:
        aws = EmulatedAws(directory.path)
        aws.start()
        bucket = f"tl-fif-state-{aws.account}-{REGION}"
        aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": REGION})
        workspace = Workspace(tmp_path_factory.mktemp("bake"), aws)
        backend = deployments[DELIVERY].outputs()["image_backend"]
        theirs = deployments[DELIVERY].outputs()["state_bucket"]
        (workspace.folder / IMAGE / "backend.tf").write_text(backend.replace(theirs, bucket), encoding="utf-8")
        apply = ["apply", "-auto-approve", "-input=false", "-no-color", f"-var=archive={workspace.archive}"]
        workspace.run("init", "-input=false", "-no-color", within=IMAGE)
        workspace.run(*apply, within=IMAGE)
        aws.forget_calls()

        change(workspace)
        workspace.run("init", "-input=false", "-no-color", within=IMAGE)
        workspace.run(*apply, within=IMAGE)
        yield aws.terraform_calls()
        aws.stop()


def change(workspace: Workspace) -> None:
    """Change all that a push can: the archive, a document, a pin, the version."""
    workspace.archive.write_bytes(b"another archive")
    ami = workspace.own("ami")
    for path, old, new in (
        (ami / "components" / "node.yaml", "\n", "\n# another one\n"),
        (ami / "pins.env", "BASE_IMAGE_VERSION=", "BASE_IMAGE_VERSION=9"),
    ):
        path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    version = workspace.folder.parent / "VERSION"
    version.unlink()
    version.write_text("0.999.0\n", encoding="utf-8")


@pytest.fixture
def policy(deployments: dict[str, Deployment]) -> list[Statement]:
    """Return what the role of the stage Bake says, as it is applied."""
    deployments[DELIVERY].outputs()
    iam = deployments[DELIVERY].aws.client("iam")
    return statements(iam.get_role_policy(RoleName="tl-fif-delivery-bake", PolicyName="work")["PolicyDocument"])


def test_terraform_may_do_all_that_it_does(recorded: set[Call], policy: list[Statement]) -> None:
    """Each call, on each resource: in a real account it would be refused in the middle of an apply."""
    assert {call for call in recorded if not allows(policy, call)} == set()
    assert len(recorded) > 60


def test_terraform_uses_all_that_it_may(recorded: set[Call]) -> None:
    """No right of the table's that a change of the sources does not need."""
    asked = {action for action, need in DELIVERY_ROLES["bake"].items() if need.by == TERRAFORM}
    other = {action for action, need in DELIVERY_ROLES["bake"].items() if need.by != TERRAFORM}
    assert asked == {call.action for call in recorded} - other


def test_without_one_of_its_rights_terraform_would_fail(recorded: set[Call], policy: list[Statement]) -> None:
    """The comparison above can fail, for each statement that is there for Terraform's sake."""
    others = {
        "Clone",
        "CloneByItsOldName",
        "TakeWhatIsHandedOn",
        "Log",
        "Bake",
        "FollowTheBuild",
        "ReadWhichIsPublished",
    }
    needless = {
        each["Sid"] for each in policy if all(allows([o for o in policy if o != each], call) for call in recorded)
    }
    assert needless == others


def test_the_record_has_a_whole_change(recorded: set[Call]) -> None:
    """From the lock of the state to the new pipeline: an apply that had nothing to do would need no rights."""
    made = {call.action for call in recorded if re.search(":(Create|Delete|Pass|Put|Update)", call.action)}
    assert made >= {
        *("imagebuilder:CreateComponent", "imagebuilder:CreateImageRecipe", "imagebuilder:CreateImagePipeline"),
        *("imagebuilder:DeleteComponent", "imagebuilder:UpdateDistributionConfiguration", "iam:PassRole"),
        *("s3:PutObject", "s3:DeleteObject"),
    }


@pytest.mark.parametrize(
    "call",
    [
        Call("iam:PassRole", "arn:aws:iam::123456789012:role/tl-fif-image-builder"),
        Call("iam:PutRolePolicy", "arn:aws:iam::123456789012:role/tl-fif-image-pipeline"),
        Call(
            "imagebuilder:UpdateInfrastructureConfiguration",
            ARN.format("imagebuilder", "infrastructure-configuration/tl-fif-gpu-node"),
        ),
        Call("imagebuilder:CreateComponent", ARN.format("imagebuilder", "component/other-gpu-node-node/1.0.0/1")),
        Call("imagebuilder:StartImagePipelineExecution", ARN.format("imagebuilder", "image-pipeline/other")),
        Call("ssm:PutParameter", ARN.format("ssm", "parameter/tl-fif/latest_ami_id")),
        Call("lambda:UpdateFunctionCode", ARN.format("lambda", "function:tl-fif-router")),
        Call("ec2:RunInstances", "*"),
        Call("s3:PutObject", "arn:aws:s3:::tl-fif-123456789012-eu-central-1/guard/spend.json"),
        Call("s3:PutObject", "arn:aws:s3:::tl-fif-state-123456789012-eu-central-1/system.tfstate"),
        Call("s3:DeleteObject", "arn:aws:s3:::tl-fif-state-123456789012-eu-central-1/image.tfstate"),
        Call("s3:PutObject", "arn:aws:s3:::tl-fif-image-123456789012-eu-central-1/records/baseline.json"),
    ],
    ids=lambda call: call.action,
)
def test_what_is_the_owner_s_is_refused(policy: list[Statement], call: Call) -> None:
    """Roles, machines, the published image, the system itself; and so the comparison above can fail."""
    assert not allows(policy, call)


def test_a_call_that_nobody_has_named_is_recorded_with_its_words() -> None:
    """It matches no right, so that a test fails and shows it."""
    asked = {
        "HTTP_AUTHORIZATION": "Credential=x/20261126/eu-central-1/s3/aws4_request",
        "REQUEST_METHOD": "PUT",
        "PATH_INFO": "/bucket",
        "QUERY_STRING": "intelligent-tiering",
    }
    assert calls(asked, b"", "123456789012") == [
        Call("s3:PUT of a bucket with ['intelligent-tiering']", "arn:aws:s3:::bucket")
    ]
