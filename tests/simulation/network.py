"""The network between one worker and its servers: slow, at times broken, and silent once the worker is dead.

A call has an effect at its server at some moment between its start and its answer. Each of the two ways can be slow,
and each can be lost, so that a caller who hears nothing knows nothing. What a living caller has sent may still take
effect after it has given up waiting.
"""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from botocore.exceptions import ClientError
from redis.exceptions import RedisError

from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process, VirtualLoop
from worker.queue import ANSWER_SECONDS

PATIENCE: Final = {"redis": ANSWER_SECONDS, "s3": 10.0}
"""Seconds until the clients give a call up: the socket timeouts of `JobQueue.from_url` and `ReplyStore.open`."""


class Killed(BaseException):
    """Raised in every call of a process that was killed, so that its tasks end without doing anything more."""


@dataclass(eq=False)
class Call:
    """One call of a process: to which server, by which name, and what will hold its answer."""

    process: Process
    server: str
    name: str
    answer: asyncio.Future[Any]
    is_lost: bool = False
    """Whether its answer will not arrive."""


class Network:
    """Carries calls. While `is_stormy`, some are lost even when no outage was announced."""

    def __init__(self, loop: VirtualLoop, rng: random.Random, ledger: Ledger) -> None:
        self._loop = loop
        self._rng = rng
        self._ledger = ledger
        self._world = contextvars.Context()
        self._outages: dict[tuple[str, Process | None], float] = {}
        self._calls: dict[Process, set[Call]] = {}
        self.is_stormy = True

    def cut(self, server: str, process: Process | None, seconds: float) -> None:
        """Let nothing through between a server and one process, or all of them, for a while."""
        self._outages[server, process] = self._loop.time() + seconds

    def calm_down(self) -> None:
        """End all outages, for good."""
        self.is_stormy = False
        self._outages.clear()

    def kill(self, process: Process) -> None:
        """Let no call of a process have an effect or an answer any more."""
        process.is_dead = True
        for call in self._calls.get(process, ()):
            if not call.answer.done():
                call.answer.set_exception(Killed())

    def is_cut(self, call: Call) -> bool:
        """Return whether nothing gets through at this moment."""
        now = self._loop.time()
        return any(self._outages.get((call.server, whose), 0.0) > now for whose in (call.process, None))

    async def call(self, process: Process, server: str, name: str, effect: Callable[[], Any]) -> Any:
        """Let a call have its effect at a server and return what comes of it.

        Raises:
            ConnectionError: it is not known whether it took effect.
        """
        call = self.open(process, server, name)
        self.later(self._delay(), self._arrive, call, effect)
        patience = self.later(PATIENCE[server], self._fail, call)
        try:
            return await self.answer(call)
        finally:
            patience.cancel()

    def open(self, process: Process, server: str, name: str) -> Call:
        """Begin a call."""
        if process.is_dead:
            raise Killed
        call = Call(process, server, name, self._loop.create_future())
        self._calls.setdefault(process, set()).add(call)
        return call

    async def answer(self, call: Call) -> Any:
        """Wait for the answer of a call, and end it."""
        try:
            return await call.answer
        finally:
            self._calls[call.process].discard(call)

    def reply(self, call: Call, result: object) -> None:
        """Send an answer on its way."""
        self.later(self._delay(), self._receive, call, result)

    def later(self, delay: float, action: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        """Do something later, whether or not the process that asks for it stands still then."""
        return self._loop.call_later(delay, action, *args, context=self._world)

    def _arrive(self, call: Call, effect: Callable[[], Any]) -> None:
        if call.process.is_dead:
            return
        call.is_lost = self.is_cut(call) or (self.is_stormy and self._rng.random() < 0.01)
        if call.is_lost and self._rng.random() < 0.6:
            self._fail(call)
            return
        try:
            result = effect()
        except (RedisError, ClientError) as error:
            result = error
        self.reply(call, result)

    def _receive(self, call: Call, result: object) -> None:
        if call.answer.done():
            return
        if call.is_lost or self.is_cut(call):
            self._ledger.counts["lost answers"] += 1
            self._fail(call)
        elif isinstance(result, Exception):
            call.answer.set_exception(result)
        else:
            call.answer.set_result(result)

    def _fail(self, call: Call) -> None:
        if not call.answer.done():
            self._ledger.fault(f"no answer from {call.server} to {call.name}", call.process)
            call.answer.set_exception(ConnectionError(f"{call.server} does not answer"))

    def _delay(self) -> float:
        """Return the seconds that one way takes: mostly milliseconds, at times longer than anybody waits."""
        luck = self._rng.random()
        if luck < 0.93 or not self.is_stormy:
            return self._rng.uniform(0.0005, 0.01)
        return self._rng.uniform(0.01, 0.5) if luck < 0.995 else self._rng.uniform(0.5, 12.0)
