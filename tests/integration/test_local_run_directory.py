"""The temporary folder that removes itself."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from local.run_directory import ELSEWHERE, RunDirectory
from tests.process.local_world import REPOSITORY, wait_until


def test_leaving_removes_it(tmp_path: Path) -> None:
    """Folder, content and what it names elsewhere are gone when the block ends."""
    outside, bystander = tmp_path / "out side.sock", tmp_path / "bystander"
    outside.touch()
    bystander.touch()
    with RunDirectory() as directory:
        (directory.path / "deep" / "er").mkdir(parents=True)
        (directory.path / ELSEWHERE).write_text(f"{outside}\n{tmp_path}/never-there\n")
    assert not directory.path.exists()
    assert list(tmp_path.iterdir()) == [bystander]


def test_kill_9_removes_it(tmp_path: Path) -> None:
    """A process that is killed leaves no folder behind."""
    makes = "from local.run_directory import RunDirectory; import os; RunDirectory(); os.kill(os.getpid(), 9)"
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", makes], cwd=REPOSITORY, env=environment, check=False)
    wait_until(lambda: not list(tmp_path.iterdir()), "the folder is gone")
