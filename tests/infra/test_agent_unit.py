"""How the CloudWatch agent is installed, started and stopped on the node: after the worker, and never in its way."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.infra.agent_world import FOLDER, REPOSITORY

UNIT = """\
[Unit]
Description=Amazon CloudWatch Agent
After=network.target

[Service]
Type=simple
ExecStart=/usr/bin/true
KillMode=process
Restart=on-failure
RestartSec=60s

[Install]
WantedBy=multi-user.target
"""
"""The package's own, as far as the drop-in depends on it."""

DROP_IN = (FOLDER / "agent.conf").read_text(encoding="utf-8")


def number(name: str, text: str) -> int:
    """Return a number that is set by its name."""
    found = re.search(rf"^{name}=(\d+)$", text, re.MULTILINE)
    assert found is not None, name
    return int(found[1])


# The installation


def test_it_is_installed_twice_like_once(tmp_path: Path) -> None:
    """Into a scratch root, where commands are told instead of run."""
    environment = {"PATH": os.environ["PATH"], "TLFIF_ROOT": str(tmp_path), "TLFIF_DRY_RUN": "1"}
    seen = []
    for _ in range(2):
        done = subprocess.run(
            [FOLDER / "install.sh"], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == 0, done.stderr
        files = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if path.is_file()}
        seen.append({name: (path.read_bytes(), path.stat().st_ino) for name, path in files.items()})
    assert seen[0] == seen[1]
    assert set(seen[0]) == {
        "etc/amazon/ssm/amazon-ssm-agent.json",
        "etc/logrotate.d/nginx",
        "etc/logrotate.d/tl-fif",
        "etc/systemd/system/amazon-cloudwatch-agent.service.d/tl-fif.conf",
        "etc/tmpfiles.d/tl-fif-access-log.conf",
    }
    for unit in ("amazon-cloudwatch-agent", "amazon-ssm-agent"):
        assert f"systemctl enable {unit}.service" in done.stdout


def test_the_ssm_agent_goes_by_ipv6() -> None:
    """The node has no other way out; without SSM there is no shell on it."""
    settings = json.loads((REPOSITORY / "ami" / "amazon-ssm-agent.json").read_text(encoding="utf-8"))
    assert settings == {"Agent": {"UseDualStackEndpoint": True}}


# The start


def verdict(folder: Path, drop_in: str) -> str:
    """Return what systemd says about the package's unit with a drop-in."""
    if not shutil.which("systemd-analyze"):
        pytest.skip("systemd-analyze is not installed; it comes with systemd")
    path = folder / "amazon-cloudwatch-agent.service"
    path.write_text(UNIT, encoding="utf-8")
    beside = folder / f"{path.name}.d"
    beside.mkdir(exist_ok=True)
    (beside / "tl-fif.conf").write_text(drop_in.replace("/opt/tl-fif", str(REPOSITORY)), encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(path)]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    # It also talks about units of this machine.
    return "".join(line for line in done.stdout.splitlines() if "cloudwatch" in line)


def test_systemd_accepts_the_drop_in(tmp_path: Path) -> None:
    """Every setting and both commands."""
    assert verdict(tmp_path, DROP_IN) == ""


@pytest.mark.parametrize(
    ("right", "wrong"), [("RestartSec=", "RestartSeconds="), ("render.sh", "renders.sh"), ("=tmpfs", "=tmpfile")]
)
def test_systemd_would_refuse(tmp_path: Path, right: str, wrong: str) -> None:
    """The check can fail."""
    assert verdict(tmp_path, DROP_IN.replace(right, wrong)) != ""


def test_it_starts_only_where_there_are_settings() -> None:
    """In an image under test there are none; at the very first boot cloud-init comes first."""
    assert "\nConditionPathExists=/etc/tl-fif/worker.env\n" in DROP_IN
    assert "\nAfter=cloud-init.service cloud-init-network.service\n" in DROP_IN


def test_nothing_waits_for_it() -> None:
    """Neither does it come before anything, nor does a unit of ours name it."""
    assert not re.search(r"^(Before|RequiredBy|WantedBy|BindsTo|PartOf)=", DROP_IN, re.MULTILINE)
    for path in [*(REPOSITORY / "supervisord").iterdir(), *(REPOSITORY / "ami" / "nginx").rglob("*")]:
        if path.suffix in {".service", ".timer", ".path", ".conf"}:
            assert "amazon-cloudwatch-agent" not in path.read_text(encoding="utf-8"), path.name


# The stop


def test_it_waits_longer_than_the_worker_takes() -> None:
    """And is not killed meanwhile."""
    longest = number("LONGEST_SECONDS", (FOLDER / "linger.sh").read_text(encoding="utf-8"))
    unit = (REPOSITORY / "supervisord" / "tl-fif-supervisord.service").read_text(encoding="utf-8")
    assert longest > number("TimeoutStopSec", unit)
    assert number("TimeoutStopSec", DROP_IN) > longest + 10


def linger(folder: Path, system: str, *states: str) -> tuple[float, int]:
    """Run linger.sh where systemd says so of the machine, and of the worker so at each look, the last one for good.

    Return how long that took, and how often it looked.
    """
    looks = folder / "looks"
    looks.write_text("", encoding="utf-8")
    (folder / "states").write_text("\n".join(states) + "\n", encoding="utf-8")
    stub = folder / "systemctl"
    stub.write_text(
        f"""#!/usr/bin/env bash
        if [[ $1 == is-system-running ]]; then echo {system}; exit 1; fi
        echo look >>{looks}
        line=$(wc -l <{looks})
        sed -n "${{line}}p" {folder}/states | grep . || tail -n 1 {folder}/states
        echo inactive
        """,
        encoding="utf-8",
    )
    stub.chmod(0o755)
    began = time.monotonic()
    environment = {"PATH": f"{folder}:{os.environ['PATH']}"}
    done = subprocess.run([FOLDER / "linger.sh"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return time.monotonic() - began, len(looks.read_text(encoding="utf-8").splitlines())


def test_it_outlives_the_worker_when_the_machine_goes_down(tmp_path: Path) -> None:
    """A worker that still writes its replies is `deactivating`."""
    seconds, looks = linger(tmp_path, "stopping", "active", "deactivating", "deactivating", "inactive")
    assert looks == 4
    assert seconds > 3 * 0.5 + 2


def test_it_does_not_linger_on_a_machine_that_runs(tmp_path: Path) -> None:
    """Whoever starts it anew by hand does not wait."""
    seconds, looks = linger(tmp_path, "running", "active")
    assert (seconds < 1, looks) == (True, 0)
