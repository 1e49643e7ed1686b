"""Image Builder's documents: their form, that they call scripts that are there, and that each value is asked for."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator

from tests.infra.ami_world import AMI, HOME, ROOT

FOLDER = AMI / "components"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))
SCHEMA = json.loads((Path(__file__).parent / "awstoe.schema.json").read_text(encoding="utf-8"))
VALIDATOR = Draft202012Validator(SCHEMA)
MOST_CHARACTERS = 16_000
"""Of a document that CreateComponent is given as text."""


def document(name: str) -> Any:
    """Read a document."""
    return yaml.safe_load((FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))


def problems(read: Any) -> list[str]:
    """Say what is wrong with a document."""
    found = [error.message for error in VALIDATOR.iter_errors(read)]
    if found:
        return found
    declared = {name for parameter in read.get("parameters", []) for name in parameter}
    asked = set(re.findall(r"{{\s*([\w.\[\]-]+)\s*}}", json.dumps(read["phases"])))
    found += [f"{name} is asked for and not declared" for name in asked - declared]
    found += [f"{name} is declared and not asked for" for name in declared - asked]
    names = [phase["name"] for phase in read["phases"]]
    found += [f"phase {name} stands there twice" for name in set(names) if names.count(name) > 1]
    for phase in read["phases"]:
        steps = [step["name"] for step in phase["steps"]]
        found += [f"step {name} stands there twice" for name in set(steps) if steps.count(name) > 1]
        for step in phase["steps"]:
            if "timeoutSeconds" not in step:
                found.append(f"step {step['name']} may take two hours, the default")
            if step["action"] == "ExecuteBash":
                found += bash_problems(step["inputs"]["commands"])
    return found


def bash_problems(commands: list[str]) -> list[str]:
    """Say what is wrong with commands, which become one script: its exit code is that of the last."""
    found = [] if len(commands) == 1 or commands[0] == "set -euo pipefail" else ["a failure would go unnoticed"]
    for path in re.findall(rf"/{HOME}/(\S+\.sh)", " ".join(commands)):
        script = ROOT / path
        if not script.is_file() or not script.stat().st_mode & 0o100:
            found.append(f"there is no program {path}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_a_document_is_sound(name: str) -> None:
    """By the schema, and by what a schema cannot say."""
    assert problems(document(name)) == []
    assert len((FOLDER / f"{name}.yaml").read_text(encoding="utf-8")) <= MOST_CHARACTERS


def test_all_phases_are_there() -> None:
    """The image is built, validated, and tested on an instance of its own."""
    assert {phase["name"] for name in NAMES for phase in document(name)["phases"]} == {"build", "validate", "test"}


def test_each_step_of_the_provisioning_is_called_once() -> None:
    """But the proof: while the image is baked, and on an instance of it."""
    called = [
        script
        for name in NAMES
        for phase in document(name)["phases"]
        for step in phase["steps"]
        if step["action"] == "ExecuteBash"
        for script in re.findall(r"/ami/provision/(\w+)\.sh", " ".join(step["inputs"]["commands"]))
    ]
    scripts = {path.stem for path in (AMI / "provision").glob("*.sh")} - {"lib"}

    assert set(called) == scripts
    assert {name for name in called if called.count(name) > 1} == {"prove"}


def test_the_model_comes_after_all_that_writes_and_the_cleaning_last() -> None:
    """The weights are one stretch on the disk, and nothing of the builder stays."""
    steps = [step["name"] for step in document("node")["phases"][0]["steps"]]

    assert steps.index("Model") > max(steps.index(name) for name in ("System", "DriverAndPython", "Services"))
    assert steps[-1] == "Clean"


FAULTS: dict[str, Callable[[Any], object]] = {
    "a version that there is not": lambda read: read.update(schemaVersion=1.1),
    "no phases": lambda read: read.pop("phases"),
    "an unknown key": lambda read: read.update(steps=[]),
    "an unknown phase": lambda read: read["phases"][0].update(name="install"),
    "a phase twice": lambda read: read["phases"].append(read["phases"][0]),
    "a phase without steps": lambda read: read["phases"][0].update(steps=[]),
    "a step twice": lambda read: read["phases"][0]["steps"].append(read["phases"][0]["steps"][0]),
    "an unknown action": lambda read: read["phases"][0]["steps"][0].update(action="RunShell"),
    "a step without inputs": lambda read: read["phases"][0]["steps"][0].pop("inputs"),
    "a timeout of 0": lambda read: read["phases"][0]["steps"][0].update(timeoutSeconds=0),
    "no timeout": lambda read: read["phases"][0]["steps"][0].pop("timeoutSeconds"),
    "an unknown onFailure": lambda read: read["phases"][0]["steps"][0].update(onFailure="Retry"),
    "inputs of another action": lambda read: read["phases"][0]["steps"][0].update(action="ExecuteBash"),
    "a relative destination": lambda read: read["phases"][0]["steps"][0]["inputs"][0].update(destination="x"),
    "a number as a default": lambda read: read["parameters"][0]["Archive"].update(default=1),
    "a parameter of another type": lambda read: read["parameters"][0]["Archive"].update(type="boolean"),
    "a parameter's short name": lambda read: read["parameters"].append({"No": {"type": "string"}}),
    "a parameter that nobody asks for": lambda read: read["parameters"].append({"Other": {"type": "string"}}),
    "one that nobody declares": lambda read: read["parameters"].pop(),
    "commands that go on after a failure": lambda read: read["phases"][0]["steps"][1]["inputs"]["commands"].pop(0),
    "a script that is not there": lambda read: read["phases"][0]["steps"][2]["inputs"].update(
        commands=["/opt/tl-fif/ami/provision/nothing.sh"]
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_found(fault: str) -> None:
    """Each of them, planted into a document that is sound."""
    read = copy.deepcopy(document("node"))
    FAULTS[fault](read)

    assert problems(read) != []
