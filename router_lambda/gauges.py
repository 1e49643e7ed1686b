"""The gauges Lambda: every minute, says how many jobs wait, how many GPUs are up, and for how long they ran.

The last of these is what the spend is made of. Each event is about the whole minute of UTC before its `time`, so that
the runs of a schedule neither overlap nor leave gaps, however late each is; and an instance's run, from its launch to
its stop, is laid over that minute. What comes of the odd cases, with a g4dn.xlarge at USD 0.011 a minute:

- An instance that is `pending` counts from its launch on, some seconds before AWS's own clock starts. One that stops
  counts up to the moment at which it began to, by EC2's word. Where EC2 does not say when, as after a shutdown from
  within, that minute is lost: less than one a stop.
- AWS bills a run with 60 s at least, and so do we: a start and a stop within a minute count 60 s, over two minutes.
- EC2 remembers the newest run alone: what the one before had of the minute of its stop is lost if the instance is
  started again before we look. So is the last minute of one that is terminated. Less than a minute each.
- EventBridge may deliver twice, and Lambda repeats what failed. A minute is counted once by one process, which Lambda
  keeps for hours; by another it would be counted again, as CloudWatch adds up what it gets: a minute's price too much.
- A minute that was missed, as EC2 did not answer or as no event came, is made up for by the next run of the process.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import cache, partial
from typing import Final

import redis

from router_lambda import logs
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.job import QUEUE_OPEN, QUEUE_READY
from router_lambda.queue import QueueUnavailable, connect, translated
from router_lambda.watch_settings import GaugesSettings

QUEUE_NAMESPACE: Final = "TLFIF/Queue"
COST_NAMESPACE: Final = "TLFIF/Cost"

MINUTE: Final = 60
"""Seconds; also the shortest run that AWS bills (Amazon EC2 On-Demand Pricing, Linux)."""

OLDEST_SECONDS: Final = 6 * 3_600
"""Age up to which an event's `time` is believed: as long as Lambda keeps one (its default maximum event age)."""

MOST_MADE_UP: Final = 30
"""How many minutes are made up for at most."""


def run_seconds(instances: Sequence[Instance], minute: float) -> float:
    """Return for how many seconds instances ran, together, in the minute that began at `minute`, in Unix seconds."""
    return math.fsum(_overlap(each, minute) for each in instances)


def _overlap(instance: Instance, minute: float) -> float:
    if instance.is_up:
        end = minute + MINUTE
    elif instance.stopped_at is not None and instance.stopped_at >= instance.launched_at:
        end = max(instance.stopped_at, instance.launched_at + MINUTE)
    else:
        return 0.0  # nobody says when it stopped
    return max(0.0, min(end, minute + MINUTE) - max(instance.launched_at, minute))


def minute_end(event: object, now: float) -> int:
    """Return the end of the minute that an event is about; times are Unix seconds.

    An event whose `time` is none, or none of these hours, as of a test by hand, is one of `now`.
    """
    at = now
    if isinstance(event, Mapping):
        try:
            said = datetime.fromisoformat(event["time"]).timestamp()
        except (KeyError, TypeError, ValueError, OverflowError):
            said = now
        at = said if now - OLDEST_SECONDS <= said <= now + MINUTE else now
    return int(at // MINUTE) * MINUTE


class Gauges:
    """Looks at EC2 and at the queue behind `client`; `clock` gives Unix seconds."""

    def __init__(self, ec2: Ec2, client: redis.Redis, clock: Callable[[], float] = time.time) -> None:
        self._ec2 = ec2
        self._client = client
        self._clock = clock
        self._counted_up_to: int | None = None

    def look(self, event: object) -> dict[str, float]:
        """Look once, for an event of the schedule; return the metrics that were written, by name.

        Raises:
            QueueUnavailable: Redis cannot be reached; what EC2 says is written.
            Ec2Unavailable: EC2 cannot be reached; what Redis says is written.
        """
        end = minute_end(event, self._clock())
        written: dict[str, float] = {}
        failed: list[Exception] = []
        parts: tuple[Callable[[], dict[str, float]], ...] = (self._look_at_queue, partial(self._look_at_gpus, end))
        for part in parts:
            try:
                written |= part()
            except (QueueUnavailable, Ec2Unavailable) as error:
                failed.append(error)
        if failed:
            raise failed[0]
        return written

    def _look_at_queue(self) -> dict[str, float]:
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.llen(QUEUE_READY)
            pipeline.zcard(QUEUE_OPEN)
            ready, is_open = pipeline.execute()
        logs.gauge(QUEUE_NAMESPACE, {"QueueDepth": (ready, "Count"), "JobsOpen": (is_open, "Count")})
        return {"QueueDepth": ready, "JobsOpen": is_open}

    def _look_at_gpus(self, end: int) -> dict[str, float]:
        """Write how many are up now, and how long they ran up to `end`."""
        instances = self._ec2.find()
        up = sum(each.is_up for each in instances)
        logs.gauge(QUEUE_NAMESPACE, {"GpusUp": (up, "Count")})
        total = 0.0
        for minute in self._uncounted(end):
            seconds = run_seconds(instances, minute)
            # As of that minute: at midnight it belongs to the day, and perhaps to the month, that has just ended.
            logs.gauge(COST_NAMESPACE, {"GpuSeconds": (seconds, "Seconds")}, at=minute)
            total += seconds
        self._counted_up_to = max(end, self._counted_up_to or end)
        return {"GpusUp": up, "GpuSeconds": total}

    def _uncounted(self, end: int) -> range:
        """Return the beginnings of the minutes up to `end` that were not counted yet."""
        begin = end - MINUTE if self._counted_up_to is None else max(self._counted_up_to, end - MOST_MADE_UP * MINUTE)
        return range(begin, end, MINUTE)


@cache
def _gauges() -> Gauges:
    settings = GaugesSettings.from_environment(os.environ)
    return Gauges(Ec2(settings.gpu_tag), connect(settings.redis_url))


def handler(event: object, _context: object) -> dict[str, float]:
    """Lambda's entry point, for a schedule.

    Raises:
        QueueUnavailable, Ec2Unavailable: see `Gauges.look`. Lambda counts them as errors, and tries twice more.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    return _gauges().look(event)
