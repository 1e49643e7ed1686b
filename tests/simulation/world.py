"""One simulated world: two routers, three workers, a Redis, a bucket, and whatever may befall them.

The storm lasts for some virtual seconds. Then everything works again, and within `SETTLE_SECONDS` each job must have
come to its end. A run follows from its seed alone.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, NoReturn

import anyio
import structlog

from router_lambda.job import JOB_TTL_SECONDS, QUEUE_OPEN, QUEUE_READY
from tests.simulation.ledger import Broken, Ledger
from tests.simulation.life import Life
from tests.simulation.loop import VirtualLoop, clocks_of, current_process, virtual
from tests.simulation.network import Network
from tests.simulation.redis_side import RedisServer
from tests.simulation.routers import Router
from tests.simulation.s3_side import Bucket

WORKERS: Final = 3

BLACKOUT_SECONDS: Final = JOB_TTL_SECONDS + 5.0

OVERTAKEN: Final = {"lost the lease", "stopped a job that is not ours", "another run writes this reply"}
"""What a worker says whose job somebody else has taken."""

SETTLE_SECONDS: Final = 300.0
"""Longest time from the end of the storm until nothing is open: slow jobs that have to run alone, one by one."""


@dataclass(frozen=True)
class Outcome:
    """What one run was like. `trace` holds every event, in order, with its virtual time."""

    counts: Counter[str]
    trace: list[tuple[object, ...]]
    jobs: int
    seconds: float


class World:
    """Everything in one run."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self._loop = loop
        self._rng = rng = random.Random(seed)
        self.ledger = Ledger(loop.time)
        self._network = Network(loop, rng, self.ledger)
        self._server = RedisServer(self._network, self.ledger)
        self._bucket = Bucket(self._network, self.ledger)
        self._lives: dict[int, Life] = {}
        self._storm_ends = rng.uniform(8.0, 30.0)
        self._is_over = False
        self._retired: set[int] = set()
        # In some worlds no worker is there, from some moment on, for so long that what waits expires.
        self._blackout = rng.uniform(0.0, 8.0) * rng.choice((0, 1)) if rng.random() < 0.08 else None
        self._powered = anyio.Event()
        self._powered.set()
        self._fault_seconds = rng.choice((3.0, 6.0, 12.0, 60.0))

    async def run(self) -> None:
        """Let it live from the first job until everything has settled."""
        if self._blackout is not None:
            self._storm_ends += BLACKOUT_SECONDS
        routers = [Router(f"router{n}", self._loop, self._rng, self._server, self.ledger) for n in range(2)]
        async with anyio.create_task_group() as tasks:
            if self._blackout is not None:
                tasks.start_soon(self._switch_off, self._blackout)
            for index in range(WORKERS):
                tasks.start_soon(self._keep_working, index)
            tasks.start_soon(self._rage)
            async with anyio.create_task_group() as users:
                for router in routers:
                    users.start_soon(router.send, self._rng.randint(1, 6), self._rng.uniform(1.0, 15.0))
            await anyio.sleep(self._storm_left)
            self._calm_down()
            await self._settle()
        await anyio.sleep(JOB_TTL_SECONDS + 5.0)  # what has a life of its own runs out
        self.ledger.check_whole(*self._server.left())

    @property
    def _is_stormy(self) -> bool:
        return self._loop.time() < self._storm_ends

    async def _keep_working(self, index: int) -> None:
        """Start a worker anew whenever it ends, as its supervisor does."""
        worker_id, number = f"w{index}", 0
        while True:
            await self._powered.wait()
            if self._is_over or index in self._retired:
                return
            number += 1
            life = Life(
                f"{worker_id}.{number}",
                worker_id,
                loop=self._loop,
                rng=self._rng,
                server=self._server,
                bucket=self._bucket,
            )
            self._lives[index] = life
            self.ledger.note(life.name, "boots")
            await self._torment(life)
            await life.task
            self.ledger.counts["resumed"] += life.engine.resumed
            self.ledger.note(life.name, "has ended")
            if self._is_stormy:
                await anyio.sleep(self._rng.choice((0.1, 2.0, self._rng.uniform(0.0, 40.0))))
            if self._rng.random() < 0.3:
                worker_id, number = f"w{index}-{self._rng.randrange(1_000)}", 0

    async def _torment(self, life: Life) -> None:
        """Let things happen to a worker until it ends or the storm does."""
        while self._is_stormy and not life.task.done():
            with anyio.move_on_after(min(self._rng.expovariate(1 / self._fault_seconds), self._storm_left)):
                await anyio.sleep_forever()
            if not self._is_stormy or life.is_dead or life.task.done():
                return
            await self._strike(life)

    @property
    def _storm_left(self) -> float:
        return max(0.0, self._storm_ends - self._loop.time())

    async def _strike(self, life: Life) -> None:
        luck = self._rng.random()
        if luck < 0.25:
            self._kill(life)
        elif luck < 0.5:
            await self._stop(life)
        elif luck < 0.62:
            self.ledger.fault("drains", life)
            life.drain()
        elif luck < 0.7:
            life.engine.die()
        else:
            server = self._rng.choice(("redis", "s3"))
            seconds = self._rng.choice((1.0, 8.0, 25.0)) * self._rng.random()
            self.ledger.note(life.name, "is cut off from", server, round(seconds, 1))
            self._network.cut(server, life, seconds)

    async def _stop(self, life: Life) -> None:
        """Stop a worker and let it go on later, perhaps only after the storm, unless it is killed meanwhile."""
        self.ledger.fault("pauses", life)
        self._loop.stop_process(life)
        luck = self._rng.random()
        await anyio.sleep(self._rng.choice((2.0 * luck, 10.0 * luck, 15.0 + 25.0 * luck)))
        if life.is_dead:
            return
        if self._rng.random() < 0.1:
            self._kill(life)
        else:
            self.ledger.fault("continues", life)
            self._loop.continue_process(life)

    async def _switch_off(self, after: float) -> None:
        """Take all workers away for long."""
        await anyio.sleep(after)
        self._powered = anyio.Event()
        for life in self._lives.values():
            self._kill(life)
        await anyio.sleep(BLACKOUT_SECONDS)
        self._powered.set()

    def _kill(self, life: Life) -> None:
        if not life.task.done():
            self.ledger.fault("crashes", life)
            life.kill()

    async def _rage(self) -> None:
        """Take a server away from everybody, now and then."""
        while self._is_stormy:
            with anyio.move_on_after(min(self._rng.expovariate(1 / 25.0), self._storm_left)):
                await anyio.sleep_forever()
            if self._is_stormy:
                server = self._rng.choice(("redis", "s3"))
                seconds = self._rng.uniform(0.5, 20.0)
                self.ledger.note(server, "is away for", round(seconds, 1))
                self._network.cut(server, None, seconds)

    def _calm_down(self) -> None:
        self.ledger.note("the storm is over")
        self._network.calm_down()
        if self._rng.random() < 0.5:  # one worker has to do
            for index in range(1, WORKERS):
                self._retired.add(index)
                if index in self._lives:
                    self._kill(self._lives[index])

    async def _settle(self) -> None:
        """Wait until nothing is left to do, then let the workers drain."""
        quiet = 0
        with anyio.move_on_after(SETTLE_SECONDS):
            while quiet < 2:  # an id may be on its way from a pop to a claim
                await anyio.sleep(1.0)
                is_busy = self._server.raw.exists(QUEUE_OPEN, QUEUE_READY) or any(map(_is_busy, self._lives.values()))
                quiet = 0 if is_busy else quiet + 1
        self._is_over = True
        for life in self._lives.values():
            life.drain()


