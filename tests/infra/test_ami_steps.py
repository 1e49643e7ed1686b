"""The steps that make the image, in a scratch root: what is a file is really done, the rest is printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.infra.ami_world import HOME, ROOT, Node, pins

STEPS = ("system", "driver", "python", "services", "clean")
"""In their order. The model and the last look have suites of their own; the proof's is tests/process/test_proof.py."""

UNITS = sorted(path.name for path in (ROOT / "supervisord").glob("tl-fif-*"))
SYSTEM = "etc/systemd/system"


@pytest.fixture
def baked(node: Node) -> Node:
    """Return a node after all these steps."""
    for step in STEPS:
        done = node.step(step)
        assert done.returncode == 0, done.stdout
    return node


@pytest.mark.parametrize("step", STEPS)
def test_a_step_changes_nothing_the_second_time(node: Node, step: str) -> None:
    """It may be tried again after a failure."""
    first = node.step(step)
    tree = node.tree()
    second = node.step(step)

    assert first.returncode == second.returncode == 0, first.stdout
    assert node.tree() == tree
    assert second.stdout == first.stdout


@pytest.mark.parametrize("alone", [{"TLFIF_DRY_RUN": "0"}, {"TLFIF_ROOT": ""}], ids=["root", "dry"])
@pytest.mark.parametrize("step", [*STEPS, "model", "check", "prove"])
def test_half_a_dry_run_is_refused(node: Node, step: str, alone: dict[str, str]) -> None:
    """A scratch root with real commands, or real files without: either would change this machine."""
    before = node.tree()
    done = node.step(step, **alone)

    assert done.returncode == 1
    assert re.search("wants (a TLFIF_ROOT|TLFIF_DRY_RUN=1)", done.stdout)
    assert node.tree() == before


def test_no_other_machine_is_touched(node: Node) -> None:
    """Than one with the node's system; this step would only have looked."""
    if "al2023" in Path("/etc/os-release").read_text():
        pytest.skip("this is Amazon Linux 2023, where steps do what they say")
    done = node.step("check", TLFIF_ROOT="", TLFIF_DRY_RUN="")

    assert done.returncode == 1
    assert "this is no Amazon Linux 2023" in done.stdout


def test_the_packages_are_of_the_pinned_versions(node: Node) -> None:
    """Python by its name, the driver by its branch, all else by hash."""
    wanted = pins()

    assert f" python{wanted['PYTHON_VERSION']}-devel " in node.step("system").stdout
    assert f" nvidia-driver:{wanted['NVIDIA_DRIVER_BRANCH']}-open\n" in node.step("driver").stdout
    installs = [line for line in node.step("python").stdout.splitlines() if " -m pip install " in line]
    assert len(installs) == 2
    assert all(" --no-deps --require-hashes " in line for line in installs)
    assert installs[1].endswith("/ami/requirements.lock")


def test_what_only_a_machine_can_do_is_printed(node: Node) -> None:
    """Nothing of it is left out in silence."""
    said = "".join(node.step(step).stdout for step in STEPS)

    for command in ("dnf", "modinfo", "python3.11", "useradd", "usermod", "chown", "cloud-init", "journalctl"):
        assert re.search(rf"^would run: {re.escape(command)} ", said, re.MULTILINE), command


@pytest.mark.parametrize("name", UNITS)
def test_the_units_are_the_ones_that_are_tested(baked: Node, name: str) -> None:
    """Byte by byte."""
    installed = baked.root / SYSTEM / name

    assert installed.read_bytes() == (ROOT / "supervisord" / name).read_bytes()
    assert installed.stat().st_mode & 0o777 == 0o644


def test_a_unit_that_was_changed_by_hand_is_put_right(baked: Node) -> None:
    """A second run installs what the first one has."""
    installed = baked.root / SYSTEM / UNITS[0]
    installed.write_text("[Service]\n")
    baked.step("services")

    assert installed.read_bytes() == (ROOT / "supervisord" / UNITS[0]).read_bytes()


def test_the_worker_starts_with_the_machine_and_sshd_never(baked: Node) -> None:
    """Enabled by systemctl itself; masked as it does it."""
    wants = {path.name for path in (baked.root / SYSTEM / "multi-user.target.wants").iterdir()}

    assert {"tl-fif-supervisord.service", "tl-fif-halt.path"} <= wants
    assert "tl-fif-worker.service" not in wants
    for unit in ("sshd.service", "sshd.socket"):
        assert (baked.root / SYSTEM / unit).readlink() == Path("/dev/null")


def test_nobody_else_reads_settings_logs_and_caches(baked: Node) -> None:
    """Their folders are for their owner, and to look into for his group."""
    for folder in ("etc/tl-fif", "var/log/tl-fif", "var/cache/tl-fif"):
        assert (baked.root / folder).stat().st_mode & 0o777 == 0o750


def test_the_project_is_found_from_anywhere(baked: Node) -> None:
    """By the virtual environment."""
    (path,) = baked.home.rglob("tl-fif.pth")

    assert path.read_text() == f"/{HOME}\n"
    assert path.parent == baked.home / f".venv/lib/python{pins()['PYTHON_VERSION']}/site-packages"


def test_cleaning_takes_what_is_the_builder_s(node: Node) -> None:
    """Keys, histories, logs and ids; and no file of the image."""
    gone = [
        "etc/tl-fif/worker.env",
        "etc/ssh/ssh_host_ed25519_key",
        "root/.ssh/authorized_keys",
        "root/.cache/pip/x",
        "home/ec2-user/.ssh/authorized_keys",
        "home/ec2-user/.bash_history",
        "var/lib/cloud/instance/user-data.txt",
        "var/log/tl-fif/worker.log",
        "var/cache/dnf/x",
        "var/lib/systemd/random-seed",
    ]
    for name in [*gone, "etc/machine-id", "var/log/messages"]:
        path = node.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("of the builder")
    assert node.step("clean").returncode == 0

    assert [name for name in gone if (node.root / name).exists()] == []
    assert (node.root / "etc/machine-id").read_text() == ""
    assert (node.root / "var/log/messages").read_text() == ""
    assert (node.home / "worker" / "__main__.py").exists()


@pytest.mark.parametrize("records", [(), ("s3://bucket/records",)])
def test_the_proof_is_of_the_node_s_own_unit_twice(node: Node, records: tuple[str, ...]) -> None:
    """The second time from a cold page cache, with limits, and beside the last image's record where there is one."""
    done = node.step("prove", "true", *records)
    runs = [line for line in done.stdout.splitlines() if "-m ami.proof" in line or "drop_caches" in line]

    assert done.returncode == 0
    assert [("--limits" in run, "drop_caches" in run) for run in runs] == [(False, False), (False, True), (True, False)]
    assert all("--unit tl-fif-supervisord.service" in run for run in runs if "ami.proof" in run)
    assert ("--baseline" in runs[-1]) == bool(records)
    assert done.stdout.count("s3 cp") == 2 * len(records)


def test_without_a_gpu_nothing_is_proven_and_that_is_said(node: Node) -> None:
    """Aloud, since the build goes on."""
    done = node.step("prove", "false", "s3://bucket/records")

    assert done.returncode == 0
    assert "NOT PROVEN ON A GPU" in done.stdout
    assert "would run" not in done.stdout
    assert node.step("prove").returncode == 1
