"""`GET /status`: whether the GPU is there, how far it is, what it does, and when it will stop."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal

import redis

from router_lambda.admission import Admission, explained
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gpu import SETTLED_SECONDS, Gpu, noted_start
from router_lambda.heartbeat import Heartbeat, read_all, read_object
from router_lambda.http import Request, answer
from router_lambda.job import GPU_BOOTING, GPU_CLOSING, GPU_REFUSED, GPU_WAKING, QUEUE_READY
from router_lambda.queue import closing_at, translated

State = Literal["stopped", "starting", "booting", "ready", "stopping"]

Phase = Literal["instance", "imports", "engine"]
"""What a GPU that is not ready yet is busy with: EC2 and the operating system, vLLM's imports, the model."""


@dataclass(frozen=True, slots=True)
class Situation:
    """All that is known at one moment, and what follows from it. Times are Unix seconds.

    Attributes:
        waiting: jobs that no worker has taken.
        closing_at: when the GPU announced its own stop, `None` if it did not.
        started_at: when a router last started the instance, 0 if that is not known.
        loading: what a worker that loads is busy with, `None` if none does.
        problem: why EC2 or the budget refused to start the instance, or why there is none.
        instance: the one that can work soonest, `None` if there is none or EC2 was not asked.
    """

    now: float
    waiting: int = 0
    closing_at: float | None = None
    started_at: float = 0.0
    loading: Phase | None = None
    problem: str | None = None
    workers: tuple[Heartbeat, ...] = ()
    instance: Instance | None = None

    @property
    def awake(self) -> list[Heartbeat]:
        """The workers that take jobs."""
        return [worker for worker in self.workers if worker.is_awake]

    @property
    def is_clear(self) -> bool:
        """Whether the GPU is ready whatever EC2 says."""
        return bool(self.awake) and self.closing_at is None

    @property
    def state(self) -> State:
        """What the GPU does; `stopped` also if it does not exist."""
        if self.is_clear:
            return "ready"
        if self.instance is None:
            return "stopped"
        if self.instance.state == "stopped":
            return "starting" if self._is_start_unseen else "stopped"
        if self.instance.state == "stopping" or self._announced_at is not None:
            return "stopping"
        return self._state_of_running

    @property
    def _state_of_running(self) -> State:
        if self.awake:
            return "ready"
        if self.workers:
            return "stopping"
        return "starting" if self.loading is None else "booting"

    @property
    def _is_start_unseen(self) -> bool:
        """Whether EC2, which is eventually consistent, may not show the last start yet."""
        return self.now - self.started_at < SETTLED_SECONDS

    @property
    def _announced_at(self) -> float | None:
        """When the instance announced the stop to come; an announcement from before its start is of an earlier one."""
        launched_at = 0.0 if self.instance is None else self.instance.launched_at
        is_valid = self.closing_at is not None and self.closing_at >= max(launched_at, self.started_at)
        return self.closing_at if is_valid else None

    @property
    def phase(self) -> Phase | None:
        """What a GPU that comes is busy with."""
        match self.state:
            case "starting":
                return "instance"
            case "booting":
                return self.loading
            case _:
                return None

    @property
    def awaited(self) -> tuple[Instance, float | None] | None:
        """The instance that somebody waits for and when it began to stop, for `Gpu.seconds_until_ready`; or `None`."""
        state, instance = self.state, self.instance
        if instance is None or state == "ready" or (state in {"stopping", "stopped"} and not self.waiting):
            return None
        if state == "stopping":
            return instance, self.now if self._announced_at is None else self._announced_at
        if state == "starting" and instance.state == "stopped":
            return replace(instance, state="pending"), None
        return instance, None

    @property
    def idle_seconds(self) -> float | None:
        """Seconds until the last worker stops, at least 0; `None` while something waits or runs, or that is unknown."""
        deadlines = [worker.idle_deadline for worker in self.awake]
        known = [deadline for deadline in deadlines if deadline is not None]
        if self.state != "ready" or self.waiting or len(known) < len(deadlines):
            return None
        return round(max(0.0, max(known) - self.now), 3)

    def document(self, eta: int | None) -> dict[str, Any]:
        """Return the body of the answer; `eta` is what `Gpu.seconds_until_ready` says of `awaited`."""
        return {
            "state": self.state,
            "phase": self.phase,
            "eta": eta,
            "waiting": self.waiting,
            "running": sum(worker.running for worker in self.workers),
            "model": self.awake[0].model if self.awake else None,
            "idle_seconds": self.idle_seconds,
            "problem": self.problem if self.state == "stopped" else None,
        }


class Status:
    """The route."""

    def __init__(
        self,
        admission: Admission,
        client: redis.Redis,
        ec2: Ec2,
        gpu: Gpu,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._admission = admission
        self._client = client
        self._ec2 = ec2
        self._gpu = gpu
        self._clock = clock

    def __call__(self, request: Request) -> dict[str, Any]:
        """Answer 200.

        Raises:
            Problem: the request is refused, or what is to be known cannot be.
        """
        sub = self._admission.subject(request)
        with explained("RedisStatusFail"):
            self._admission.admit(sub, "status")
            found = self._look()
            if not found.is_clear:
                found = self._ask_ec2(found)
            eta = None if found.awaited is None else self._gpu.seconds_until_ready(*found.awaited)
        return answer(200, found.document(eta))

    def _look(self) -> Situation:
        """Read all that Redis knows.

        Raises:
            QueueUnavailable: Redis cannot be reached.
        """
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.llen(QUEUE_READY)
            pipeline.pttl(GPU_CLOSING)
            pipeline.get(GPU_WAKING)
            pipeline.get(GPU_BOOTING)
            pipeline.get(GPU_REFUSED)
            waiting, closing_ms, waking, booting, refused = pipeline.execute()
            workers = tuple(read_all(self._client))
        now = self._clock()
        return Situation(
            now=now,
            waiting=waiting,
            closing_at=closing_at(now, closing_ms),
            started_at=noted_start(waking),
            loading=_loading(booting),
            problem=None if refused is None else refused.decode("utf-8", "replace"),
            workers=workers,
        )

    def _ask_ec2(self, found: Situation) -> Situation:
        """Add what EC2 knows.

        Raises:
            Ec2Unavailable: it does not answer.
        """
        try:
            return replace(found, instance=self._ec2.instances()[0])
        except Ec2Unavailable as error:
            if error.code == "NoInstance":
                return replace(found, problem=str(error))
            raise


def _loading(note: bytes | None) -> Phase | None:
    """Return what `gpu:booting` says that a worker is busy with."""
    phase = read_object(note).get("phase")
    return phase if phase in ("imports", "engine") else None