def simulate(seed: int) -> Outcome:
    """Run one world.

    Raises:
        Broken: a rule of the protocol does not hold, or something failed that must not. The message begins with the
            seed and ends with what happened last.
    """
    with virtual(seed, clocks_of("worker", "router_lambda")) as loop:
        world = World(seed, loop)
        ledger = world.ledger
        try:
            with logging_to(ledger):
                loop.run(world.run())
        except Exception as error:
            again = f"TLFIF_SIMULATIONS=1 TLFIF_SIMULATION_SEED={seed} pytest tests/simulation -k rule"
            raise Broken(f"seed {seed}: {first_error(error)}\n{ledger.tail()}\nOnce more: {again}") from error
        return Outcome(ledger.counts, ledger.trace, len(ledger.jobs), loop.time())


def _is_busy(life: Life) -> bool:
    return not life.is_dead and (life.is_stopped or life.jobs.running > 0)


def first_error(error: BaseException) -> BaseException:
    """Return what is innermost in a group of exceptions."""
    return first_error(error.exceptions[0]) if isinstance(error, BaseExceptionGroup) else error


@contextmanager
def logging_to(ledger: Ledger) -> Iterator[None]:
    """Put the log lines of the workers into the trace."""

    def note(_logger: object, level: str, line: MutableMapping[str, Any]) -> NoReturn:
        process = current_process()
        details = {name: value for name, value in line.items() if name in {"job", "reason", "jobs", "state", "status"}}
        if "job" in details:
            details["job"] = details["job"][:4]
        ledger.note(process and process.name, level, line["event"], details)
        ledger.counts["overtaken"] += line["event"] in OVERTAKEN
        raise structlog.DropEvent

    configured = structlog.get_config()
    structlog.configure(processors=[note])
    try:
        yield
    finally:
        structlog.configure(**configured)
