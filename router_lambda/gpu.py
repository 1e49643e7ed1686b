"""The GPU: starts its instance when work waits, stops it on request, and says how long that takes.

Several Lambdas may want to start it at once. They agree through the key `gpu:waking`:

- absent: whoever sets it to `calling` calls StartInstances, and the others wait for what comes of it;
- `started:<Unix seconds>`: it is on its way, although EC2, which is eventually consistent, may still say `stopped`;
- `failed:<JSON>`: EC2 or the budget refused a moment ago, and asking again at once would change nothing.

The worker deletes the key when it is ready. Why it was refused is kept for longer in `gpu:refused`, for people.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import redis

from router_lambda import logs
from router_lambda.backlog import DEFAULT_BOOT_SECONDS
from router_lambda.budget import CHECK_SECONDS, REFUSALS, Check, unlimited
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.http import TRY_AGAIN_SECONDS
from router_lambda.job import (
    GPU_BOOTING,
    GPU_BOOTS,
    GPU_CLOSING,
    GPU_FLEET,
    GPU_REFUSED,
    GPU_STOP,
    GPU_WAKING,
    JOB_TTL_SECONDS,
)
from router_lambda.queue import Queue, QueueUnavailable, translated

STOP_SECONDS: Final = 45.0
"""How long an instance takes to stop, about; it cannot be started before."""

CALL_SECONDS: Final = 7
"""Longest that a call to EC2 takes, see `router_lambda.ec2`."""

START_SECONDS: Final = CHECK_SECONDS + CALL_SECONDS
"""Longest that a start takes: a look at the budget and the call; whoever has not reported by then is taken for dead."""

SETTLED_SECONDS: Final = 10
"""Time after a start from which on EC2 is believed when it says `stopped`: the boot has failed."""

BOOT_SECONDS: Final = 300
"""Life of the note that the GPU was started: longer than a boot takes."""

REFUSED_SECONDS: Final = 5
"""Life of the note that a start was refused."""

FLEET_SECONDS: Final = 10
"""Time between two looks whether one more instance is worth its price."""

SHORTEST_BOOT_SECONDS: Final = 10.0
"""No boot takes less, so that no backlog below this is worth another one, nor a look at how long boots take."""

_POLL_SECONDS: Final = 0.05

CLAIM_START_LUA: Final = """
-- Decides who calls StartInstances. KEYS: gpu:waking. ARGV: now (Unix seconds), seconds after which a start that
-- left the instance stopped has failed, longest duration of a start (seconds).
-- Returns go to the one who is to call, and what the key holds to all others.
local note = redis.call('GET', KEYS[1])
if note then
  local started = tonumber(note:match('^started:(.+)$'))
  if not started or tonumber(ARGV[1]) - started < tonumber(ARGV[2]) then
    return note
  end
