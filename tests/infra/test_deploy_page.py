"""What docs/deploy.md tells people to type exists: outputs, variables, functions, targets, files and commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8")
TERRAFORM = ROOT / "terraform"

COMMAND = re.compile(
    r"terraform (?:-chdir=(?P<root>[\w/]+) )?(?P<what>apply|destroy|init|output)\b(?P<rest>.*)", re.DOTALL
)
"""One of Terraform's, with all that stands behind it on its line."""


def commands(page: str = PAGE) -> list[tuple[Path, str, str]]:
    """Return the root, the command and its options of each command of Terraform in blocks of the page.

    Who follows the page is in the repository's root until it says `cd terraform`.
    """
    found: list[tuple[Path, str, str]] = []
    here = ROOT
    for line in re.split(r"(?<!\\)\n", "".join(re.findall(r"```sh\n(.*?)```", page, re.DOTALL))):
        if line.startswith("cd "):
            here = here / line.removeprefix("cd ").partition(" ")[0]
        found += (
            ((here / (each["root"] or ".")).resolve(), each["what"], each["rest"]) for each in COMMAND.finditer(line)
        )
    return found


def declared(kind: str, root: Path = TERRAFORM) -> set[str]:
    """Return the names of a root's variables or outputs."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in root.glob("*.tf"))
    return set(re.findall(rf'^{kind} "(\w+)"', text, re.MULTILINE))


def test_every_command_is_for_a_root() -> None:
    """The system's, or the image's."""
    assert {root for root, _, _ in commands()} == {TERRAFORM, TERRAFORM / "image"}


def test_a_command_in_another_folder_is_found() -> None:
    """The check above can fail: a folder holds from block to block, and a command goes on behind a backslash."""
    page = "```sh\nterraform apply -var x=1\n```\n```sh\ncd terraform\nterraform destroy \\\n  -var y=2\n```\n"
    assert commands(page) == [(ROOT, "apply", " -var x=1"), (TERRAFORM, "destroy", " \\\n  -var y=2")]


def test_every_output_is_there() -> None:
    """`terraform output -raw NAME` prints something."""
    asked = [(root, name) for root, _, rest in commands() for name in re.findall(r"(?:-raw|-json) (\w+)", rest)]
    assert {name for _, name in asked} >= {"api_url", "cognito_url", "client_id", "user_pool_id", "bake_command"}
    assert [(root, name) for root, name in asked if name not in declared("output", root)] == []
    assert set(re.findall(r"`terraform output (?:-raw|-json) (\w+)", PAGE)) <= declared("output")
    assert set(re.findall(r"`terraform -chdir=terraform/image output -raw (\w+)", PAGE)) <= declared(
        "output", TERRAFORM / "image"
    )


def test_every_variable_is_there() -> None:
    """`-var NAME=…` is taken, and so is each that the text names."""
    asked = [(root, name) for root, _, rest in commands() for name in re.findall(r"-var [\"']?(\w+)=", rest)]
    assert {name for _, name in asked} >= {"alert_email", "region", "api_key_sha256"}
    assert [(root, name) for root, name in asked if name not in declared("variable", root)] == []

    of_the_image = {"instance_type", "schedule", "keep_images"}
    assert of_the_image <= declared("variable", TERRAFORM / "image")
    named = set(re.findall(r"-var ['\"]?(\w+)=", PAGE)) | {"ping_cidrs", "cap_eur", "node_certificate_arn"}
    assert {"tls_zone_id", "ami_id"} <= named
    assert named - of_the_image <= declared("variable")


@pytest.mark.parametrize("target", sorted(set(re.findall(r"(?:^|&& )make ([a-z-]+)", PAGE, re.MULTILINE))))
def test_every_target_is_there(target: str) -> None:
    """`make TARGET` makes something."""
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)


def test_the_image_is_baked_before_it_is_booted_from() -> None:
    """And removed after what boots from it: without an image, Terraform plans nothing for the system."""
    order = [(root.name, what) for root, what, _ in commands() if what in {"apply", "destroy"}]
    assert order == [
        ("image", "apply"),
        ("terraform", "apply"),
        ("terraform", "apply"),
        ("terraform", "destroy"),
        ("image", "destroy"),
    ]


def test_every_required_variable_is_given() -> None:
    """What has no default stands in a profile or in the command."""
    text = (TERRAFORM / "variables.tf").read_text(encoding="utf-8")
    blocks = re.split(r'^variable "(\w+)" \{$', text, flags=re.MULTILINE)[1:]
    required = {
        name
        for name, body in zip(blocks[::2], blocks[1::2], strict=True)
        if not re.search(r"^  default\b", body, re.MULTILINE)
    }
    command = next(rest for root, what, rest in commands() if root == TERRAFORM and what == "apply")
    for profile in ("lean", "seed"):
        given = set(
            re.findall(r"^(\w+) +=", (TERRAFORM / "profiles" / f"{profile}.tfvars").read_text("utf-8"), re.MULTILINE)
        )
        assert required <= given | set(re.findall(r"-var (\w+)=", command))


def test_the_image_needs_no_variable() -> None:
    """All of its have a default, whatever the page gives."""
    text = (TERRAFORM / "image" / "variables.tf").read_text(encoding="utf-8")
    assert len(re.findall(r"^variable ", text, re.MULTILINE)) == len(re.findall(r"^  default\b", text, re.MULTILINE))


def test_the_parameters_and_the_tag_are_there() -> None:
    """What the page reads and deletes is what the image's root publishes, or a deployment writes."""
    files = (*(TERRAFORM / "image" / name for name in ("main.tf", "pipeline.tf")), TERRAFORM / "record.py")
    text = re.sub(r"\$\{var\.name\}|\{name\}", "tl-fif", "".join(path.read_text(encoding="utf-8") for path in files))
    for name in (*re.findall(r"-parameter --name (\S+)", PAGE), *re.findall(r"tag-key,Values=(\S+)", PAGE)):
        assert f'"{name}"' in text


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
