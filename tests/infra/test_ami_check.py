"""The last look at the image, in a scratch root: an image that is right passes, and each planted fault is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.infra.ami_world import Hub, Node

SYSTEM = "etc/systemd/system"


@pytest.fixture
def image(node: Node, tmp_path: Path) -> Node:
    """Return a node that is ready, with a model of a few bytes."""
    for step in ("system", "services"):
        node.step(step)
    hub = Hub(tmp_path / "hub")
    (hub.files / "model.safetensors").write_bytes(b"weights")
    hub.pin(node, "model.safetensors")
    node.model(hub.folder.as_uri())
    return node


def wrong(node: Node) -> str:
    """Return what is wrong with it."""
    done = node.step("check")
    found = [line.removeprefix("check.sh: WRONG: ") for line in done.stdout.splitlines() if "WRONG" in line]
    assert done.returncode == bool(found), done.stdout
    return "\n".join(found)


def write(path: Path, text: str) -> None:
    """Write a file where there may be no folder yet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def test_an_image_that_is_right_passes(image: Node) -> None:
    """And what only a machine can look at is printed."""
    done = image.step("check")

    assert done.returncode == 0, done.stdout
    for command in ("systemd-analyze verify", "systemctl start nginx.service"):
        assert f"would run: {command}" in done.stdout
    assert "check.sh: disk: " in done.stdout


FAULTS: dict[str, tuple[Callable[[Node], object], str]] = {
    "other weights": (lambda node: write(node.home / "model/model.safetensors", "other"), "the model is not what"),
    "weights of another pin": (lambda node: node.repin(MODEL_SAFETENSORS_SHA256="0" * 64), "not those of ami/pins.env"),
    "a unit changed by hand": (
        lambda node: write(node.root / SYSTEM / "tl-fif-halt.path", ""),
        "tl-fif-halt.path is not this project's",
    ),
    "a unit that does not start": (
        lambda node: (node.root / SYSTEM / "multi-user.target.wants/tl-fif-supervisord.service").unlink(),
        "tl-fif-supervisord.service is not enabled",
    ),
    "sshd": (lambda node: (node.root / SYSTEM / "sshd.service").unlink(), "sshd.service is not masked"),
    "settings": (lambda node: write(node.root / "etc/tl-fif/worker.env", "X=1"), "must not be in an image"),
    "a host key": (lambda node: write(node.root / "etc/ssh/ssh_host_rsa_key", "x"), "must not be in an image"),
    "somebody's key": (lambda node: write(node.root / "home/ann/.ssh/authorized_keys", "x"), "must not be in an image"),
    "AWS's key": (lambda node: write(node.home / "x.txt", "AKIA" + "A" * 16), "there is a secret"),
    "a private key": (
        lambda node: write(node.root / "etc/tl-fif/x.pem", "-----BEGIN RSA PRIVATE" + " KEY-----\n"),
        "there is a secret",
    ),
    "a full disk": (lambda node: node.repin(MAX_DISK_GIB="0"), "are paid for"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named(image: Node, fault: str) -> None:
    """Each by itself."""
    plant, said = FAULTS[fault]
    plant(image)

    assert said in wrong(image)


def test_all_faults_are_named_at_once(image: Node) -> None:
    """A build takes long enough."""
    for fault in ("sshd", "settings", "other weights"):
        FAULTS[fault][0](image)

    assert len(wrong(image).splitlines()) >= 3
