"""What makes a machine of the pipeline ready: Terraform, out of a repository with the right key."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.terraform_world import REPOSITORY

SCRIPT = REPOSITORY / ".ci" / "install_terraform"


def test_the_script_is_sound() -> None:
    """By shellcheck; it stops at the first failure, and can be run."""
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, SCRIPT], stdout=subprocess.PIPE, text=True, check=False)
    assert done.stdout == ""
    assert "\nset -euo pipefail\n" in SCRIPT.read_text(encoding="utf-8")
    assert SCRIPT.stat().st_mode & 0o111 == 0o111


RIGHT = "798AEC654E5C15428C8E42EEAA16FCBCA621E701"
STUBS = {
    "curl": '[ -z "$NO_NETWORK" ] || exit 22\nwhile [ "$1" != --output ]; do shift; done\necho a key >"$2"',
    "gpg": 'for each in $KEYS; do printf "pub:-:\\nfpr:::::::::$each:\\nsub:-:\\nfpr:::::::::OTHER:\\n"; done',
    "rpm": 'echo "rpm $*" >>"$CALLS"',
    "dnf": 'echo "dnf $*" >>"$CALLS"\n[ -z "$NO_PACKAGE" ]',
    "terraform": "echo Terraform v1.11.4",
}


def install(folder: Path, **settings: str) -> tuple[subprocess.CompletedProcess[str], list[str], str]:
    """Run the script with stubs in place of the system's programs; return how it went, its calls, the repository."""
    stubs = folder / "stubs"
    stubs.mkdir()
    for name, does in STUBS.items():
        (stubs / name).write_text(f"#!/bin/sh\n{does}\n")
        (stubs / name).chmod(0o755)
    repositories = folder / "etc" / "yum.repos.d"
    repositories.mkdir(parents=True)
    environment = {
        "PATH": f"{stubs}:{os.environ['PATH']}",
        "TLFIF_ROOT": str(folder),
        "TMPDIR": str(folder),
        "CALLS": str(folder / "calls"),
        "KEYS": RIGHT,
        "NO_NETWORK": "",
        "NO_PACKAGE": "",
    }
    done = subprocess.run([SCRIPT], env=environment | settings, capture_output=True, text=True, check=False)
    calls = (folder / "calls").read_text().splitlines() if (folder / "calls").exists() else []
    repository = repositories / "hashicorp.repo"
    return done, calls, repository.read_text() if repository.exists() else ""


def test_terraform_comes_out_of_a_signed_repository(tmp_path: Path) -> None:
    """The version is pinned, packages are checked, and nothing stays in the folder for what passes."""
    done, calls, repository = install(tmp_path)
    assert done.returncode == 0, done.stderr
    assert calls[0].startswith("rpm --import ")
    assert calls[1].endswith(" terraform-1.11.4-1")
    assert "gpgcheck=1" in repository
    assert "/AmazonLinux/latest/$basearch/stable" in repository
    assert not list(tmp_path.glob("tmp.*"))


def test_the_version_is_one_that_the_roots_take() -> None:
    """At least what they ask for."""
    text = (REPOSITORY / "terraform" / "image" / "versions.tf").read_text(encoding="utf-8")
    assert 'required_version = ">= 1.11"' in text
    assert "version=1.11.4\n" in SCRIPT.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "keys",
    [
        pytest.param("0123456789ABCDEF0123456789ABCDEF01234567", id="another key"),
        pytest.param(f"{RIGHT} 0123456789ABCDEF0123456789ABCDEF01234567", id="another key besides"),
        pytest.param("", id="no key"),
    ],
)
def test_another_key_is_not_trusted(keys: str, tmp_path: Path) -> None:
    """Nothing is imported and nothing installed."""
    done, calls, repository = install(tmp_path, KEYS=keys)
    assert done.returncode == 1
    assert f"and not {RIGHT}" in done.stderr
    assert (calls, repository) == ([], "")


@pytest.mark.parametrize(
    ("trouble", "said"), [("NO_NETWORK", "cannot be fetched"), ("NO_PACKAGE", "no Terraform 1.11.4")]
)
def test_what_is_not_there_is_named(trouble: str, said: str, tmp_path: Path) -> None:
    """And the stage fails."""
    done, _, _ = install(tmp_path, **{trouble: "1"})
    assert done.returncode == 1
    assert said in done.stderr
