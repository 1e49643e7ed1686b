"""The reaper Lambda: every minute, stops what costs money and is of no use. It needs nothing from the node itself.

An instance is stopped when its worker gives no sign of life, when its engine produces nothing although work waits, or
when it has run for longer than a session may take. What waited or ran stays in the queue, and `router_lambda.waker`
starts the instance again for it. That is no endless round: a job that nobody takes expires after `JOB_TTL_SECONDS`, and
one whose worker is stopped again and again fails after three tries.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

import redis

from router_lambda import logs
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.heartbeat import Heartbeat, read_all
from router_lambda.job import GPU_UNSEEN, GPU_WAKING, QUEUE_OPEN, job_key
from router_lambda.queue import QueueUnavailable, connect, translated
from router_lambda.settings import DEFAULT_MAX_SESSION_MINUTES, ReaperSettings

STALE_SECONDS: Final = 300.0
"""How long a heartbeat may be missing: longer than a worker takes to crash and to load its model again."""

BOOT_SECONDS_ALLOWED: Final = 900.0
"""Time after a launch in which no heartbeat is missed; the worker's own watchdog acts at
TLFIF_BOOT_DEADLINE_SECONDS, which is 600 by default."""

SILENT_SECONDS: Final = 180.0
"""How long no token may come while work waits: three times the worker's own TLFIF_STALL_SECONDS."""

UNSEEN_SECONDS: Final = 3_600
"""Life of `gpu:unseen` after the last look."""

OLDEST_LUA: Final = """
-- Finds what has waited or run for longest. An id without a payload has expired: all that it waits for is its last
-- word, which takes no engine. KEYS: queue:open. ARGV: prefix of payload keys.
-- Returns the enqueue time (Unix seconds, as text), or an empty string. The cost is linear in what has expired.
local open = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
for i = 1, #open, 2 do
  if redis.call('EXISTS', ARGV[1]..open[i]) == 1 then return open[i + 1] end
end
return ''
"""

Metric = Literal["ReapedStale", "ReapedSilent", "ReapedOverlong"]
"""Why an instance is stopped, by the name of the metric that counts it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How much is put up with, in seconds; see the constants of the same names."""

    stale_seconds: float = STALE_SECONDS
    boot_seconds: float = BOOT_SECONDS_ALLOWED
    silent_seconds: float = SILENT_SECONDS
    session_seconds: float = DEFAULT_MAX_SESSION_MINUTES * 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """What Redis knows.

    Attributes:
        heartbeats: those of every worker, wherever it runs.
        unseen: Unix seconds of the first look that found no heartbeat, by instance id.
        oldest_open: when the oldest job that is not finished and not expired was queued, in Unix seconds.
    """

    heartbeats: Sequence[Heartbeat] = ()
    unseen: Mapping[str, float] | None = None
    oldest_open: float | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """An instance to be stopped, why, and for how many seconds that has been so."""

    instance: str
    metric: Metric
    seconds: float


def verdicts(instances: Sequence[Instance], seen: Seen | None, now: float, limits: Limits) -> list[Verdict]:
    """Decide which instances are to be stopped at `now`, in Unix seconds.

    Without Redis, `seen` is `None`, and all that can be judged is how long an instance has run.

    A heartbeat that is missing is not a silent engine: an instance without one may be booting, and is given the time
    for that. So where nothing comes although work waits, only those instances are stopped that claim to be there.
    """
    missing = {} if seen is None else missing_since(instances, seen, now)
    silence = None if seen is None else _silence(seen, now, limits)
    found = []
    for each in instances:
        if not each.is_up:
            continue
        runs, is_missing = now - each.launched_at, each.id in missing
        absence = now - missing.get(each.id, now)
        if is_missing and absence >= limits.stale_seconds and runs >= limits.boot_seconds:
            found.append(Verdict(each.id, "ReapedStale", absence))
        elif silence is not None and not is_missing and runs >= limits.silent_seconds:
            found.append(Verdict(each.id, "ReapedSilent", silence))
        elif runs > limits.session_seconds:
            found.append(Verdict(each.id, "ReapedOverlong", runs))
    return found


def missing_since(instances: Sequence[Instance], seen: Seen, now: float) -> dict[str, float]:
    """Return since when, in Unix seconds, each instance that is up has had no heartbeat; those that have one are out.

    A heartbeat belongs to the instance that it names, else to that of its worker's name. One that leads to no instance,
    of a worker that has another name and knows of no instance, is the only one's that is up, if just one is.
    """
    up = [each for each in instances if each.is_up]
    alive = {each.instance or each.worker for each in seen.heartbeats}
    ids = {each.id for each in instances}
    if len(up) == 1 and any(each.instance is None and each.worker not in ids for each in seen.heartbeats):
        alive.add(up[0].id)
    earlier = seen.unseen or {}
    # A look from before the launch was at an earlier run, and one from the future is a mistake.
    return {each.id: min(now, max(earlier.get(each.id, now), each.launched_at)) for each in up if each.id not in alive}


