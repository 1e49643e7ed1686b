"""Whether an engine that has work gives signs of life."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from worker.errors import EngineDied

DEFAULT_STALL_SECONDS: Final = 60.0
"""Longer than any prefill on a GPU, while somebody else's tokens count as well."""


class Pulse:
    """Counts the seconds of silence of an engine with work to do.

    Only time that this process has seen passing counts: after it was paused itself, the engine's answers may still
    lie unread in its sockets.
    """

    def __init__(self, stall_seconds: float = DEFAULT_STALL_SECONDS, clock: Callable[[], float] = time.time) -> None:
        """Call an engine hung after so many seconds without a token for anybody; `clock` gives Unix seconds."""
        self.token_at: float | None = None
        """When the last token came, in Unix seconds; `None` before the first one."""
        self._clock = clock
        self._first = anyio.Event()
        self._stall_seconds = stall_seconds
        self.streams = 0
        """Jobs that wait for tokens now."""
        self.silent_seconds = 0.0
        """Since the last token, or since there was work again."""

    @contextmanager
    def working(self) -> Iterator[None]:
        """Expect tokens meanwhile."""
        if self.streams == 0:
            self.silent_seconds = 0.0
        self.streams += 1
        try:
            yield
        finally:
            self.streams -= 1

    def beat(self) -> None:
        """Note that a token came."""
        self.silent_seconds = 0.0
        if self.token_at is None:
            self._first.set()
        self.token_at = self._clock()

    async def first_token(self) -> None:
        """Wait until the engine has brought its first token for a job."""
        await self._first.wait()

    def passed(self, seconds: float) -> None:
        """Note that so much time has passed.

        Raises:
            EngineDied: the engine has been silent for too long.
        """
        if self.streams == 0:
            return
        self.silent_seconds += seconds
        if self.silent_seconds > self._stall_seconds:
            raise EngineDied(f"vLLM brought no token for {self._stall_seconds:g} s while {self.streams} jobs ran")
