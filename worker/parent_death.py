"""Ties a child process to the life of its parent, so that not even kill -9 leaves an orphan."""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Callable
from typing import Final

_PR_SET_PDEATHSIG: Final = 1
# Looked up once, at import: right after a fork a child must not load libraries.
_libc = ctypes.CDLL(None)


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child calls right after the fork, to get SIGKILL as soon as process `parent` is gone.

    Linux ties the death signal to the *thread* that forked (prctl(2), PR_SET_PDEATHSIG), so children are started from
    the main thread, which ends last.
    """

    def tie() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:  # it died between the fork and the line above
            os._exit(1)

    return tie
