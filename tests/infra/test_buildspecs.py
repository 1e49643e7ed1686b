"""What the pipeline's machines do: the form of each buildspec, and that it names nothing that is not there."""

from __future__ import annotations

import copy
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.infra.terraform_world import FOLDER, REPOSITORY

FOLDER_OF_THEM = REPOSITORY / ".ci" / "buildspecs"
STAGES = ("bake", "deploy", "smoke", "test")
VALIDATOR = Draft202012Validator(json.loads((Path(__file__).parent / "buildspec.schema.json").read_text("utf-8")))

UPLOAD = "what a run leaves is kept for some days, whether the run was good or not"
SHELL = {
    r"\.ci/install_terraform": "the machine comes without Terraform",
    r"\[ ! -d (\S+) \] \|\| aws s3 cp --recursive --only-show-errors (--exclude '\*' --include '\S+' )?\1"
    r" s3://\$TLFIF_ARTIFACTS/(coverage|sbom|smoke)/\$CODEBUILD_RESOLVED_SOURCE_VERSION/": UPLOAD,
}
"""Everything that is not a target of make, with the reason."""

OF_CODEBUILD = {"CODEBUILD_RESOLVED_SOURCE_VERSION", "CODEBUILD_BUILD_SUCCEEDING"}
GUARD = re.compile(r"\[ (?:! -f \S+|\$CODEBUILD_BUILD_SUCCEEDING = 1) \] \|\| ")
"""Before a target of make that not every run needs."""

MAKE = re.compile(r"make (?P<target>[a-z-]+|\"\$TLFIF_TEST_TARGET\")(?: ARGS=(?P<arguments>\"[^\"]*\"|\S+))?")


def read(stage: str) -> Any:
    """Read a buildspec."""
    return yaml.safe_load((FOLDER_OF_THEM / f"{stage}.yml").read_text(encoding="utf-8"))


def commands(spec: Any) -> Iterator[str]:
    """Yield all commands."""
    for phase in spec["phases"].values():
        yield from phase["commands"]
        yield from phase.get("finally", [])


