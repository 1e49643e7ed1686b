"""Starts child processes that can never outlive the process that started them."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

STOP_SECONDS: Final = 10.0
"""How long a child may take to end after SIGTERM before it gets SIGKILL."""

_PR_SET_PDEATHSIG: Final = 1
# Looked up once, at import: between fork and exec a child must not load libraries.
_libc = ctypes.CDLL(None)


def die_with(parent: int) -> Callable[[], None]:
    """Return a `preexec_fn` after which the child gets SIGKILL as soon as process `parent` is gone.

    Linux ties the death signal to the *thread* that forked (prctl(2), PR_SET_PDEATHSIG), so children are
    started from the main thread, which ends last.
    """

    def tie() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between our fork and the line above
            os._exit(1)

    return tie


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
