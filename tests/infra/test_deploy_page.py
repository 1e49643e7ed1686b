"""What docs/deploy.md tells people to type exists: outputs, variables, functions, files and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TERRAFORM = ROOT / "terraform"


def declared(kind: str) -> set[str]:
    """Return the names of the root's variables or outputs."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in TERRAFORM.glob("*.tf"))
    return set(re.findall(rf'^{kind} "(\w+)"', text, re.MULTILINE))


def test_every_output_is_there() -> None:
    """`terraform output -raw NAME` prints something."""
    asked = set(re.findall(r"terraform output (?:-raw|-json) (\w+)", PAGE))
    assert {"api_url", "cognito_url", "client_id", "dashboard_url", "user_pool_id"} <= asked
    assert asked <= declared("output")


def test_every_variable_is_there() -> None:
    """`-var NAME=…` is taken, and so is each that the text names."""
    asked = set(re.findall(r"-var (\w+)=", PAGE)) | {"ping_cidrs", "cap_eur", "ami_id"}
    assert {"alert_email", "tls_zone_id"} <= asked
    assert asked <= declared("variable")


def test_every_required_variable_is_given() -> None:
    """What has no default stands in a profile or in the command."""
    text = (TERRAFORM / "variables.tf").read_text(encoding="utf-8")
    blocks = re.split(r'^variable "(\w+)" \{$', text, flags=re.MULTILINE)[1:]
    required = {
        name
        for name, body in zip(blocks[::2], blocks[1::2], strict=True)
        if not re.search(r"^  default\b", body, re.MULTILINE)
    }
    command = re.findall(r"terraform apply(.*?)```", PAGE, re.DOTALL)[0]
    for profile in ("lean", "seed"):
        given = set(
            re.findall(r"^(\w+) +=", (TERRAFORM / "profiles" / f"{profile}.tfvars").read_text("utf-8"), re.MULTILINE)
        )
        assert required <= given | set(re.findall(r"-var (\w+)=", command))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\((\.\./[^)#]+|[^):#]+)\)", PAGE))))
def test_every_link_leads_somewhere(target: str) -> None:
    """A page of ours that is linked to exists."""
    assert (ROOT / "docs" / target).exists()


@pytest.mark.parametrize("profile", sorted(set(re.findall(r"profiles/(\w+)\.tfvars", PAGE))))
def test_every_profile_is_there(profile: str) -> None:
    """A file of values that is named exists."""
    assert (TERRAFORM / "profiles" / f"{profile}.tfvars").is_file()


def test_every_function_is_there() -> None:
    """The functions that are called by name are Terraform's."""
    root = (TERRAFORM / "tests" / "root.tftest.hcl").read_text(encoding="utf-8")
    asked = set(re.findall(r"(?:--function-name|/aws/lambda/) ?tl-fif-([a-z-]+)", PAGE))
    assert asked == {"cost-publisher", "router"}
    assert all(f'"{name}"' in root for name in asked)
