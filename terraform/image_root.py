"""Runs Terraform in terraform/image: with the state where it is by default, or in a bucket that machines share."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

FOLDER: Final = Path(__file__).with_name("image")
OVERRIDE: Final = "backend_override.tf"
"""By this name, Terraform takes it for what says where the state is, whatever the other files say."""

STATE_KEY: Final = "image.tfstate"
_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_LOCK_WAIT: Final = "-lock-timeout=10m"  # as long as another apply may take

_BACKEND: Final = """\
# Written by `python -m terraform.build_image`, which removes it again.
terraform {{
  backend "s3" {{
    bucket       = "{bucket}"
    key          = "{key}"
    region       = "{region}"
    encrypt      = true
    use_lockfile = true
  }}
}}
"""


class Signals:
    """Whether somebody has asked to stop: by SIGTERM or SIGINT, which a program that runs meanwhile is told, too."""

    def __init__(self) -> None:
        self.asked = False
        self._child: subprocess.Popen[bytes] | None = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Take the signals instead of being ended by them."""
        before = {each: signal.signal(each, self._take) for each in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for each, handler in before.items():
                signal.signal(each, handler)

    def run(self, command: list[str], environment: Mapping[str, str]) -> int:
        """Run a program to its end and return its exit status; asked to stop, it gets a SIGINT and the time it needs.

        In a process group of its own: from a terminal, or a service manager, a signal would reach it once more, and
        Terraform leaves its state locked at the second one.

        Raises:
            FileNotFoundError: there is no such program.
        """
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, env=environment, process_group=0)
        try:
            return self._child.wait()
        finally:
            self._child = None

    def _take(self, _number: int, _frame: FrameType | None) -> None:
        self.asked = True
        if self._child is not None:
            self._child.send_signal(signal.SIGINT)


class TerraformFailed(Exception):
    """Terraform is missing, or ended with an error, which it has printed."""


@contextmanager
def state_in(bucket: str | None, region: str, folder: Path = FOLDER) -> Iterator[dict[str, str]]:
    """Say where the state is, for as long as it lasts; yield what Terraform needs in its environment.

    Without a bucket, nothing is said: the state is in the folder, or where a `backend.tf` of the owner's has it. With
    one, what Terraform notes beside the state goes, too, so that the folder is as it was.

    Raises:
        TerraformFailed: that is no bucket's name.
    """
    if not bucket:
        yield {}
        return
    if not _BUCKET.fullmatch(bucket):
        raise TerraformFailed(f"{bucket} is no name of a bucket; set TLFIF_STATE_BUCKET to what holds the state")
    override = folder / OVERRIDE
    with tempfile.TemporaryDirectory(prefix="tl-fif-terraform-") as notes:
        override.write_text(_BACKEND.format(bucket=bucket, key=STATE_KEY, region=region), encoding="utf-8")
        try:
            yield {"TF_DATA_DIR": notes}
        finally:
            override.unlink(missing_ok=True)


def apply(
    variables: Mapping[str, str],
    environment: Mapping[str, str],
    run: Callable[[list[str], Mapping[str, str]], int],
    folder: Path = FOLDER,
) -> None:
    """Make AWS as terraform/image says, without a question.

    Raises:
        TerraformFailed: as it says.
    """
    here = [f"-chdir={folder}"]
    quiet = ["-input=false", "-no-color"]
    values = [f"-var={name}={value}" for name, value in variables.items()]
    for what, options in (("init", quiet), ("apply", [*quiet, "-auto-approve", _LOCK_WAIT, *values])):
        try:
            status = run(["terraform", *here, what, *options], {**os.environ, **environment})
        except FileNotFoundError as error:
            raise TerraformFailed(
                "there is no terraform on the PATH; install Terraform 1.11 (on Amazon Linux: .ci/install_terraform)"
            ) from error
        if status:
            raise TerraformFailed(
                f"terraform {what} in terraform/image ended with status {status}; what it said stands above."
                " Nothing is baked; mend it and run this again"
            )