def targets() -> set[str]:
    """Return what make can make."""
    return set(re.findall(r"^([a-z-]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def given(stage: str) -> set[str]:
    """Return the variables that Terraform gives a project, whatever is chosen."""
    text = (FOLDER / "modules" / "pipeline" / "projects.tf").read_text(encoding="utf-8")
    described = re.search(rf"^    {stage} = \{{\n(.*?)^    \}}\n", text, re.MULTILINE | re.DOTALL)
    common = re.search(r"^  common = \{\n(.*?)^  \}\n", text, re.MULTILINE | re.DOTALL)
    assert described, f"{stage} has no project"
    assert common, "no project has what all have"
    return set(re.findall(r"\b(TLFIF_[A-Z_]+) += ", described[1] + common[1]))


def problems(stage: str, spec: Any) -> list[str]:
    """Say what is wrong with a buildspec."""
    found = [error.message for error in VALIDATOR.iter_errors(spec)]
    if found:
        return found
    for command in commands(spec):
        found += command_problems(command)
    asked = set(re.findall(r"\$\{?([A-Z][A-Z_]+)", "\n".join(commands(spec))))
    found += [f"nobody sets {name}" for name in sorted(asked - given(stage) - OF_CODEBUILD)]
    # Names of parameters depend on the system's name: Terraform gives them, and no secret by its value.
    found += [f"{kind} belong into Terraform" for kind in ("variables", "parameter-store") if kind in spec["env"]]
    return found


def command_problems(command: str) -> list[str]:
    """Say what is wrong with a command."""
    if any(re.fullmatch(form, command) for form in SHELL):
        return []
    made = MAKE.fullmatch(GUARD.sub("", command, count=1))
    if made is None:
        return [f"neither a target of make nor a line with a reason: {command}"]
    target = made["target"]
    return [] if target.startswith('"$') or target in targets() else [f"make has no target {target}"]


def test_each_stage_has_one() -> None:
    """And nothing else is there."""
    assert tuple(sorted(path.stem for path in FOLDER_OF_THEM.iterdir())) == STAGES


@pytest.mark.parametrize("stage", STAGES)
def test_a_buildspec_is_one(stage: str) -> None:
    """In its form, its commands and its variables."""
    assert problems(stage, read(stage)) == []


def test_no_reason_is_for_nobody() -> None:
    """Each line that is excused is there."""
    all_of_them = [command for stage in STAGES for command in commands(read(stage))]
    assert [form for form in SHELL if not any(re.fullmatch(form, command) for command in all_of_them)] == []


def plant(change: Callable[[Any], None]) -> Any:
    """Return the buildspec of the smoke test with a fault."""
    spec = copy.deepcopy(read("smoke"))
    change(spec)
    return spec


PLANTED: dict[str, tuple[Callable[[Any], None], str]] = {
    "an old version": (lambda spec: spec.update(version=0.1), "0.2 was expected"),
    "an unknown phase": (lambda spec: spec["phases"].update(deploy={"commands": ["make smoke"]}), "'deploy' was unexp"),
    "an unknown part": (lambda spec: spec["phases"]["build"].update(command="x"), "'command'"),
    "an unknown part of the first": (lambda spec: spec["phases"]["install"].update(command="x"), "'command' was unexp"),
    "no commands": (lambda spec: spec["phases"]["build"].update(commands=[]), "[]"),
    "a number for a version": (
        lambda spec: spec["phases"]["install"]["runtime-versions"].update(python=3.1),
        "3.1 is not one of",
    ),
    "a command of its own": (lambda spec: spec["phases"]["build"]["commands"].append("curl x | sh"), "curl x | sh"),
    "a second command behind make": (
        lambda spec: spec["phases"]["build"]["commands"].append("make smoke; rm -r x"),
        "neither a target",
    ),
    "a target that is not there": (
        lambda spec: spec["phases"]["build"]["commands"].append("make toast"),
        "target toast",
    ),
    "another bucket": (
        lambda spec: spec["phases"]["build"]["commands"].append(
            "[ ! -d x ] || aws s3 cp --recursive --only-show-errors x s3://elsewhere/smoke/"
        ),
        "neither a target",
    ),
    "a variable of nobody's": (
        lambda spec: spec["phases"]["build"]["commands"].append('make smoke ARGS="$TLFIF_PLACE"'),
        "nobody sets TLFIF_PLACE",
    ),
    "a secret in the file": (
        lambda spec: spec["env"].update({"parameter-store": {"TLFIF_PASSWORD": "/tl-fif/smoke_password"}}),
        "parameter-store belong",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_is_found(name: str) -> None:
    """One of each kind."""
    change, said = PLANTED[name]
    (found,) = problems("smoke", plant(change))
    assert said in found


# What each stage has to do


def test_the_sources_are_a_clone() -> None:
    """A ZIP of CodePipeline's loses which files can be run: make runs scripts, and the node's are packed here."""
    text = (FOLDER / "modules" / "pipeline" / "main.tf").read_text(encoding="utf-8")
    assert 'OutputArtifactFormat = "CODEBUILD_CLONE_REF"' in text


def test_the_gate_is_before_everything_else() -> None:
    """What was chosen is tested, and what came of it kept even if it failed."""
    phases = read("test")["phases"]
    assert phases["build"]["commands"][0] == 'make "$TLFIF_TEST_TARGET"'
    assert any("coverage/" in command for command in phases["post_build"]["commands"])


@pytest.mark.parametrize(
    ("stage", "python"), [("test", "3.11"), ("deploy", "3.12"), ("bake", "3.12"), ("smoke", "3.12")]
)
def test_the_python_is_the_right_one(stage: str, python: str) -> None:
    """Everything is tested with 3.11, and the functions are compiled by a 3.12."""
    assert read(stage)["phases"]["install"]["runtime-versions"]["python"] == python


def test_a_smoke_test_that_fails_puts_the_deployment_back() -> None:
    """By the first command after it; what it left is kept and told whether that works or not."""
    phases = read("smoke")["phases"]
    (back,) = phases["post_build"]["commands"]
    assert re.match(r"\[ \$CODEBUILD_BUILD_SUCCEEDING = 1 \] \|\| make rollback ", back)
    assert "s3://$TLFIF_ARTIFACTS/smoke/" in phases["post_build"]["finally"][0]
    assert sum("make announce" in command for command in phases["post_build"]["finally"]) == 2


@pytest.mark.parametrize("stage", ["deploy", "smoke"])
def test_everybody_is_told_of_what_is_written(stage: str) -> None:
    """Each summary that a command writes is announced, and none besides."""
    text = "\n".join(commands(read(stage)))
    written = set(re.findall(r"--summary ([\w.]+)", text))
    assert set(re.findall(r"\[ ! -f ([\w.]+) \] \|\| make announce ARGS=\1$", text, re.MULTILINE)) == written
    assert written


def wrong_options(command: str) -> set[str]:
    """Return the options of a target of make's that its program does not have."""
    made = MAKE.search(command)
    assert made
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    recipe = re.search(rf"^{made['target']}:.*\n\t.* -m (\S+) \$\(ARGS\)$", makefile, re.MULTILINE)
    assert recipe, f"{made['target']} takes no ARGS"
    asked = [sys.executable, "-m", recipe[1], "--help"]
    said = subprocess.run(asked, cwd=REPOSITORY, capture_output=True, text=True, check=True).stdout
    return set(re.findall(r"--[a-z-]+", made["arguments"] or "")) - set(re.findall(r"--[a-z-]+", said))


@pytest.mark.parametrize(
    "command", sorted({command for stage in STAGES for command in commands(read(stage)) if "ARGS" in command})
)
def test_every_option_is_there(command: str) -> None:
    """As the program's own help has it."""
    assert wrong_options(command) == set()


def test_an_option_that_is_not_there_is_found() -> None:
    """So that the test above can fail."""
    assert wrong_options('make bake ARGS="--name x --max-usd 1"') == {"--max-usd"}


def test_secrets_are_on_no_command_line() -> None:
    """They are in the environment, where CodeBuild masks them."""
    text = "\n".join(command for stage in STAGES for command in commands(read(stage)))
    assert not re.search(r"PASSWORD|TOKEN|WEBHOOK|SECRET", text)
