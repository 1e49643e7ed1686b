"""The digest of what an image is made of: it changes when the image would, and with nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.ami_world import ROOT, build_archive

COPIED = ("ami", "supervisord", "worker", "router_lambda", ".ci", "terraform/image")


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Return a copy of what is packed, and of what packs it."""
    copy = tmp_path / "repository"
    for folder in COPIED:
        shutil.copytree(
            ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__", "node_modules", ".terraform")
        )
    for name in ("pyproject.toml", "requirements.lock", "VERSION", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy / name)
    return copy


def digest(repository: Path) -> str:
    """Pack, and return the digest."""
    command = [sys.executable, str(repository / ".ci" / "image_package.py")]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return (repository / "dist" / "tl-fif-node.sources").read_text(encoding="utf-8").strip()


def test_it_lies_beside_the_archive(tmp_path: Path) -> None:
    """As Terraform and `make bake` look for it."""
    archive = build_archive(tmp_path)
    assert re.fullmatch(r"[0-9a-f]{64}\n", (tmp_path / "tl-fif-node.sources").read_text(encoding="utf-8"))
    assert archive.name.removesuffix(".tar.gz") == "tl-fif-node"


@pytest.mark.parametrize(
    "name",
    [
        "ami/pins.env",
        "ami/requirements.lock",
        "ami/components/node.yaml",
        "ami/provision/clean.sh",
        "supervisord/supervisord.conf",
        "worker/daemon.py",
        "router_lambda/job.py",
        "terraform/image/recipe.tf",
    ],
)
def test_another_image_has_another_one(repository: Path, name: str) -> None:
    """Whatever runs on the node, says how it gets there, or is pinned."""
    before = digest(repository)
    with (repository / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert digest(repository) != before


def test_a_new_file_and_a_mode_count(repository: Path) -> None:
    """A file that is only named otherwise, or cannot be run any more, is another one."""
    first = digest(repository)
    (repository / "worker" / "settings.py").rename(repository / "worker" / "options.py")
    second = digest(repository)
    (repository / "ami" / "provision" / "clean.sh").chmod(0o644)
    assert len({first, second, digest(repository)}) == 3


@pytest.mark.parametrize(
    "name",
    [
        "VERSION",
        "README.md",
        "ami/README.md",
        "LICENSE",
        "pyproject.toml",
        "requirements.lock",
        "router_lambda/infer.py",
        "terraform/image/roles.tf",
    ],
)
def test_the_same_image_has_the_same_one(repository: Path, name: str) -> None:
    """A bake costs money: a release, a page, a lock of other places or another part of the system is no reason."""
    before = digest(repository)
    with (repository / name).open("a", encoding="utf-8") as file:
        file.write("\n")
    assert digest(repository) == before


def test_nothing_on_the_node_reads_what_is_left_out() -> None:
    """But the version, which the proof's record carries."""
    readers = [*(ROOT / "ami").rglob("*.sh"), *(ROOT / "ami").rglob("*.py"), *(ROOT / "worker").rglob("*.py")]
    readers += (ROOT / "supervisord").rglob("*")
    text = "\n".join(path.read_text(encoding="utf-8") for path in readers if path.is_file() and path.suffix != ".md")
    code = re.sub(r"^\s*[#;].*$", "", text, flags=re.MULTILINE)
    assert re.findall(r"pyproject|(?<!ami/)requirements\.lock|LICENSE", code) == []
