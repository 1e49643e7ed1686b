"""checkov finds nothing in either profile that terraform/checkov.yaml does not give a reason for."""

from __future__ import annotations

import copy
import re

import pytest
import yaml

from tests.infra.checkov_world import CONFIGURATION, failures
from tests.infra.deployments import Deployment

TEXT = CONFIGURATION.read_text(encoding="utf-8")
SKIPPED = yaml.safe_load(TEXT)["skip-check"]


Found = dict[tuple[str, str], dict[str, set[str]]]


@pytest.fixture(scope="module")
def found(deployments: dict[str, Deployment]) -> Found:
    """Return what checkov finds in each profile, by check, when nothing is left out.

    In the first plan, as it is made before a deployment, and in one of what is applied already, in which every policy
    is known.
    """
    return {
        (profile, when): failures(plan)
        for profile, deployment in deployments.items()
        for when, plan in (("again", deployment.plan_again()), ("first", deployment.planned))
    }


def test_what_is_found_has_a_reason(found: Found) -> None:
    """In both profiles."""
    unexcused = {
        (*which, check): sorted(addresses)
        for which, checks in found.items()
        for check, addresses in checks.items()
        if check not in SKIPPED
    }
    assert unexcused == {}


def test_every_reason_is_still_needed(found: Found) -> None:
    """A check that finds nothing any more is not left out."""
    assert set(SKIPPED) <= {check for checks in found.values() for check in checks}
    assert len(SKIPPED) == len(set(SKIPPED))


def test_every_check_that_is_left_out_has_a_reason() -> None:
    """A comment above it, of a few words at least."""
    assert re.findall(r"^  # .{20,}\n  - (CKV\w+)$", TEXT, re.MULTILINE) == SKIPPED


def test_the_configuration_is_one_that_checkov_takes(deployments: dict[str, Deployment]) -> None:
    """As docs have it; and a fault in the plan would be found with it."""
    plan = copy.deepcopy(deployments["lean"].plan_again())
    assert failures(plan, "--config-file", str(CONFIGURATION)) == {}

    (gpu,) = [
        module for module in plan["planned_values"]["root_module"]["child_modules"] if module["address"] == "module.gpu"
    ]
    (instance,) = [each for each in gpu["resources"] if each["type"] == "aws_instance"]
    instance["values"]["metadata_options"][0]["http_tokens"] = "optional"
    assert failures(plan, "--config-file", str(CONFIGURATION)) == {"CKV_AWS_79": {instance["address"]}}
