"""An event loop without a real clock: when nothing is ready, time jumps to the next timer.

Tasks that are ready at the same moment run in a random order, drawn from the seed; so does nothing else, because
asyncio promises the order of plain callbacks. Each task belongs to a `Process` or to the world around them. A stopped
process stands still whole, with its timers, as after SIGSTOP.
"""

from __future__ import annotations

import asyncio
import contextvars
import gc
import heapq
import inspect
import math
import os
import random
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import cache
from types import FunctionType
from typing import Any, Final, TypeVar, TypeVarTuple
from unittest import mock

EPOCH: Final = 1_790_000_000.0
"""Unix seconds at which every run begins."""

TICK_SECONDS: Final = 1e-6
"""What a look at the clock takes."""

TURNS_AT_ONCE: Final = 16
"""Turns of the loop at one moment after which time goes on although something is ready.

anyio, for one, asks a cancelled task group in every turn whether its shielded tasks are done.
"""

MOST_TURNS: Final = 1_000_000
"""Turns of a whole run after which nobody believes that it will ever end."""

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class Stuck(Exception):
    """Nothing is left to wait for, or nothing lets time go on."""


class Process:
    """One life of a worker: stopped, continued and killed as a whole."""

    def __init__(self, name: str, worker_id: str) -> None:
        self.name = name
        self.worker_id = worker_id
        self.is_stopped = False
        self.is_dead = False
        self.is_leaving = False
        """Whether it was told to end."""
        self.held: list[asyncio.Handle] = []
        """What would have run since it was stopped."""


_PROCESS: ContextVar[Process | None] = ContextVar("_PROCESS", default=None)


def current_process() -> Process | None:
    """Return the process that runs at this moment, `None` for the world around them."""
    return _PROCESS.get()


class _Task(asyncio.Task[T]):
    number = 0


class _Timer(asyncio.TimerHandle):
    process: Process | None = None


class _Call(asyncio.Handle):
    process: Process | None = None
    task: _Task[Any] | None = None


