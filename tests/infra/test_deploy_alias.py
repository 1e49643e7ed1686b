"""Terraform makes the alias and publishes versions; where the alias leads is not its to say any more after that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from local.run_directory import RunDirectory
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.lambda_aws import package
from tests.infra.terraform_world import Workspace, program

ROOT = """
terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

provider "aws" {
  skip_credentials_validation = true
  skip_metadata_api_check     = true
}

variable "budget" {
  type = string
}

module "function" {
  source = "../modules/function"

  name        = "tl-fif-waker"
  description = "Starts the GPU"
  handler     = "router_lambda.waker.handler"
  package     = "${path.module}/package.zip"
  environment = { TLFIF_BUDGET_EUR = var.budget }
}
"""


class OneFunction:
    """A root with one function, applied to an emulated AWS."""

    def __init__(self, folder: Path, aws: EmulatedAws) -> None:
        self._workspace = Workspace(folder, aws)
        self.folder = self._workspace.folder / "one"
        self.folder.mkdir()
        (self.folder / "main.tf").write_text(ROOT, encoding="utf-8")
        self.functions = aws.client("lambda")

    def init(self) -> None:
        """Make it ready."""
        self._workspace.init("one")

    def plan(self, budget: str) -> dict[str, list[str]]:
        """Plan; return what is to change, by address, and how."""
        self._workspace.run("plan", "-input=false", f"-var=budget={budget}", "-out=plan", within="one")
        shown: dict[str, Any] = json.loads(self._workspace.run("show", "-json", "plan", within="one"))
        found = {each["address"]: each["change"]["actions"] for each in shown.get("resource_changes", [])}
        return {address: actions for address, actions in found.items() if actions not in (["no-op"], ["read"])}

    def apply(self) -> None:
        """Carry out the last plan."""
        self._workspace.run("apply", "-input=false", "plan", within="one")

    def alias(self) -> tuple[str, Any]:
        """Return where the alias leads, and the shares of other versions."""
        found = self.functions.get_alias(FunctionName="tl-fif-waker", Name="prod")
        return found["FunctionVersion"], (found.get("RoutingConfig") or {}).get("AdditionalVersionWeights")


@pytest.fixture(scope="module")
def one(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneFunction]:
    """Yield a function that was applied once."""
    program()
    with RunDirectory("tl-fif-test-alias-") as directory:
        aws = EmulatedAws(directory.path)
        aws.start()
        made = OneFunction(tmp_path_factory.mktemp("alias"), aws)
        (made.folder / "package.zip").write_bytes(package("0.8.0"))
        made.init()
        made.plan("20")
        made.apply()
        yield made
        aws.stop()


def test_the_first_apply_leads_it_to_the_first_version(one: OneFunction) -> None:
    """So that there is something to call."""
    assert one.alias() == ("1", None)


def test_what_a_deployment_has_moved_stays(one: OneFunction) -> None:
    """A version, or a canary's share of the calls: no plan wants to undo it."""
    one.functions.update_function_configuration(FunctionName="tl-fif-waker", Timeout=10)
    assert one.functions.publish_version(FunctionName="tl-fif-waker")["Version"] == "2"
    one.functions.update_alias(
        FunctionName="tl-fif-waker", Name="prod", RoutingConfig={"AdditionalVersionWeights": {"2": 0.1}}
    )
    assert one.plan("20") == {}
    one.functions.update_alias(FunctionName="tl-fif-waker", Name="prod", FunctionVersion="2", RoutingConfig={})
    assert one.plan("20") == {}


def test_new_settings_are_published_and_nobody_is_led_there(one: OneFunction) -> None:
    """Until they are deployed; new code that Terraform finds in its package, too."""
    before = one.alias()
    (one.folder / "package.zip").write_bytes(package("0.9.0"))
    assert one.plan("30") == {"module.function.aws_lambda_function.this": ["update"]}
    one.apply()
    versions = one.functions.list_versions_by_function(FunctionName="tl-fif-waker")["Versions"]
    assert versions[-1]["Environment"]["Variables"] == {"TLFIF_BUDGET_EUR": "30"}
    assert versions[-1]["Version"] not in before
    assert one.alias() == before
    assert one.plan("30") == {}