def _silence(seen: Seen, now: float, limits: Limits) -> float | None:
    """Return for how many seconds no engine has worked although something waits, `None` if that is not so.

    A job that waits behind others does not count as long as tokens come for anybody. A worker that does not say when
    its engine worked is given the benefit of the doubt, as it may be busy with just that job. So is one whom S3 does
    not answer: it may have finished that job, and waits to write its reply.
    """
    if seen.oldest_open is None or now - seen.oldest_open <= limits.silent_seconds:
        return None
    if any(each.is_degraded for each in seen.heartbeats):
        return None
    active = [each.active_at for each in seen.heartbeats]
    known = [each for each in active if each is not None]
    if not known or len(known) < len(active):
        return None
    silence = now - max(known)
    return silence if silence > limits.silent_seconds else None


class NotStopped(Exception):
    """EC2 did not stop every instance that it should; the next look, in a minute, tries again."""

    def __init__(self, codes: Mapping[str, str]) -> None:
        named = ", ".join(f"{instance} ({code})" for instance, code in codes.items())
        super().__init__(f"EC2 did not stop {named}; if the next look does not either, stop it by hand")


class Reaper:
    """Looks at EC2 and Redis and stops what `verdicts` says."""

    def __init__(
        self,
        ec2: Ec2,
        client: redis.Redis,
        limits: Limits,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take what is to be looked at; `clock` gives Unix seconds."""
        self._ec2 = ec2
        self._client = client
        self._limits = limits
        self._clock = clock
        self._oldest = client.register_script(OLDEST_LUA)

    def reap(self) -> dict[str, Any]:
        """Look once; return the ids that were stopped, as `stopped`, and the number of instances, as `looked_at`.

        Raises:
            Ec2Unavailable: nobody knows which instances there are.
            NotStopped: one or more should have been stopped and were not; the others were.
        """
        instances = self._ec2.find()
        if not instances:
            return {"stopped": [], "looked_at": 0}
        seen = self._look()
        now = self._clock()
        if seen is not None:
            self._remember(missing_since(instances, seen, now))
        stopped = self._stop(verdicts(instances, seen, now, self._limits))
        return {"stopped": stopped, "looked_at": len(instances)}

    def _look(self) -> Seen | None:
        """Read all that Redis knows, `None` if it cannot be reached."""
        try:
            with translated():
                heartbeats = read_all(self._client)
                unseen: Any = self._client.hgetall(GPU_UNSEEN)
                oldest: Any = self._oldest(keys=[QUEUE_OPEN], args=[job_key("")])
        except QueueUnavailable as error:
            logs.count("ReaperBlind", reason=str(error))
            return None
        return Seen(heartbeats, _moments(unseen), float(oldest) if oldest else None)

    def _remember(self, missing: Mapping[str, float]) -> None:
        """Keep since when heartbeats are missing. If that fails, a worker that died is never noticed."""
        try:
            with translated():
                pipeline = self._client.pipeline()
                pipeline.delete(GPU_UNSEEN)
                if missing:
                    pipeline.hset(GPU_UNSEEN, mapping={name: str(since) for name, since in missing.items()})
                    pipeline.expire(GPU_UNSEEN, UNSEEN_SECONDS)
                pipeline.execute()
        except QueueUnavailable as error:
            logs.count("ReaperBlind", reason=str(error))

    def _stop(self, condemned: Sequence[Verdict]) -> list[str]:
        """Stop one after the other, whatever becomes of the others, and return those that were.

        Raises:
            NotStopped: naming those that were not.
        """
        if condemned:
            self._forget_start()
        stopped: list[str] = []
        failed: dict[str, str] = {}
        for each in condemned:
            try:
                self._ec2.stop([each.instance])
            except Ec2Unavailable as error:
                logs.count("ReaperFailures", instance=each.instance, code=error.code)
                failed[each.instance] = error.code
            else:
                logs.count(each.metric, instance=each.instance, seconds=round(each.seconds, 3))
                stopped.append(each.instance)
        if failed:
            raise NotStopped(failed)
        return stopped

    def _forget_start(self) -> None:
        """Forget that a start was asked for, so that the next one who needs the GPU may ask again at once."""
        try:
            with translated():
                self._client.delete(GPU_WAKING)
        except QueueUnavailable as error:
            logs.line(event="gpu:waking not deleted", reason=str(error))


def _moments(unseen: Mapping[bytes, bytes]) -> dict[str, float]:
    """Return what `gpu:unseen` holds, without what is none of ours."""
    read = {}
    for instance, text in unseen.items():
        try:
            since = float(text)
        except ValueError:
            continue
        if math.isfinite(since):
            read[instance.decode("utf-8", "replace")] = since
    return read


def build(settings: ReaperSettings) -> Reaper:
    """Put the reaper together."""
    limits = Limits(session_seconds=settings.max_session_minutes * 60.0)
    return Reaper(Ec2(settings.gpu_tag), connect(settings.redis_url), limits)


@cache
def _reaper() -> Reaper:
    return build(ReaperSettings.from_environment(os.environ))


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Lambda's entry point, for a schedule; what the event says does not matter.

    Raises:
        Ec2Unavailable, NotStopped: see `Reaper.reap`. Lambda counts them as errors.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    return _reaper().reap()
