"""What people fill in on GitHub: issues and pull requests, the labels, whose files are whose."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
LABELS = {
    "S-1": ("≤2 h change", "b4f0a7"),
    "S-2": ("½ day", "a6e3f4"),
    "S-3": ("1-2 days", "f6d28b"),
    "S-5": ("big ticket", "f29fab"),
}
SIZES = [f"{name} ({says})" for name, (says, _) in LABELS.items()]
READY = ["Story labelled S-1/2/3/5", "Any blocking ADR merged", "Acceptance tests sketched"]
DONE = ["Main branch green", "`VERSION` bumped", "If design changed, ADR added/updated"]
INPUTS = {"checkboxes", "dropdown", "input", "markdown", "textarea"}


def read(name: str) -> dict[str, Any]:
    """Read a form."""
    form: dict[str, Any] = yaml.safe_load((GITHUB / "ISSUE_TEMPLATE" / name).read_text(encoding="utf-8"))
    return form


def options(element: dict[str, Any]) -> list[str]:
    """Return what can be chosen or checked."""
    listed = element["attributes"].get("options", [])
    return [each["label"] if isinstance(each, dict) else each for each in listed]


def fault(form: dict[str, Any]) -> str | None:
    """Say what a form lacks, `None` when nothing."""
    body = form["body"]
    if not (form.get("name") and form.get("description")) or {each["type"] for each in body} - INPUTS:
        return "GitHub shows a form with name, description and inputs of its kinds alone"
    ids = [each["id"] for each in body if each["type"] != "markdown"]
    if len(ids) != len(set(ids)):
        return "two inputs have one id"
    by_label = {each["attributes"]["label"]: options(each) for each in body if "label" in each["attributes"]}
    wanted = {"Size": SIZES, "Definition of Ready": READY, "Definition of Done": DONE}
    return next(
        (f"{label} has {by_label.get(label)}" for label in wanted if by_label.get(label) != wanted[label]), None
    )


def test_the_forms_are_these() -> None:
    """And nobody gets around them."""
    assert {path.name for path in (GITHUB / "ISSUE_TEMPLATE").iterdir()} == {"bug.yml", "config.yml", "story.yml"}
    assert read("config.yml") == {"blank_issues_enabled": False}


@pytest.mark.parametrize("name", ["bug.yml", "story.yml"])
def test_a_form_has_the_checklists(name: str) -> None:
    """Size, ready and done, word for word."""
    assert fault(read(name)) is None


@pytest.mark.parametrize("number", [*range(len(read("story.yml")["body"]))[-3:]])
def test_a_form_without_a_checklist_is_found(number: int) -> None:
    """Nor with a shorter one."""
    form = read("story.yml")
    form["body"][number]["attributes"]["options"].pop()
    assert fault(form) is not None
    del form["body"][number]
    assert fault(form) is not None


def test_a_form_that_github_would_refuse_is_found() -> None:
    """A kind of input that there is not, no name, an id twice."""
    for changed in ({"name": ""}, {"body": [*read("bug.yml")["body"], {"type": "text", "id": "x", "attributes": {}}]}):
        assert fault(read("bug.yml") | changed) is not None
    twice = read("bug.yml")
    twice["body"].append(twice["body"][1])
    assert fault(twice) == "two inputs have one id"


def test_contributing_says_the_same() -> None:
    """The labels, ready, done, and what flags are for."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")

    assert re.findall(r"^- \[ \] (.+)$", text, re.MULTILINE) == READY + DONE
    assert re.findall(r"^\| (S-\d) \| (.+) \|$", text, re.MULTILINE) == [(name, LABELS[name][0]) for name in LABELS]
    assert "(docs/feature-flags.md)" in text


def test_a_pull_request_asks_for_what_done_means() -> None:
    """In its own words."""
    text = (GITHUB / "pull_request_template.md").read_text(encoding="utf-8")

    boxes = re.findall(r"^- \[ \] (.+)$", text, re.MULTILINE)
    for word in ("make lint", "make test", "VERSION", "CHANGELOG.md", "ADR", "docs/feature-flags.md"):
        assert any(word in box for box in boxes), word


def run_with_gh(script: str, folder: Path, answer: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a script with a `gh` that notes its arguments."""
    gh = folder / "gh"
    gh.write_text(f'#!/usr/bin/env bash\nprintf "%s\\n" "$*" >>"{folder}/calls"\n{answer}')
    gh.chmod(0o755)
    environment = {"PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"} | variables
    return subprocess.run([GITHUB / script], env=environment, capture_output=True, text=True, check=False)


def test_the_labels_are_made(tmp_path: Path) -> None:
    """Each with its words and its colour; a second time changes nothing and fails nothing."""
    done = run_with_gh("labels.sh", tmp_path)

    assert done.returncode == 0
    assert (tmp_path / "calls").read_text(encoding="utf-8").splitlines() == [
        f"label create {name} --description {says} --color {color} --force" for name, (says, color) in LABELS.items()
    ]


def test_a_label_that_is_refused_is_a_failure(tmp_path: Path) -> None:
    """The first one stops it."""
    assert run_with_gh("labels.sh", tmp_path, "exit 4\n").returncode == 4
    assert len((tmp_path / "calls").read_text(encoding="utf-8").splitlines()) == 1


@pytest.mark.parametrize("script", ["labels.sh", "release.sh"])
def test_without_gh_it_says_where_to_get_it(script: str, tmp_path: Path) -> None:
    """And how to sign in."""
    for name in ("bash", "env", "dirname"):
        (tmp_path / name).symlink_to(f"/usr/bin/{name}")
    environment = {"PATH": str(tmp_path)}
    done = subprocess.run([GITHUB / script], env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "gh is not installed" in done.stderr
    assert "gh auth login" in done.stderr


def test_owners_own_what_is_there() -> None:
    """A path that was moved owns nothing, and nobody is asked."""
    lines = (GITHUB / "CODEOWNERS").read_text(encoding="utf-8").splitlines()
    rules = [line.split() for line in lines if line and not line.startswith("#")]

    assert rules[0][0] == "*"
    assert all((ROOT / path.strip("/")).exists() for path, *_ in rules[1:])
    assert all(owner.startswith("@") for _, *owners in rules for owner in owners)
