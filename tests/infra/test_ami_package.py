"""The archive that the image is made from: the same bytes each time, nothing but what belongs there, and it works."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.infra.ami_world import ROOT, Node, build_archive


def members(archive: Path) -> dict[str, tarfile.TarInfo]:
    """Read what is in it."""
    with tarfile.open(archive) as opened:
        return {member.name: member for member in opened.getmembers()}


def test_the_same_sources_give_the_same_bytes(node_archive: Path, tmp_path: Path) -> None:
    """Whoever builds it, and whenever; files of an interpreter beside them make no difference."""
    junk = ROOT / "ami" / "__pycache__" / "junk.pyc"
    junk.parent.mkdir(exist_ok=True)
    junk.touch()
    old = os.umask(0o077)
    try:
        again = build_archive(tmp_path)
    finally:
        os.umask(old)
        junk.unlink()

    assert again.read_bytes() == node_archive.read_bytes()


def test_a_moment_may_be_given(tmp_path: Path, node_archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the way that others do it, too."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1000000000")
    archive = build_archive(tmp_path)

    assert {member.mtime for member in members(archive).values()} == {1_000_000_000}
    assert archive.read_bytes() != node_archive.read_bytes()


def test_it_holds_what_the_node_runs_and_nothing_else(node_archive: Path) -> None:
    """Of the router the one module that the worker reads."""
    files = {name for name, member in members(node_archive).items() if member.isfile()}
    folders = ("worker", "ami", "supervisord")
    wanted = {"router_lambda/__init__.py", "router_lambda/job.py"}
    wanted |= {"pyproject.toml", "requirements.lock", "VERSION", "README.md", "LICENSE"}
    for folder in folders:
        found = (path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts)
        wanted |= {path.relative_to(ROOT).as_posix() for path in found}

    assert files == wanted


def test_what_is_run_can_be_run_and_root_s_alone(node_archive: Path) -> None:
    """Modes and owners are those of the image, whatever they are here."""
    for name, member in members(node_archive).items():
        runs = member.isdir() or (name.endswith(".sh") and name != "ami/provision/lib.sh")
        assert member.mode == (0o755 if runs else 0o644), name
        assert (member.uid, member.gid, member.uname, member.gname) == (0, 0, "", "")
        assert member.isfile() or member.isdir()


@pytest.mark.parametrize(
    "words", [["-c", "import worker.__main__, worker.settings, worker.daemon"], ["-m", "ami.proof", "--help"]]
)
def test_it_works_by_itself(node: Node, words: list[str]) -> None:
    """From its folder, without the rest of this repository."""
    done = subprocess.run(
        [sys.executable, *words],
        cwd=node.home,
        env={**os.environ, "PYTHONPATH": str(node.home)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_worker_wants_nothing_that_is_left_out(node: Node) -> None:
    """Each module of it is imported from there."""
    source = (
        "import importlib, pathlib, sys, worker\n"
        "names = {path.stem for path in pathlib.Path('worker').glob('*.py')} - {'__main__', 'vllm_engine'}\n"
        "modules = [importlib.import_module(f'worker.{name}') for name in names]\n"
        "import router_lambda.job\n"
        "print(*{str(pathlib.Path(m.__file__).parents[1]) for m in [*modules, router_lambda.job]})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(node.home)}
    done = subprocess.run(
        [sys.executable, "-c", source], cwd=node.home, env=environment, capture_output=True, text=True, check=False
    )

    assert done.stdout.strip() == str(node.home), done.stderr