class VirtualLoop(asyncio.AbstractEventLoop):
    """Whatever it does not implement is real input or output, and has no place in a simulation."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._now = 0.0
        self._ready: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, _Timer]] = []
        """A heap by time and, at the same time, by which was set first."""
        self._count = 0
        self._turns = 0
        self.failures: list[dict[str, Any]] = []

    def run(self, main: Coroutine[Any, Any, T]) -> T:
        """Run until `main` is done, and return what it returns."""
        task = self.create_task(main)
        earlier = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            while not task.done():
                self._turn()
                for failure in self.failures:
                    raise failure.get("exception") or RuntimeError(failure["message"])
        finally:
            asyncio._set_running_loop(earlier)
        result: T = task.result()
        return result

    def _turn(self) -> None:
        self._turns += 1
        if not self._ready or self._turns % TURNS_AT_ONCE == 0:
            self._let_time_pass()
        while self._timers and self._timers[0][0] <= self._now:
            _, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled():
                self._ready.append(timer)
        batch, self._ready = self._ready, []
        for handle in self._shuffled(batch) if len(batch) > 1 else batch:
            process = handle.process if isinstance(handle, _Call | _Timer) else None
            if process is not None and process.is_stopped:
                process.held.append(handle)
            elif not handle.cancelled():
                handle._run()

    def _let_time_pass(self) -> None:
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if self._timers:
            self._now = max(self._now, self._timers[0][0])
        elif not self._ready:
            raise Stuck(f"nothing is left to wait for at {self._now:.3f} s")
        if self._turns > MOST_TURNS:
            raise Stuck(f"no end after {self._turns} turns, at {self._now:.3f} s")

    def _shuffled(self, batch: list[asyncio.Handle]) -> list[asyncio.Handle]:
        """Let the tasks among the handles change places.

        They are sorted first: anyio cancels tasks in the order of their addresses in memory, which no seed gives.
        """
        places = [place for place, handle in enumerate(batch) if isinstance(handle, _Call) and handle.task is not None]
        if len(places) > 1:
            tasks = sorted((batch[place] for place in places), key=_task_number)
            self._random.shuffle(tasks)
            for place, handle in zip(places, tasks, strict=True):
                batch[place] = handle
        return batch

    def stop_process(self, process: Process) -> None:
        """Let a process stand still."""
        process.is_stopped = True

    def continue_process(self, process: Process) -> None:
        """Let it go on with all that has come due; whether timers or answers come first is a matter of luck."""
        process.is_stopped = False
        held, process.held = process.held, []
        if self._random.random() < 0.5:
            held.sort(key=lambda handle: not isinstance(handle, _Timer))
        self._ready += held

    def time(self) -> float:
        """Return the virtual seconds since the run began; looking takes time, as it does in reality."""
        self._now += TICK_SECONDS
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        """See asyncio."""
        context = contextvars.copy_context() if context is None else context
        call = _Call(callback, args, self, context)
        call.process = context.get(_PROCESS)
        owner = getattr(callback, "__self__", None)
        call.task = owner if isinstance(owner, _Task) else None
        self._ready.append(call)
        return call

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        """See asyncio."""
        context = contextvars.copy_context() if context is None else context
        timer = _Timer(when, callback, args, self, context)
        timer.process = context.get(_PROCESS)
        self._count += 1
        if when < math.inf:  # anyio sleeps for ever with a timer
            heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Leave a cancelled timer where it is: it is passed over when its time comes."""

    def create_future(self) -> asyncio.Future[Any]:
        """See asyncio."""
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """See asyncio."""
        task: _Task[Any] = _Task(coro, loop=self, name=name, context=context)
        self._count += 1
        task.number = self._count
        return task

    def create_process_task(self, process: Process, coro: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Start the main task of a process; all that it starts belongs to the process, too."""
        context = contextvars.Context()
        context.run(_PROCESS.set, process)
        return self.create_task(coro, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note a failure that nobody awaits; it ends the run."""
        self.failures.append(context)

    def get_task_factory(self) -> None:
        """Return that tasks are made here alone."""

    def get_debug(self) -> bool:
        """Return that asyncio's debug mode is off."""
        return False

    def is_running(self) -> bool:
        """Return whether this loop runs."""
        return asyncio._get_running_loop() is self

    def is_closed(self) -> bool:
        """Return that it never is."""
        return False


def _task_number(handle: asyncio.Handle) -> int:
    assert isinstance(handle, _Call)
    assert handle.task is not None
    return handle.task.number


@cache
def clocks_of(*packages: str) -> list[FunctionType]:
    """Return the functions and constructors of the packages that have a real clock as a default argument."""
    found: list[FunctionType] = []
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] not in packages:
            continue
        for value in list(vars(module).values()):
            function = value.__init__ if inspect.isclass(value) else value
            if isinstance(function, FunctionType) and any(map(_is_a_clock, function.__defaults__ or ())):
                found.append(function)
    return list(dict.fromkeys(found))


def _is_a_clock(value: object) -> bool:
    return value is time.time or value is time.monotonic


@contextmanager
def virtual(seed: int, clocks: Iterable[FunctionType] = ()) -> Iterator[VirtualLoop]:
    """Give the whole interpreter the loop's clock, and randomness that follows from the seed, for a while.

    A default argument keeps the clock that was there when its function was defined, hence `clocks`. The garbage
    collector, whose moments no seed gives, has to wait: it finalizes generators, which takes turns of the loop.
    """
    loop = VirtualLoop(seed)  # type: ignore[abstract]  # what it lacks is real input and output

    def unix_time() -> float:
        return EPOCH + loop.time()

    instead: dict[Any, Callable[[], float]] = {time.time: unix_time, time.monotonic: loop.time}
    state = random.getstate()
    random.seed(seed)
    with ExitStack() as patches:
        for function in clocks:
            defaults = tuple(instead[each] if _is_a_clock(each) else each for each in function.__defaults__ or ())
            patches.enter_context(mock.patch.object(function, "__defaults__", defaults))
        patches.enter_context(mock.patch.object(time, "time", unix_time))
        patches.enter_context(mock.patch.object(time, "monotonic", loop.time))
        patches.enter_context(mock.patch.object(os, "urandom", random.randbytes))
        patches.callback(random.setstate, state)
        if gc.isenabled():
            gc.disable()
            patches.callback(gc.enable)
        yield loop
