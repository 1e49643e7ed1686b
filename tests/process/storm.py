"""Jobs by the hundred through two real workers, while everything that can die is killed, and what became of each job.

    python -m tests.process.storm --jobs 1000 --seed 7

Prints a table and ends with exit code 1, naming the jobs, if any is lost, ended twice, lost text that was shown, or
ended as it should not. The same seed means the same jobs and the same faults in the same order.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import anyio
import anyio.to_thread
import psutil
import redis
from anyio.abc import TaskGroup

from benchmarks.report import table
from router_lambda.job import reply_path
from router_lambda.queue import Queue, QueueFull, QueueUnavailable, connect
from tests.fakes import make_job
from tests.process.storm_observer import BROKEN, Observer, Watched
from tests.process.storm_plan import SERVERS, Fault, Kind, Phase, PlannedJob, plan
from tests.process.storm_world import World, bring_back, engine_core

PHASE_SECONDS: Final = 60.0
"""Longest that a phase may take on average: a boot, its jobs and its fault."""

SETTLE_SECONDS: Final = 120.0
"""Longest wait for the last replies, and for Redis to hold nothing of them, after the last phase."""

LOOK_SECONDS: Final = 0.3
ASK_AGAIN_SECONDS: Final = 0.5
RESUMED_EVENT: Final = "job goes on from its last snapshot"

EXIT_CODE: Final = {Kind.WORKER_KILLED: -9, Kind.ENGINE_KILLED: 70, Kind.ENGINE_ENDED: 70, Kind.WORKER_DRAINED: 0}
"""What the worker ends with after each fault that is the end of it."""


@dataclass
class Storm:
    """One storm through one world."""

    world: World
    phases: list[Phase]
    say: Callable[[str], None]
    observer: Observer = field(init=False)
    faults: Counter[Kind] = field(default_factory=Counter)
    ends: dict[str, Counter[int]] = field(default_factory=lambda: defaultdict(Counter))
    """The exit codes with which each worker was made to end."""
    refused: int = 0
    events: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.observer = Observer(self.world.s3)

    async def run(self) -> None:
        """Let it pass, until every accepted job has ended or the deadline is over, and check what it leaves."""
        began = time.monotonic()
        with connect(self.world.redis.url) as client:
            async with anyio.create_task_group() as tasks:
                for worker in self.world.workers.values():
                    tasks.start_soon(worker.keep)
                tasks.start_soon(self._observe)
                with anyio.fail_after(PHASE_SECONDS * len(self.phases)):
                    await self._rage(Queue(client))
                self.say("the last jobs are sent")
                await self._settle(client)
                tasks.cancel_scope.cancel()
            self._look_back(client)
        self.seconds = time.monotonic() - began

    async def _rage(self, queue: Queue) -> None:
        """Go through the phases; one that ends with a fault on a worker begins when both workers are there."""
        async with anyio.create_task_group() as tasks:
            for phase in self.phases:
                if phase.fault is None or phase.fault.kind not in SERVERS:
                    for worker in self.world.workers.values():
                        await worker.ready()
                for job in phase.jobs:
                    tasks.start_soon(self._send, job, queue)
                await anyio.sleep(phase.seconds)
                if phase.fault is not None:
                    await self._strike(phase.fault, tasks)

    async def _observe(self) -> None:
        while True:
            await anyio.to_thread.run_sync(self.observer.look)
            await anyio.sleep(LOOK_SECONDS)

    async def _send(self, planned: PlannedJob, queue: Queue) -> None:
        """Queue a job when its time has come, a new one whenever the router cannot tell, and cancel it if planned."""
        await anyio.sleep(planned.at)
        while True:
            watched = self._new_job(planned)
            try:
                await anyio.to_thread.run_sync(queue.enqueue, watched.job)
            except (QueueUnavailable, QueueFull):
                self.refused += 1
                await anyio.sleep(ASK_AGAIN_SECONDS)
            else:
                watched.is_accepted = True
                break
        if planned.cancel_after is not None:
            await anyio.sleep(planned.cancel_after)
            await self._cancel(watched, queue)

    def _new_job(self, planned: PlannedJob) -> Watched:
        job_id = str(uuid4())
        path = reply_path(self.world.s3.bucket, job_id)
        job = make_job(
            id=job_id, enqueued_at=time.time(), reply_path=path, prompt=planned.prompt, params=planned.params
        )
        return self.observer.watch(job)

    async def _cancel(self, watched: Watched, queue: Queue) -> None:
        watched.cancel_asked = True
        while True:
            try:
                await anyio.to_thread.run_sync(queue.cancel, watched.job.id, watched.job.sub)
            except QueueUnavailable:
                await anyio.sleep(ASK_AGAIN_SECONDS)
            else:
                return

    async def _strike(self, fault: Fault, tasks: TaskGroup) -> None:
        self.say(f"{fault.kind} {fault.worker}")
        self.faults[fault.kind] += 1
        if fault.kind in SERVERS:
            server = self.world.redis if fault.kind is Kind.REDIS_KILLED else self.world.s3
            server.kill()
            await anyio.sleep(fault.seconds)
            await bring_back(server)
            return
        worker = self.world.workers[fault.worker]
        process = await worker.at_work()
        self.observer.strikes.append(time.time())
        if fault.kind is Kind.WORKER_FROZEN:
            process.suspend()
            tasks.start_soon(self._thaw, process, fault.seconds)
            return
        match fault.kind:
            case Kind.WORKER_KILLED:
                process.kill()
            case Kind.ENGINE_KILLED:
                engine_core(process).kill()
            case Kind.ENGINE_ENDED:
                engine_core(process).terminate()
            case _:
                process.terminate()
        self.ends[fault.worker][EXIT_CODE[fault.kind]] += 1
        await worker.ended(self.ends[fault.worker].total())

    @staticmethod
    async def _thaw(process: psutil.Process, seconds: float) -> None:
        await anyio.sleep(seconds)
        process.resume()

    async def _settle(self, client: redis.Redis) -> None:
        """Wait until every accepted job has its final reply and Redis holds no job any more, or for too long."""
        with anyio.move_on_after(SETTLE_SECONDS):
            while self.observer.waited_for or self._left(client):  # noqa: ASYNC110 - S3 and Redis tell nobody
                await anyio.sleep(LOOK_SECONDS)

    @staticmethod
    def _left(client: redis.Redis) -> list[str]:
        keys: Any = client.keys()
        return sorted(key.decode() for key in keys if not key.startswith(b"worker:"))

    def _look_back(self, client: redis.Redis) -> None:
        """Look at everything once more: no final reply may have changed, and nothing may be left over."""
        observer = self.observer
        observer.look(also_final=True)
        for job_id in observer.waited_for:
            reply = observer.jobs[job_id].reply
            observer.note("lost", job_id, f"no final reply but {reply and reply['status']}")
        for key in self._left(client):
            observer.note("wrong", key, "left in Redis")
        for key in observer.uploads():
            observer.note("wrong", key, "left as an open multipart upload")
        for name, worker in self.world.workers.items():
            if worker.ends != self.ends[name]:
                observer.note("wrong", f"worker {name}", f"ended {dict(worker.ends)}, for {dict(self.ends[name])}")
        self.events = observer.check_logs([worker.log for worker in self.world.workers.values()])

    @property
    def problems(self) -> list[str]:
        """What must not have happened, a line each."""
        return [f"{kind} {what}" for kind in BROKEN for what in self.observer.broken[kind]]

    @property
    def numbers(self) -> dict[str, int]:
        """How many jobs became what."""
        accepted = [watched for watched in self.observer.jobs.values() if watched.is_accepted]
        final = [watched.reply for watched in accepted if watched.is_final]
        ended = Counter(reply["status"] for reply in final)
        codes = Counter(f"  {reply['error']['code']}" for reply in final if reply["status"] == "failed")
        return {
            "accepted": len(accepted),
            "refused while Redis was away": self.refused,
            **{status: ended[status] for status in ("done", "cancelled", "failed")},
            **codes,
            "expired": ended["expired"],
            "resumed (attempt > 1)": sum(reply["attempt"] > 1 for reply in final),
            "  in the middle of a reply": self.events[RESUMED_EVENT],
            **{kind: len(self.observer.broken[kind]) for kind in BROKEN},
        }

    @property
    def report(self) -> str:
        """All of it as a table, and the problems."""
        ends = sum(worker.ends.total() for worker in self.world.workers.values())
        rows = [
            *self.numbers.items(),
            *((kind, self.faults[kind]) for kind in Kind),
            ("workers started again", ends),
            ("seconds", round(self.seconds)),
        ]
        return "\n".join([table(["storm", ""], rows), *self.problems])


def storm(jobs: int, seed: int, logs: Path | None = None, say: Callable[[str], None] = lambda _: None) -> Storm:
    """Start everything, let a storm pass and end everything; return what came of it."""
    with World(logs) as world:
        passed = Storm(world, plan(seed, jobs), say)
        anyio.run(passed.run)
    return passed


def main(arguments: list[str]) -> int:
    """Run one storm and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.process.storm", description="Lets a storm pass.")
    parser.add_argument("--jobs", type=int, default=1_000, help="default %(default)s")
    parser.add_argument("--seed", type=int, default=7, help="default %(default)s")
    parser.add_argument("--logs", type=Path, help="folder in which the logs stay; must exist")
    options = parser.parse_args(arguments)
    began = time.monotonic()

    def say(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", file=sys.stderr)  # noqa: T201 - a command line prints

    try:
        passed = storm(options.jobs, options.seed, options.logs, say)
    except KeyboardInterrupt:
        say("interrupted; everything is stopped")
        return 130
    print(passed.report)  # noqa: T201 - as above
    return 1 if passed.problems else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