end
redis.call('SET', KEYS[1], 'calling', 'EX', ARGV[3])
return 'go'
"""


class Gpu:
    """Wakes and stops the instance behind `ec2`; the Lambdas agree through `client`.

    `check` has to let each start pass, right before the call, whoever asks for it.

    The public methods raise `Ec2Unavailable` and `QueueUnavailable`.
    """

    def __init__(
        self,
        ec2: Ec2,
        client: redis.Redis,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
        check: Check = unlimited,
    ) -> None:
        self._ec2 = ec2
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._check = check
        self._claim_start = client.register_script(CLAIM_START_LUA)

    def wake(self, closing_at: float | None) -> int:
        """Start the instance if it is stopped; return the seconds until it is ready, at least 1.

        `closing_at` is when it announced its own stop, in Unix seconds. An instance that is stopping cannot be
        started yet; `router_lambda.waker` does that once it has stopped.
        """
        instance = self._ec2.instances()[0]
        boot, note = self._known()
        if instance.state == "stopped":
            return self._left(self.start(instance.id) + boot)
        return self._left(self._started_at(instance, closing_at, note) + boot)

    def seconds_until_ready(self, instance: Instance, closing_at: float | None) -> int:
        """Return how long it takes until a worker on an instance is ready, at least 1 s.

        One that is stopping, or has announced it, has to stop first; one that is stopped would be started now.
        """
        boot, note = self._known()
        return self._left(self._started_at(instance, closing_at, note) + boot)

    def _known(self) -> tuple[float, bytes | None]:
        """Return how long a boot takes, in seconds, and the note in `gpu:waking`."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.lrange(GPU_BOOTS, 0, -1)
            pipeline.get(GPU_WAKING)
            boots, note = pipeline.execute()
        return boot_seconds(boots), note

    def _started_at(self, instance: Instance, closing_at: float | None, note: bytes | None) -> float:
        """Return when an instance was or will be started, in Unix seconds."""
        now = self._clock()
        started_at = max(instance.launched_at, noted_start(note))
        if instance.state == "stopping" or (closing_at is not None and closing_at >= started_at):
            return max(now, (now if closing_at is None else closing_at) + STOP_SECONDS)
        return now if instance.state == "stopped" else started_at

    def _left(self, ready_at: float) -> int:
        return max(1, math.ceil(ready_at - self._clock()))

    def reinforce(self, backlog_seconds: float, most: int) -> None:
        """Start one more instance if what waits would keep those that run busy for longer than a boot takes.

        `backlog_seconds` is how long one of them would need for it, `most` how many may run. One at a time, and a look
        every `FLEET_SECONDS`: a boot that is under way may be enough. Raises nothing: the job is well queued where it
        is, and what cannot be asked or started is only logged.
        """
        if most <= 1 or backlog_seconds <= SHORTEST_BOOT_SECONDS:
            return
        try:
            self._add_one(backlog_seconds, most)
        except (Ec2Unavailable, QueueUnavailable) as error:
            logs.line(event="no instance added", reason=str(error))

    def _add_one(self, backlog_seconds: float, most: int) -> None:
        boot, note = self._known()
        if backlog_seconds <= boot or note is not None or not self._may_look():
            return
        instances = self._ec2.instances()
        up = [each for each in instances if each.is_up]
        stopped = [each for each in instances if each.state == "stopped"]
        if stopped and len(up) < most and backlog_seconds > boot * len(up):
            self.start(stopped[0].id, beside_others=True)

    def _may_look(self) -> bool:
        """Claim a look at the fleet; nobody gets one while somebody wants the GPU to stop."""
        with translated():
            pipeline = self._client.pipeline(transaction=False)
            pipeline.exists(GPU_STOP)
            pipeline.set(GPU_FLEET, "1", nx=True, ex=FLEET_SECONDS)
            is_to_stop, is_first = pipeline.execute()
        return bool(is_first) and not is_to_stop

    def stop(self, queue: Queue) -> str:
        """Stop what runs if nothing waits or runs, or leave word for the worker; return `stopping` or `stopped`."""
        instances = self._ec2.find()
        up = [each.id for each in instances if each.is_up]
        if not up:
            return "stopping" if any(each.state == "stopping" for each in instances) else "stopped"
        if queue.close():
            try:
                self._ec2.stop(up)
            except Ec2Unavailable:
                queue.reopen()
                raise
            logs.count("UserStops", instances=up)
        return "stopping"

    def start(self, instance_id: str, *, beside_others: bool = False) -> float:
        """See to it that a stopped instance is started, once; return when it was, in Unix seconds.

        `beside_others` leaves alone what is known of those that run: that they are to stop, or are about to.
        """
        give_up_at = self._clock() + START_SECONDS
        while True:
            with translated():
                answer: Any = self._claim_start(keys=[GPU_WAKING], args=[self._clock(), SETTLED_SECONDS, START_SECONDS])
            what, _, rest = answer.decode().partition(":")
            if what == "go":
                return self._call_start(instance_id, beside_others=beside_others)
            if what == "started":
                return float(rest)
            if what == "failed":
                raise Ec2Unavailable(**json.loads(rest))
            if self._clock() > give_up_at:
                message = "EC2 does not answer; send the request again after Retry-After seconds"
                raise Ec2Unavailable("NoAnswer", message, TRY_AGAIN_SECONDS)
            self._sleep(_POLL_SECONDS)

    def _call_start(self, instance_id: str, *, beside_others: bool) -> float:
        try:
            self._check()
            self._ec2.start(instance_id)
        except Ec2Unavailable as error:
            logs.count("BudgetRefusals" if error.code in REFUSALS else "EC2StartFailures", code=error.code)
            refusal = json.dumps({"code": error.code, "message": str(error), "retry_after": error.retry_after})
            with suppress(redis.RedisError):  # then the others wait in vain and give up by themselves
                pipeline = self._client.pipeline()
                pipeline.set(GPU_WAKING, f"failed:{refusal}", ex=REFUSED_SECONDS)
                if not beside_others:
                    pipeline.set(GPU_REFUSED, str(error), ex=JOB_TTL_SECONDS)
                pipeline.execute()
            raise
        now = self._clock()
        logs.count("EC2Starts", instance=instance_id)
        with suppress(redis.RedisError):  # the GPU comes all the same
            pipeline = self._client.pipeline()
            pipeline.set(GPU_WAKING, f"started:{now}", ex=BOOT_SECONDS)
            pipeline.delete(GPU_REFUSED)
            if not beside_others:  # all were stopped, so whatever was closing, to be stopped or booting is
                pipeline.delete(GPU_CLOSING, GPU_STOP, GPU_BOOTING)
            pipeline.execute()
        return now


def boot_seconds(boots: list[bytes]) -> float:
    """Return how long a boot takes: the median of the newest ones, each in seconds."""
    measured = []
    for boot in boots:
        with suppress(ValueError):
            measured.append(float(boot))
    usable = sorted(seconds for seconds in measured if 0 < seconds < BOOT_SECONDS)
    return usable[len(usable) // 2] if usable else DEFAULT_BOOT_SECONDS


def noted_start(note: bytes | None) -> float:
    """Return when `gpu:waking` says that the GPU was started, in Unix seconds; 0 if it does not."""
    what, _, rest = (note or b"").partition(b":")
    try:
        started_at = float(rest) if what == b"started" else 0.0
    except ValueError:
        return 0.0
    return started_at if math.isfinite(started_at) else 0.0
