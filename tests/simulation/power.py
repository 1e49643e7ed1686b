"""The GPU's life in a simulation: users, routers, the waker, the reaper, and machines on which workers live.

The storm is one of bad timing: jobs arrive while the GPU closes, stops, is stopped by hand, fails to start; events get
lost. Afterwards everything works, and two things must come true: every job has its end, and no machine runs.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Final

import anyio
from anyio.abc import TaskGroup

from router_lambda.job import GPU_CLOSING, QUEUE_OPEN
from tests.simulation.cloud import Cloud, Machine
from tests.simulation.lambdas import Lambdas
from tests.simulation.ledger import Broken, Ledger
from tests.simulation.life import Life
from tests.simulation.loop import VirtualLoop, clocks_of, virtual
from tests.simulation.network import Network
from tests.simulation.redis_side import RedisServer
from tests.simulation.s3_side import Bucket
from tests.simulation.world import Outcome, first_error, logging_to
from worker.closing import Closing
from worker.errors import InstanceRunsOn
from worker.idle import MINUTE

SCHEDULE_SECONDS: Final = 60.0
"""Time between two scheduled calls of the waker and of the reaper."""

KILL_SECONDS: Final = 25.0
"""Time that a worker gets to end when its machine stops."""

SETTLE_SECONDS: Final = 420.0
"""Longest time from the end of the storm until each job has ended: a start that fails, the schedule, a boot, three
tries, or the life of a job that nobody can run."""

REAPED_SECONDS: Final = 1_400.0
"""Longest time that a machine without a worker runs: the reaper's grace for boots and for heartbeats."""

EXCUSES: Final = ("refused starts", "drains")
"""What keeps a job waiting until it expires: no capacity, or a machine whose worker was ended by hand."""


class PoweredLife(Life):
    """A worker that stops its machine when it is idle."""

    def __init__(self, machine: Machine, cloud: Cloud, rng: random.Random, **rest: object) -> None:
        super().__init__(f"{machine.id}@{machine.launched_at:.0f}", machine.id, rng=rng, **rest)  # type: ignore[arg-type]
        self._machine = machine
        self._cloud = cloud
        self._rng = rng
        self._closing = Closing(self._services, self.jobs, self._heartbeat, self._loop.time)
        self._is_closed = False
        self._machine_stops = anyio.Event()

    def _start_watching(self, tasks: TaskGroup) -> None:
        super()._start_watching(tasks)
        tasks.start_soon(self._watch_idle)

    async def _watch_idle(self) -> None:
        """Do as the daemon does."""
        closed = await self._closing.closed()
        self._is_closed = self.is_leaving = True
        self._ledger.counts[f"closed, {closed.reason}"] += 1
        await self.jobs.finished(self._drain_seconds)
        if not await self._stop_machine():
            self._ledger.fault("machines that run on", self)
            raise InstanceRunsOn("as the simulation wants")
        self._machine_stops.set()

    async def _before_the_end(self) -> None:
        if self._is_closed:
            await self._machine_stops.wait()

    async def _stop_machine(self) -> bool:
        """Call StopInstances, which may need more than one try, or be of no avail."""
        luck = self._rng.random() if self._cloud.is_stormy else 1.0
        await anyio.sleep(self._rng.uniform(0.01, 0.5) if luck > 0.15 else self._rng.uniform(1.0, 20.0))
        if luck < 0.03:
            return False
        self._cloud.stop_instances(InstanceIds=[self._machine.id])
        return True


