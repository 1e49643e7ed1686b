"""The node's root in a scratch folder, with the archive unpacked where the image has it, and its steps run in it."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
AMI = ROOT / "ami"
HOME = "opt/tl-fif"


def pins(path: Path = AMI / "pins.env") -> dict[str, str]:
    """Read the pins as Terraform does."""
    return dict(re.findall(r"^([A-Z0-9_]+)=(.*)$", path.read_text(encoding="utf-8"), re.MULTILINE))


def build_archive(folder: Path) -> Path:
    """Build the archive as `make image-package` does."""
    command = [sys.executable, str(ROOT / ".ci" / "image_package.py"), "--output", str(folder)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return folder / "tl-fif-node.tar.gz"


class Hub:
    """A folder with files where Hugging Face has them, and the pins for them."""

    REPOSITORY = "somebody/a-model"
    REVISION = "0123abc"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = folder / self.REPOSITORY / "resolve" / self.REVISION
        self.files.mkdir(parents=True)

    def pin(self, node: Node, weights: str, besides: str = "") -> None:
        """Let a node bake this model."""
        kind = "GGUF" if weights.endswith(".gguf") else "SAFETENSORS"
        with (self.files / weights).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        values = {"REPOSITORY": self.REPOSITORY, "REVISION": self.REVISION, "FILE": weights, "SHA256": digest}
        named = {f"MODEL_{kind}_{name}": value for name, value in {**values, "BESIDES": besides}.items()}
        node.repin(MODEL=kind, **named)


class Node:
    """A scratch root; systemctl enables units in it, where there is one."""

    def __init__(self, root: Path, archive: Path) -> None:
        if not shutil.which("systemctl"):
            pytest.skip("systemctl is not here, which enables units; it comes with systemd")
        self.root = root
        self.home = root / HOME
        self.home.mkdir(parents=True)
        subprocess.run(["tar", "-xzf", archive, "-C", self.home, "--no-same-owner"], check=True)  # noqa: S607

    def repin(self, **changed: str) -> None:
        """Change pins, each its one line."""
        path = self.home / "ami" / "pins.env"
        text = path.read_text(encoding="utf-8")
        for name, value in changed.items():
            text, count = re.subn(rf"^{name}=.*$", f"{name}={value}", text, flags=re.MULTILINE)
            assert count == 1, name
        path.write_text(text, encoding="utf-8")

    def step(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a step."""
        return subprocess.run(
            [self.home / "ami" / "provision" / f"{name}.sh", *arguments],
            env={**os.environ, "TLFIF_ROOT": str(self.root), "TLFIF_DRY_RUN": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    def model(self, source: str) -> subprocess.CompletedProcess[str]:
        """Run the step of the model, with the interpreter of the tests."""
        return self.step("model", TLFIF_MODEL_SOURCE=source, TLFIF_PYTHON=sys.executable)

    def tree(self) -> dict[str, object]:
        """Return what is there, by path: mode and contents or target."""
        return dict(self._entries())

    def _entries(self) -> Iterator[tuple[str, object]]:
        for path in sorted(self.root.rglob("*")):
            mode = path.lstat().st_mode
            held: object = None
            if path.is_symlink():
                held = path.readlink()
            elif path.is_file():
                held = path.read_bytes()
            yield str(path.relative_to(self.root)), (mode, held)
