"""The workflows: every rule of `workflow_rules`, and what each of them is there for."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from tests.infra import workflow_rules as rules
from tests.infra.workflow_rules import ROOT, Workflow

WORKFLOWS = {workflow.name: workflow for workflow in rules.workflows()}
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")


def test_the_workflows_are_these() -> None:
    """CONTRIBUTING.md names each."""
    assert set(WORKFLOWS) == {"audit", "ci", "release", "rollback", "smoke"}
    assert [name for name in WORKFLOWS if f"\n| `{name}` |" not in CONTRIBUTING] == []


@pytest.mark.parametrize("rule", rules.RULES, ids=lambda rule: rule.__name__)
@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_keeps_a_rule(name: str, rule: Callable[[Workflow], list[str]]) -> None:
    """The rule's docstring says what that is."""
    assert rule(WORKFLOWS[name]) == []


CHECKOUT = "actions/checkout@8e8c483db84b4bee98b60c0593521ed34d9990e8 # v6.0.1"
PLANTED = [
    (rules.unpinned, "ci", CHECKOUT, "actions/checkout@v6"),
    (rules.unpinned, "ci", CHECKOUT, CHECKOUT.partition(" #")[0]),
    (rules.unpinned, "ci", "actions/checkout@", "somebody/checkout@"),
    (rules.unpinned, "ci", CHECKOUT, "./.github/actions/own"),
    (rules.unknown_inputs, "ci", "cache-dependency-path", "cache-dependency-paths"),
    (rules.odd_commands, "ci", "make test-fast", "make test-slow"),
    (rules.odd_commands, "ci", "make test-fast", "pytest tests/unit"),
    (rules.odd_commands, "ci", "make test-fast", "make test-fast && make lint"),
    (rules.odd_commands, "ci", "make test-fast", "make"),
    (rules.odd_commands, "ci", "make test-fast", "make test-fast WHAT=unit"),
    (rules.odd_commands, "ci", "make test-fast", 'make test ARGS="$(date)"'),
    (rules.odd_commands, "ci", "make test-fast", "|\n          make lint\n          make test"),
    (rules.odd_commands, "rollback", "run: make rollback-form", "run: .github/rollback.sh"),
    (rules.odd_commands, "rollback", "run: make rollback-form", "run: make rollback ARGS=${{ inputs.to }}"),
    (rules.granted, "ci", "contents: read", "contents: write"),
    (rules.granted, "ci", "permissions:\n  contents: read\n", ""),
    (rules.granted, "release", "actions: read", "actions: write"),
    (rules.granted, "smoke", "    environment:", "    permissions: {id-token: write}\n    environment:"),
    (rules.odd_triggers, "ci", "pull_request:", "pull_request_target:"),
    (rules.odd_triggers, "smoke", "workflow_dispatch:", "workflow_dispatch:\n  push:"),
    (rules.odd_triggers, "release", "on:\n", "on:\n  pull_request:\n"),
    (rules.keys, "smoke", "TLFIF_USERNAME:", "AWS_ACCESS_KEY_ID: x\n          TLFIF_USERNAME:"),
    (rules.keys, "rollback", "role-to-assume:", "aws-secret-access-key:"),
    (rules.keys, "rollback", "    environment: production\n", ""),
    (rules.keys, "smoke", "    environment: production\n", ""),
    (rules.keys, "rollback", "      id-token: write # is shown to AWS instead of a key\n", ""),
    (rules.unbounded, "ci", "    timeout-minutes: 30\n", ""),
    (rules.unbounded, "ci", "timeout-minutes: 90", "timeout-minutes: 360"),
    (rules.unbounded, "ci", "ubuntu-24.04", "ubuntu-latest"),
    (rules.racing, "ci", "concurrency:", "x-concurrency:"),
    (rules.racing, "rollback", "cancel-in-progress: false", "cancel-in-progress: true"),
    (rules.racing, "release", "  cancel-in-progress: false\n", ""),
    (rules.leaky, "ci", "persist-credentials: false", "persist-credentials: true"),
    (rules.leaky, "audit", "        with:\n          persist-credentials: false\n", ""),
]


@pytest.mark.parametrize(("rule", "name", "old", "new"), PLANTED)
def test_a_rule_finds_what_breaks_it(rule: Callable[[Workflow], list[str]], name: str, old: str, new: str) -> None:
    """One fault each, at the first place where it fits."""
    text = WORKFLOWS[name].text

    assert old in text
    assert rule(Workflow(name, text.replace(old, new, 1))) != []


def test_every_rule_has_a_fault() -> None:
    """None of them is there for show."""
    assert {rule for rule, *_ in PLANTED} == set(rules.RULES)