class PowerWorld:
    """Everything in one run."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self._loop = loop
        self._rng = rng = random.Random(seed)
        self.ledger = Ledger(loop.time)
        self._network = Network(loop, rng, self.ledger)
        self._server = RedisServer(self._network, self.ledger)
        self._bucket = Bucket(self._network, self.ledger)
        machines = 2 if rng.random() < 0.2 else 1
        self._cloud = Cloud(loop, rng, self.ledger, machines)
        self._lambdas = Lambdas(
            loop, rng, self.ledger, server=self._server, bucket=self._bucket, cloud=self._cloud, most_gpus=machines
        )
        self._idle_minutes = rng.choice((3.0, 8.0, 20.0)) / MINUTE
        self._lives: dict[str, PoweredLife] = {}
        self._storm_ends = rng.uniform(10.0, 120.0)
        self._no_capacity_until = 0.0
        self._cloud.has_capacity = lambda: loop.time() >= self._no_capacity_until
        self._events = anyio.Event()
        self._is_over = False

    @property
    def _is_stormy(self) -> bool:
        return self._loop.time() < self._storm_ends

    async def run(self) -> None:
        """Let it live from the first job until everything has settled."""
        async with anyio.create_task_group() as tasks:
            for machine in self._cloud.machines:
                tasks.start_soon(self._power, machine, tasks)
            tasks.start_soon(self._keep_schedule)
            async with anyio.create_task_group() as users:
                users.start_soon(self._use, self._rng.randint(1, 4), users)
                users.start_soon(self._rage)
            await anyio.sleep(max(0.0, self._storm_ends - self._loop.time()))
            self._network.calm_down()
            self._cloud.is_stormy = False
            self._no_capacity_until = 0.0
            self.ledger.note("the storm is over")
            await self._settle()
            self._is_over = True
            tasks.cancel_scope.cancel()

    # Users

    async def _use(self, jobs: int, users: TaskGroup) -> None:
        """Send jobs, most of them when the timing is worst."""
        for _ in range(jobs):
            await self._wait_for_a_bad_moment()
            users.start_soon(self._lambdas.infer, self._rng.choice((5, 5, 5, 1)))
            if self._rng.random() < 0.15:
                await anyio.sleep(self._rng.uniform(0.0, 3.0))
                self._lambdas.stop()

    async def _wait_for_a_bad_moment(self) -> None:
        """Wait until the GPU is about to change its state, or some seconds."""
        machine = self._rng.choice(self._cloud.machines)
        luck = self._rng.random()
        with anyio.move_on_after(self._rng.choice((3.0, 60.0)) * self._rng.random()):
            if luck < 0.35:
                await machine.until("stopping")
            elif luck < 0.55:
                while not self._server.raw.exists(GPU_CLOSING):  # noqa: ASYNC110 - no event comes out of Redis
                    await anyio.sleep(0.25)
            elif luck < 0.65:
                await machine.until("running")
            elif luck < 0.8:
                await anyio.sleep(self._idle_minutes * MINUTE)
            else:
                await anyio.sleep_forever()
        await anyio.sleep(self._rng.choice((0.0, 0.05, 1.0, 5.0)) * self._rng.random())

    # Machines

    async def _power(self, machine: Machine, tasks: TaskGroup) -> None:
        while True:
            await machine.until("pending")
            with anyio.move_on_after(self._rng.uniform(0.2, 6.0)):
                await machine.until("stopping")
            if machine.state == "pending" and self._is_stormy and self._rng.random() < 0.05:
                self.ledger.counts["failed boots"] += 1
                machine.enter("stopping")
            elif machine.state == "pending":
                machine.enter("running")
                await self._keep_worker(machine)
            await anyio.sleep(self._rng.choice((0.1, 2.0, 15.0)) * self._rng.random())
            machine.enter("stopped")
            self._tell_the_waker(machine.id, tasks)

    async def _keep_worker(self, machine: Machine) -> None:
        """Do as the supervisor until the machine stops: start the worker, again after a crash, not after a good end."""
        await self._wait(machine, self._rng.uniform(0.2, 8.0))
        while machine.state == "running":
            life = PoweredLife(
                machine,
                self._cloud,
                self._rng,
                loop=self._loop,
                server=self._server,
                bucket=self._bucket,
                idle_minutes=self._idle_minutes,
            )
            self._lives[machine.id] = life
            self.ledger.note(life.name, "boots")
            await self._until_it_ends(machine, life)
            self.ledger.note(life.name, "has ended")
            if life.has_ended_well:
                await machine.until("stopping")
            await self._wait(machine, self._rng.uniform(1.0, 8.0))

    async def _until_it_ends(self, machine: Machine, life: PoweredLife) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._shut_down, machine, life)
            await life.task
            tasks.cancel_scope.cancel()

    async def _shut_down(self, machine: Machine, life: PoweredLife) -> None:
        await machine.until("stopping")
        self.ledger.fault("shutdowns", life)  # a job that is handed back has used up a try
        life.drain()
        await anyio.sleep(KILL_SECONDS)
        self._kill(life)

    def _kill(self, life: PoweredLife) -> None:
        if not life.task.done():
            self.ledger.fault("crashes", life)
            life.kill()

    async def _wait(self, machine: Machine, seconds: float) -> None:
        with anyio.move_on_after(seconds):
            await machine.until("stopping", "stopped")

    def _tell_the_waker(self, instance_id: str, tasks: TaskGroup) -> None:
        """Send EC2's event: soon, late, twice or never."""
        stopped_at = self._loop.time()
        luck = self._rng.random() if self._is_stormy else 1.0
        delays = [self._rng.uniform(0.0, 1.5)]
        if luck < 0.08:
            delays = []
            self.ledger.counts["lost events"] += 1
        elif luck < 0.16:
            delays = [self._rng.uniform(1.0, 60.0)]
        elif luck < 0.24:
            delays.append(self._rng.uniform(0.0, 60.0))

        async def deliver(delay: float) -> None:
            await anyio.sleep(delay)
            self._lambdas.wake((instance_id, stopped_at))

        for delay in delays:
            tasks.start_soon(deliver, delay)

    async def _keep_schedule(self) -> None:
        await anyio.sleep(self._rng.uniform(0.0, SCHEDULE_SECONDS))
        while True:
            self._lambdas.wake(None)
            self._lambdas.reap()
            await anyio.sleep(SCHEDULE_SECONDS)

    # Trouble

    async def _rage(self) -> None:
        while self._is_stormy:
            with anyio.move_on_after(min(self._rng.expovariate(1 / 20.0), self._storm_ends - self._loop.time())):
                await anyio.sleep_forever()
            if self._is_stormy:
                self._strike()

    def _strike(self) -> None:
        luck = self._rng.random()
        living = [life for life in self._lives.values() if not life.task.done()]
        if luck < 0.25:
            seconds = self._rng.choice((10.0, 60.0, 150.0)) * self._rng.random()
            self._no_capacity_until = self._loop.time() + seconds
            self.ledger.note("EC2 has no capacity for", round(seconds, 1))
        elif luck < 0.45:
            self._network.cut("redis", None, self._rng.uniform(0.5, 15.0))
        elif living and luck < 0.65:
            self._kill(self._rng.choice(living))
        elif living and luck < 0.7:
            self.ledger.fault("drains", life := self._rng.choice(living))
            life.drain()  # by hand: it ends well, and nobody starts it again
        elif living and luck < 0.8:
            self.ledger.counts["stops by hand"] += 1
            self._cloud.stop_instances(InstanceIds=[self._rng.choice(living).worker_id])

    # The end

    async def _settle(self) -> None:
        """Wait until every job has its end, and then until no machine runs."""
        limit = self._loop.time() + SETTLE_SECONDS
        while self._server.raw.exists(QUEUE_OPEN):
            if self._loop.time() > limit:
                raise Broken(f"jobs are stranded: {self._server.raw.zrange(QUEUE_OPEN, 0, -1)}")
            await anyio.sleep(1.0)
        for job in self.ledger.jobs.values():
            if job.queued and not job.is_withdrawn and job.ended is None:
                raise Broken(f"{job.id} never ended")
        if self.ledger.counts["expired"] and not any(self.ledger.counts[excuse] for excuse in EXCUSES):
            raise Broken("a job expired, though a GPU could have been started and nobody took its worker away")
        began = self._loop.time()
        while any(machine.state != "stopped" for machine in self._cloud.machines):
            self._check_use(self._loop.time() - began)
            await anyio.sleep(1.0)
        self.ledger.counts["ends"] += 1

    def _check_use(self, seconds: float) -> None:
        """Break if a machine still runs so long after the last job."""
        for machine in self._cloud.machines:
            life = self._lives.get(machine.id)
            is_served = life is not None and not (life.task.done() and life.has_ended_well)
            longest = MINUTE + 3 * KILL_SECONDS + 60.0 if is_served else REAPED_SECONDS
            if machine.state != "stopped" and seconds > longest:
                raise Broken(f"{machine.id} is {machine.state} and serves nobody for {seconds:.0f} s")


def simulate_power(seed: int) -> Outcome:
    """Run one world.

    Raises:
        Broken: a job is stranded, a machine runs for nothing, or another rule does not hold. The message begins with
            the seed and ends with what happened last.
    """
    with virtual(seed, clocks_of("worker", "router_lambda")) as loop:
        world = PowerWorld(seed, loop)
        ledger = world.ledger
        try:
            with logging_to(ledger):
                loop.run(world.run())
        except Exception as error:
            again = (
                f"TLFIF_STOP_RACES=1 TLFIF_SIMULATION_SEED={seed} pytest tests/simulation/test_stop_race.py -k world"
            )
            raise Broken(f"seed {seed}: {first_error(error)}\n{ledger.tail()}\nOnce more: {again}") from error
        return Outcome(Counter(ledger.counts), ledger.trace, len(ledger.jobs), loop.time())
