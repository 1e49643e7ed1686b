"""Who may use the engine: any number of jobs together, or one job alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio


class Turns:
    """Keeps apart what may kill the engine and what must not die with it.

    Whoever wants to be alone waits for those who are there, while newcomers wait behind him.
    """

    def __init__(self) -> None:
        self._together = 0
        self._wanting_alone = 0
        self._alone = False
        self._changed = anyio.Event()

    @property
    def is_open(self) -> bool:
        """Whether a job that shares the engine may start at once."""
        return self._wanting_alone == 0

    async def opened(self) -> None:
        """Wait until it is open."""
        await self._until(lambda: self.is_open)

    @asynccontextmanager
    async def together(self) -> AsyncIterator[None]:
        """Share the engine with others who do the same."""
        if not self.is_open:
            await self.opened()
        self._together += 1
        try:
            yield
        finally:
            self._together -= 1
            if self._wanting_alone:
                self._notify()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Have the engine for oneself."""
        self._wanting_alone += 1
        try:
            await self._until(lambda: self._together == 0 and not self._alone)
            self._alone = True
            try:
                yield
            finally:
                self._alone = False
        finally:
            self._wanting_alone -= 1
            self._notify()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
