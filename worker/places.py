"""The places of a worker, which jobs from the queue and requests over HTTP share: who gets the next free one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final, Literal

import anyio

Kind = Literal["job", "request"]

_OTHER: Final[dict[Kind, Kind]] = {"job": "request", "request": "job"}


class _Waiter:
    """Somebody who stands in line."""

    def __init__(self) -> None:
        self.called = anyio.Event()
        self.has_place = False


class Places:
    """At most `limit` places are taken at once. While both kinds stand in line they get the free ones in turn.

    Each kind has a line of its own, first come, first served. Jobs stand in line only while requests have places:
    a job that nobody has room for belongs into Redis, where another worker can take it.
    """

    def __init__(self, limit: int, changed: Callable[[], None] = lambda: None) -> None:
        """Begin with all places free; `changed` is called whenever there may be more or less room for jobs."""
        self.limit = limit
        self._changed = changed
        self._taken: dict[Kind, int] = {"job": 0, "request": 0}
        self._lines: dict[Kind, deque[_Waiter]] = {"job": deque(), "request": deque()}
        self._next: Kind = "request"
        self._shut = False
        self._drained = False

    @property
    def requests(self) -> int:
        """Requests that have a place."""
        return self._taken["request"]

    @property
    def waiting_requests(self) -> int:
        """Requests that stand in line."""
        return len(self._lines["request"])

    def room(self, jobs: int) -> int:
        """Return how many more jobs may be taken off the queue, where so many have been and are not at their end.

        One more than there are places, while requests have any of them and no job stands in line: it keeps the place
        in line of all that wait in Redis.
        """
        free = self.limit - jobs - self.requests
        in_the_way = self.requests or self.waiting_requests
        return 1 if free < 1 and in_the_way and jobs <= self._taken["job"] else free

    def take_free(self, kind: Kind) -> bool:
        """Take a place if there is one; return whether there was."""
        if not self._is_free(kind) or (kind == "request" and self._drained):
            return False
        self._grant(kind)
        return True

    async def take(self, kind: Kind) -> bool:
        """Take a place, or wait for one; `False` if there is none, as for a request once the worker drains."""
        if self.take_free(kind):
            return True
        if kind == "request" and self._drained:
            return False
        waiter = _Waiter()
        line = self._lines[kind]
        line.append(waiter)
        self._changed()
        try:
            await waiter.called.wait()
        except BaseException:
            if waiter.has_place:  # it came in the very moment that nobody wanted it any more
                self.leave(kind)
            elif waiter in line:
                line.remove(waiter)
            raise
        return waiter.has_place

    def leave(self, kind: Kind) -> None:
        """Give a place back, to whoever is next in line."""
        self._taken[kind] -= 1
        self._serve()
        self._changed()

    def shut(self) -> None:
        """Let requests wait in line, even for free places, until `reopen` or `drain`."""
        self._shut = True

    def reopen(self) -> None:
        """Let requests in again."""
        self._shut = False
        self._serve()

    def drain(self) -> None:
        """Let no more requests in, those in line neither."""
        self._drained = True
        line = self._lines["request"]
        while line:
            line.popleft().called.set()

    def _is_free(self, kind: Kind) -> bool:
        return sum(self._taken.values()) < self.limit and not (self._shut and kind == "request")

    def _grant(self, kind: Kind) -> None:
        self._taken[kind] += 1
        self._next = _OTHER[kind]

    def _serve(self) -> None:
        """Let in whoever stands in line, as far as there are places."""
        while (kind := self._whose_turn()) is not None:
            self._grant(kind)
            waiter = self._lines[kind].popleft()
            waiter.has_place = True
            waiter.called.set()

    def _whose_turn(self) -> Kind | None:
        for kind in (self._next, _OTHER[self._next]):
            if self._lines[kind] and self._is_free(kind):
                return kind
        return None
