"""Starts the GPU when work waits and nobody else can: a job that came while the instance was stopping.

EC2 does not start an instance that stops. So the router queues the job, and EventBridge calls this function when the
instance has stopped ("EC2 Instance State-change Notification"); a schedule calls it every minute as well, should an
event be lost or a start have been refused. Jobs that were cancelled or ran out of time before any worker came get their
final reply from here: docs/adr/ADR-2026-11-25-waker-and-reaper.md.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from router_lambda import logs
from router_lambda.budget import OVER_BUDGET, make_check
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gpu import CALL_SECONDS, REFUSED_SECONDS, START_SECONDS, Gpu
from router_lambda.overdue import SLOWEST_SECONDS, Overdue
from router_lambda.queue import Moot, Queue, connect
from router_lambda.settings import RouterSettings

PAUSES: Final = tuple(float(REFUSED_SECONDS + pause) for pause in (1, 7, 19))
"""Seconds between the tries of one invocation: 6, 12 and 24, longer than the routers repeat a refusal. The schedule
goes on after them for as long as a job waits, which is 300 s at most."""

LOOK_SECONDS: Final = float(CALL_SECONDS + START_SECONDS)
"""Longest that a look takes: EC2 is asked for its instances, and to start one."""

_LASTING: Final = frozenset({"NoInstance", OVER_BUDGET})
"""Codes of refusals that nobody lifts within a minute."""


@dataclass(frozen=True, slots=True)
class Stopped:
    """What EventBridge says: the instance `id` had stopped `at`, in Unix seconds. It may say so late, and twice."""

    id: str
    at: float

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> Stopped | None:
        """Read an event; `None` for the schedule's, and for other states than this one."""
        detail = event.get("detail") or {}
        if detail.get("state") != "stopped":
            return None
        return cls(detail["instance-id"], datetime.fromisoformat(event["time"]).timestamp())

    def is_news_of(self, instance: Instance) -> bool:
        """Tell whether an instance has not been started again since."""
        return instance.id == self.id and instance.launched_at < self.at


class Waker:
    """Wakes the GPU behind `ec2` for what waits in `queue`."""

    def __init__(
        self, ec2: Ec2, gpu: Gpu, queue: Queue, overdue: Overdue, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        """Take the parts; `sleep` waits for so many seconds."""
        self._ec2 = ec2
        self._gpu = gpu
        self._queue = queue
        self._overdue = overdue
        self._sleep = sleep

    def __call__(self, stopped: Stopped | None, seconds_left: Callable[[], float]) -> str:
        """Look once, and again for as long as a start is refused; return what came of it, in a word or two.

        `stopped` is what EC2 has just said, which its own list may say later; `seconds_left` is the time that this
        invocation has.

        Raises:
            QueueUnavailable: Redis cannot be reached.
        """
        for pause in (*PAUSES, math.inf):
            outcome = self._look(stopped, seconds_left)
            if isinstance(outcome, str):
                return outcome
            if outcome.code in _LASTING or seconds_left() < pause + LOOK_SECONDS:
                if outcome.code != OVER_BUDGET:  # that is no failure, and counted as `BudgetRefusals`
                    logs.count("WakerFailures", code=outcome.code)
                return f"refused: {outcome.code}"
            self._sleep(pause)
        raise AssertionError("no invocation lasts for ever")

    def _look(self, stopped: Stopped | None, seconds_left: Callable[[], float]) -> str | Ec2Unavailable:
        """Do what there is to do; return what came of it, or why a start was refused."""
        work = self._queue.take_overdue()
        outcome: str | Ec2Unavailable = "nothing waits"
        if work.live:
            try:
                outcome = self._start(stopped)
            except Ec2Unavailable as refusal:
                outcome = refusal
        # Not before the start: to answer takes a while if S3 is slow, or if they are many.
        self._answer(work.moot, work.refusal if isinstance(outcome, str) else str(outcome), seconds_left)
        return outcome

    def _start(self, stopped: Stopped | None) -> str:
        """Start an instance if none runs; return what came of it.

        Raises:
            Ec2Unavailable: EC2 or the budget refuses, or there is no instance.
        """
        down = []
        for instance in self._ec2.instances():
            if instance.state == "stopped" or (stopped is not None and stopped.is_news_of(instance)):
                down.append(instance)
            elif instance.is_up:
                return "an instance runs"
        if not down:
            return "stopping"
        self._gpu.start(down[0].id)
        return "started"

    def _answer(self, jobs: Sequence[Moot], refusal: str | None, seconds_left: Callable[[], float]) -> None:
        """Answer jobs that take no worker, as many as there is time for; the rest is looked at again later."""
        for job in jobs:
            if seconds_left() < SLOWEST_SECONDS:
                return
            if self._overdue.answer(job, refusal):
                self._queue.forget(job.id)


@cache
def _waker() -> Waker:
    settings = RouterSettings.from_environment(os.environ)
    client, ec2 = connect(settings.health.redis_url), Ec2(settings.gpu_tag)
    gpu = Gpu(ec2, client, check=make_check(settings.bucket, settings.budget_eur))
    return Waker(ec2, gpu, Queue(client), Overdue(settings.bucket))


def handler(event: Mapping[str, Any], context: Any) -> dict[str, str]:
    """Lambda's entry point, for both kinds of events.

    Raises:
        QueueUnavailable: Redis cannot be reached. Lambda counts it as an error, and the schedule tries again.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    stopped = Stopped.from_event(event)
    outcome = _waker()(stopped, lambda: context.get_remaining_time_in_millis() / 1e3)
    logs.line(event="wake", stopped=stopped and stopped.id, outcome=outcome)
    return {"outcome": outcome}
