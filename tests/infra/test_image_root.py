"""Terraform as `make bake` runs it: the state in a bucket, no trace left here, and a signal that it can live with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from local.run_directory import RunDirectory
from terraform.image_root import OVERRIDE, STATE_KEY, Signals, TerraformFailed, apply, state_in
from tests.infra.emulated_aws import EmulatedAws
from tests.infra.terraform_world import REGION, REPOSITORY, Workspace, program

BUCKET = "tl-fif-state-of-a-test"


MAIN = """
variable "archive" {
  type = string
}

resource "terraform_data" "it" {
  input = var.archive
}
"""


class Root:
    """A small root, which needs no provider, before an emulated AWS with a bucket for its state.

    Attributes:
        folder: where it is.
        archive: the variable that it has in common with the real one, which is applied elsewhere.
        commands: each command of Terraform that was run.
    """

    def __init__(self, workspace: Workspace, aws: EmulatedAws) -> None:
        self.folder = workspace.folder / "small"
        self.folder.mkdir()
        (self.folder / "main.tf").write_text(MAIN)
        self.aws = aws
        self.archive = "one"
        self.commands: list[list[str]] = []
        self._environment = workspace._environment()

    def apply(self, bucket: str | None = BUCKET) -> None:
        """Apply as the tool does."""
        with state_in(bucket, REGION, self.folder) as environment:
            apply({"archive": self.archive}, environment, self._run, self.folder)

    def state(self) -> dict[str, Any]:
        """Return what is in the bucket."""
        stored = self.aws.client("s3").get_object(Bucket=BUCKET, Key=STATE_KEY)
        return dict(json.load(stored["Body"]))

    def tree(self) -> set[str]:
        """Return what is in the folder."""
        return {path.name for path in self.folder.iterdir()}

    def _run(self, command: list[str], environment: Mapping[str, str]) -> int:
        self.commands.append(command)
        notes = {name: value for name, value in environment.items() if name == "TF_DATA_DIR"}
        done = subprocess.run(
            [program(), *command[1:]], env=self._environment | notes, capture_output=True, check=False
        )
        return done.returncode


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """Yield a root that nothing was applied in."""
    program()
    with RunDirectory("tl-fif-test-bake-") as directory:
        aws = EmulatedAws(directory.path)
        aws.start()
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})
        yield Root(Workspace(tmp_path_factory.mktemp("bake"), aws), aws)
        aws.stop()


def test_the_state_is_in_the_bucket_and_nothing_stays_here(root: Root) -> None:
    """So that the next machine goes on from it: the second apply, of another archive, changes what the first made."""
    before = root.tree()
    root.apply()
    first = root.state()
    assert root.tree() - before <= {".terraform.lock.hcl"}
    root.archive = "another"
    root.apply()
    second = root.state()
    assert second["lineage"] == first["lineage"]
    assert [archive(state) for state in (first, second)] == ["one", "another"]
    assert [command[2] for command in root.commands] == ["init", "apply"] * 2
    assert all("-input=false" in command for command in root.commands)


def archive(state: dict[str, Any]) -> str:
    """Return what was applied."""
    (found,) = state["resources"]
    return str(found["instances"][0]["attributes"]["input"]["value"])


def test_a_state_that_somebody_holds_is_not_touched(root: Root) -> None:
    """Terraform waits for the lock, for ten minutes; here for none."""
    options = [each for command in root.commands for each in command if each.startswith("-lock-timeout")]
    assert set(options) == {"-lock-timeout=10m"}
    lock = f"{STATE_KEY}.tflock"
    root.aws.client("s3").put_object(Bucket=BUCKET, Key=lock, Body=b'{"ID":"somebody","Operation":"apply"}')
    try:
        with state_in(BUCKET, REGION, root.folder) as environment, pytest.raises(TerraformFailed, match="status 1"):
            apply({"archive": root.archive}, environment, lambda c, e: root._run(hurried(c), e), root.folder)
    finally:
        root.aws.client("s3").delete_object(Bucket=BUCKET, Key=lock)
    assert OVERRIDE not in root.tree()


def hurried(command: list[str]) -> list[str]:
    """Return a command that waits for no lock."""
    return ["-lock-timeout=0s" if each.startswith("-lock-timeout") else each for each in command]


# Without AWS


def test_without_a_bucket_nothing_is_said_of_the_state(tmp_path: Path) -> None:
    """It is where the folder has it, or an owner's own file says."""
    with state_in(None, REGION, tmp_path) as environment:
        assert (environment, list(tmp_path.iterdir())) == ({}, [])


def test_the_file_goes_whatever_happens(tmp_path: Path) -> None:
    """One that a killed run has left is replaced, and goes, too."""
    (tmp_path / OVERRIDE).write_text("left behind")
    places: list[Path] = []

    def work() -> None:
        with state_in(BUCKET, REGION, tmp_path) as environment:
            assert f'bucket       = "{BUCKET}"' in (tmp_path / OVERRIDE).read_text()
            places.append(Path(environment["TF_DATA_DIR"]))
            assert places[0].is_dir()
            raise KeyError

    with pytest.raises(KeyError):
        work()
    assert list(tmp_path.iterdir()) == []
    assert not places[0].exists()


def test_the_file_is_not_for_the_repository() -> None:
    """Git does not see it."""
    done = subprocess.run(
        ["git", "check-ignore", f"terraform/image/{OVERRIDE}"],  # noqa: S607
        cwd=REPOSITORY,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0


@pytest.mark.parametrize("name", ['a"\n}', "A-Bucket", "-bucket", "ab"])
def test_a_bucket_is_a_name(name: str, tmp_path: Path) -> None:
    """And nothing that Terraform would read as more."""
    with pytest.raises(TerraformFailed, match="TLFIF_STATE_BUCKET"), state_in(name, REGION, tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_terraform_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what brings it."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(TerraformFailed, match=r"\.ci/install_terraform"):
        apply({}, {}, Signals().run)


@pytest.mark.parametrize(("what", "ran"), [("init", 1), ("apply", 2)])
def test_a_step_that_fails_is_named(what: str, ran: int) -> None:
    """And nothing comes after it."""
    commands: list[list[str]] = []

    def run(command: list[str], _environment: Mapping[str, str]) -> int:
        commands.append(command)
        return 3 if what in command else 0

    with pytest.raises(TerraformFailed, match=rf"terraform {what} .* status 3"):
        apply({"name": "tl-fif"}, {}, run)
    assert len(commands) == ran


# Signals

SLOW = """
    import signal, sys, time
    interrupted = []
    signal.signal(signal.SIGINT, lambda *_: interrupted.append(1))
    print("ready", flush=True)
    while not interrupted:
        time.sleep(0.02)
    time.sleep(0.3)  # it puts its state away
    sys.exit(10 + len(interrupted))
"""


def test_a_program_gets_one_signal_and_its_time() -> None:
    """A SIGTERM to the whole group, as a service manager sends it, reaches it once, as SIGINT; it ends by itself."""
    tool = f"""
        import sys
        sys.path.insert(0, {str(REPOSITORY)!r})
        from terraform.image_root import Signals
        stop = Signals()
        with stop.listening():
            status = stop.run([sys.executable, "-c", {textwrap.dedent(SLOW)!r}], {{}})
        print(status, stop.asked, flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(tool)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as process:
        assert process.stdout is not None
        killer = threading.Timer(60, process.kill)
        killer.start()
        assert process.stdout.readline() == "ready\n"
        os.killpg(process.pid, signal.SIGTERM)
        said = process.stdout.read()
        killer.cancel()
    assert said == "11 True\n"
