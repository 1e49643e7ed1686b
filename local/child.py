"""Starts child processes that can never outlive the process that started them."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from worker.parent_death import die_with

STOP_SECONDS: Final = 10.0
"""How long a child may take to end after SIGTERM before it gets SIGKILL."""


def spawn(
    command: Sequence[str], *, log: Path, folder: Path, environment: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` in `folder` with both outputs appended to `log`; it dies with this process.

    It gets a session of its own, so that Ctrl-C in a terminal reaches this process alone.

    Raises:
        OSError: the program is missing or cannot be executed.
    """
    with log.open("ab") as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            env=environment,
            start_new_session=True,
            preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
        )


def stop(child: subprocess.Popen[bytes]) -> None:
    """End `child` by SIGTERM, after `STOP_SECONDS` by SIGKILL, and reap it."""
    child.terminate()
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def tail(log: Path, lines: int = 20) -> str:
    """Return the last `lines` lines of a log, for an error message; empty when there is no log."""
    if not log.exists():
        return ""
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:])
