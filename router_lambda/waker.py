"""Starts the GPU when work waits and nobody else can: a job that came while the instance was stopping.

EC2 does not start an instance that stops. So the router queues the job, and EventBridge calls this function when the
instance has stopped ("EC2 Instance State-change Notification"); a schedule calls it every minute as well, should an
event be lost or a start have been refused. Jobs that ran out of time meanwhile get their final reply from here.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Any, Final

from router_lambda import logs
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gpu import CALL_SECONDS, REFUSED_SECONDS, Gpu
from router_lambda.overdue import Overdue
from router_lambda.queue import Queue, connect
from router_lambda.settings import RouterSettings

PAUSES: Final = tuple(float(REFUSED_SECONDS + pause) for pause in (1, 7, 19))
"""Seconds between the tries of one invocation: 6, 12 and 24, longer than the routers repeat a refusal. The schedule
goes on after them for as long as a job waits, which is 300 s at most."""


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
        self._ec2 = ec2
        self._gpu = gpu
        self._queue = queue
        self._overdue = overdue
        self._sleep = sleep

    def __call__(self, stopped: Stopped | None, seconds_left: Callable[[], float]) -> str:
        """Look once, and again for as long as EC2 refuses; return what came of it, in a word or two.

        `stopped` is what EC2 has just said, which its own list may say later; `seconds_left` is the time that this
        invocation has.

        Raises:
            QueueUnavailable: Redis cannot be reached.
        """
        for pause in (*PAUSES, None):
            try:
                return self._look(stopped)
            except Ec2Unavailable as refusal:
                if pause is None or seconds_left() < pause + CALL_SECONDS:
                    logs.count("WakerFailures", code=refusal.code)
                    return f"refused: {refusal.code}"
                self._sleep(pause)
        raise AssertionError("the last pause is none")

    def _look(self, stopped: Stopped | None) -> str:
        work = self._queue.take_overdue()
        for job_id, enqueued_at in work.overdue:
            if self._overdue.answer(job_id, enqueued_at, work.refusal):
                self._queue.forget(job_id)
        if not work.live:
            return "nothing waits"
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


@cache
def _waker() -> Waker:
    settings = RouterSettings.from_environment(os.environ)
    client, ec2 = connect(settings.health.redis_url), Ec2(settings.gpu_tag)
    return Waker(ec2, Gpu(ec2, client), Queue(client), Overdue(settings.bucket))


def handler(event: Mapping[str, Any], context: Any) -> dict[str, str]:
    """Lambda's entry point, for both kinds of events."""
    stopped = Stopped.from_event(event)
    outcome = _waker()(stopped, lambda: context.get_remaining_time_in_millis() / 1e3)
    logs.line(event="wake", stopped=stopped and stopped.id, outcome=outcome)
    return {"outcome": outcome}
