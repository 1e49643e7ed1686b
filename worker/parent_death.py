"""Ties a child process to the life of its parent, so that not even kill -9 leaves an orphan."""

from __future__ import annotations

import ctypes
import gc
import os
import signal
from collections.abc import Callable
from typing import ClassVar, Final

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


class BoundChildren:
    """While entered, whatever is forked dies with this process and hears none of its terminal's signals.

    And it collects its garbage: in this process that is switched off while the engine loads, and the child would keep
    it so.
    """

    _tie: ClassVar[Callable[[], None] | None] = None
    _registered: ClassVar[bool] = False

    def __enter__(self) -> None:
        if not BoundChildren._registered:
            os.register_at_fork(after_in_child=self._in_child)
            BoundChildren._registered = True
        BoundChildren._tie = die_with(os.getpid())

    def __exit__(self, *_: object) -> None:
        BoundChildren._tie = None

    @classmethod
    def _in_child(cls) -> None:
        if cls._tie is not None:
            cls._tie()
            os.setpgid(0, 0)
            gc.enable()