def test_an_action_has_one_version() -> None:
    """In all workflows; Dependabot moves them together."""
    text = "".join(workflow.text for workflow in WORKFLOWS.values())
    pins = set(re.findall(r"uses: ([\w./-]+)@(\S+) # (\S+)", text))

    assert len(pins) == len({name for name, *_ in pins}) == len(rules.ACTIONS)


def runs(name: str, job: str) -> list[str]:
    """Return the commands of a job."""
    return [step["run"] for step in WORKFLOWS[name].jobs[job]["steps"] if "run" in step]


def test_the_first_failure_shows_at_once() -> None:
    """The fast tests stop there, and the rest waits for them."""
    jobs = WORKFLOWS["ci"].jobs

    assert runs("ci", "fast") == ["make test-fast"]
    assert "--maxfail=1" in rules.targets()["test-fast"]
    assert {name for name, job in jobs.items() if job.get("needs") == "fast"} == {"check", "supply"}
    assert all(f"`{name}`" in CONTRIBUTING for name in jobs)


def test_a_commit_of_main_keeps_its_verdict() -> None:
    """A group of its own, which nothing that comes later cancels."""
    assert WORKFLOWS["ci"].tree["on"] == {"push": {"branches": ["main"]}, "pull_request": None}
    assert WORKFLOWS["ci"].tree["concurrency"] == {
        "group": "ci-${{ github.event_name == 'pull_request' && github.ref || github.sha }}",
        "cancel-in-progress": "${{ github.event_name == 'pull_request' }}",
    }


def test_all_is_checked_and_the_coverage_kept() -> None:
    """For a week, as what the pipeline keeps; also where a test failed."""
    *_, upload = WORKFLOWS["ci"].jobs["check"]["steps"]

    assert runs("ci", "check") == ["make lint", 'make test ARGS="--cov --cov-report term --cov-report html"']
    assert upload["with"]["path"] == "htmlcov"
    assert upload["with"]["retention-days"] == 7
    assert upload["if"] == "${{ !cancelled() }}"


def test_a_pull_request_raises_the_version() -> None:
    """Only there; and the history that it is compared with is fetched."""
    job = WORKFLOWS["ci"].jobs["bump"]

    assert job["if"] == "${{ github.event_name == 'pull_request' }}"
    assert job["steps"][0]["with"]["fetch-depth"] == 0
    assert runs("ci", "bump") == ["make check-bump BASE=origin/main"]


def test_the_audit_comes_by_itself_and_with_every_lock() -> None:
    """Weekly, and when a file changes that names versions."""
    on = WORKFLOWS["audit"].tree["on"]
    patterns = on["pull_request"]["paths"]

    assert re.fullmatch(r"\d+ \d+ \* \* [0-6]", on["schedule"][0]["cron"])
    assert on["push"]["paths"] == patterns
    assert "**/*.lock" in patterns
    assert all((ROOT / path).is_file() for path in patterns if "*" not in path)


def test_the_tools_are_those_of_the_other_places() -> None:
    """Terraform as in the pipeline, Python as .venv takes it."""
    installed = (ROOT / ".ci" / "install_terraform").read_text(encoding="utf-8")
    given = [step.get("with", {}) for workflow in WORKFLOWS.values() for _, step in workflow.steps()]
    terraform = {inputs["terraform_version"] for inputs in given if "terraform_version" in inputs}
    python = {inputs["python-version"].split()[-1] for inputs in given if "python-version" in inputs}

    assert terraform
    assert all(version in installed for version in terraform)
    assert python == {"3.11"}


def test_what_a_person_sets_is_written_down() -> None:
    """Every variable and every secret that a workflow reads, and no other."""
    text = "".join(workflow.text for workflow in WORKFLOWS.values())
    used = set(re.findall(r"\$\{\{ (?:vars|secrets)\.(\w+) \}\}", text))
    _, _, table = CONTRIBUTING.partition("| name | for | what |\n|---|---|---|\n")
    rows = table.partition("\n\n")[0].splitlines()

    assert {name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split(" | ")[0])} == used


def test_the_badge_shows_the_verdict_on_main() -> None:
    """Of the workflow that gives it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert re.search(r"(?m)^\[!\[ci\]\([^)]*actions/workflows/ci\.yml/badge\.svg\?branch=main\)\]\([^)]+\)", readme)


def test_dependabot_reads_what_is_there() -> None:
    """The workflows, and the checkers that npm brings."""
    read: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "dependabot.yml").read_text(encoding="utf-8"))
    updates = {each["package-ecosystem"]: each["directory"] for each in read["updates"]}

    assert updates == {"github-actions": "/", "npm": "/.ci/npm"}
    assert (ROOT / ".ci/npm/package-lock.json").is_file()
