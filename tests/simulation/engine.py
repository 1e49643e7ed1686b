"""An engine whose words follow from the job's id alone, so that every reader can check them."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import lru_cache
from typing import Protocol

import anyio

from router_lambda.job import Job
from worker.engine import Delta, Step
from worker.errors import EngineDied

_WORDS = (
    "a",
    "to",
    "räder",
    "stream",
    "„quoted“",
    "日本",
    "\\back",
    "line\n",
    "🙂",
    "considerably-longer-than-the-rest",
)


@lru_cache(maxsize=4_096)
def script(job_id: str, index: int) -> tuple[str, ...]:
    """Return the tokens that make up one choice of a job; each ends with the only space in it."""
    own = random.Random(f"{job_id} {index}")
    return tuple(own.choice(_WORDS) + " " for _ in range(own.randint(5, 40)))


@lru_cache(maxsize=4_096)
def fatal_token(job_id: str) -> int | None:
    """Return at which token of its first choice a job kills the engine; most jobs do not."""
    own = random.Random(f"{job_id} fatal")
    return own.randint(0, 4) if own.random() < 0.02 else None


class Listener(Protocol):
    """Who is told what an engine does."""

    @property
    def is_hurried(self) -> bool:
        """Return whether even slow jobs are to be fast by now."""

    def engine_began(self, job_id: str, others: set[str]) -> None:
        """Hear that a job has begun while others run."""

    def engine_died(self) -> None:
        """Hear that the engine is dead."""


class SimulatedEngine:
    """Says the script of each job, in virtual time; `die` makes it fail as vLLM does."""

    model = "simulated"

    def __init__(self, rng: random.Random, listener: Listener) -> None:
        self._rng = rng
        self._listener = listener
        self._speaking: Counter[str] = Counter()
        self.died = anyio.Event()
        self.resumed = 0

    def die(self) -> None:
        """Fail from now on."""
        if not self.died.is_set():
            self.died.set()
            self._listener.engine_died()

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Say the whole text."""
        choices = range(job.params.get("n", 1))
        rest = {index: list(script(job.id, index)) for index in choices}
        async with aclosing(self._say(job.id, rest)) as steps:
            async for step in steps:
                yield step

    async def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:
        """Say the rest of one choice."""
        self.resumed += 1
        said = script(job.id, index)
        rest = said[self.count_tokens(shown) :]
        assert shown + "".join(rest) == "".join(said)
        assert spent == self.count_tokens(shown)
        async with aclosing(self._say(job.id, {index: list(rest)})) as steps:
            async for step in steps:
                yield step

    def count_tokens(self, text: str) -> int:
        """Count the tokens of a script."""
        return text.count(" ")

    async def check(self) -> None:
        """Fail once dead."""
        if self.died.is_set():
            raise EngineDied("killed by the simulation")

    async def stop(self) -> None:
        """Do nothing: there is no process."""

    async def _say(self, job_id: str, rest: dict[int, list[str]]) -> AsyncGenerator[Step, None]:
        self._listener.engine_began(job_id, set(+self._speaking) - {job_id})
        self._speaking[job_id] += 1
        try:
            pace = self._rng.choice((0.01, 0.1, 0.3, 1.0, 2.5))
            await anyio.sleep(self._rng.uniform(0.0, 2.0 if pace > 0.05 else 0.1))
            while any(rest.values()):
                self._kill_itself(job_id, rest)
                await self.check()
                if deltas := self._next(rest):
                    yield Step(7, deltas)
                await anyio.sleep((0.01 if self._listener.is_hurried else pace) * self._rng.uniform(0.5, 1.5))
        finally:
            self._speaking[job_id] -= 1

    def _next(self, rest: dict[int, list[str]]) -> list[Delta]:
        """Return what one step brings, which for each choice may be several tokens or none."""
        deltas = []
        for index, tokens in rest.items():
            count = min(len(tokens), self._rng.choice((1, 1, 2, 3, 5, 0)))
            if count:
                text = "".join(tokens[:count])
                del tokens[:count]
                deltas.append(Delta(index, text, count, None if tokens else "stop"))
        return deltas

    def _kill_itself(self, job_id: str, rest: dict[int, list[str]]) -> None:
        fatal = fatal_token(job_id)
        if fatal is not None and 0 in rest and len(script(job_id, 0)) - len(rest[0]) >= fatal:
            self.die()
