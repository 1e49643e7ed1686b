"""The GPU: starts its instance when work waits, stops it on request, and says how long that takes.

Several Lambdas may want to start it at once. They agree through the key `gpu:waking`:

- absent: whoever sets it to `calling` calls StartInstances, and the others wait for what comes of it;
- `started:<Unix seconds>`: it is on its way, although EC2, which is eventually consistent, may still say `stopped`;
- `failed:<JSON>`: EC2 refused a moment ago, and asking again at once would change nothing.

The worker deletes the key when it is ready.
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
from router_lambda.ec2 import Ec2, Ec2Unavailable
from router_lambda.http import TRY_AGAIN_SECONDS
from router_lambda.job import GPU_BOOTS, GPU_CLOSING, GPU_WAKING
from router_lambda.queue import Queue, translated

STOP_SECONDS: Final = 45.0
"""How long an instance takes to stop, about; it cannot be started before."""

CALL_SECONDS: Final = 7
"""Longest that a call to EC2 takes, see `router_lambda.ec2`; whoever has not reported by then is taken for dead."""

SETTLED_SECONDS: Final = 10
"""Time after a start from which on EC2 is believed when it says `stopped`: the boot has failed."""

BOOT_SECONDS: Final = 300
"""Life of the note that the GPU was started: longer than a boot takes."""

REFUSED_SECONDS: Final = 5
"""Life of the note that EC2 refused."""

_POLL_SECONDS: Final = 0.05

CLAIM_START_LUA: Final = """
-- Decides who calls StartInstances. KEYS: gpu:waking. ARGV: now (Unix seconds), seconds after which a start that
-- left the instance stopped has failed, longest duration of the call (seconds).
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

    The public methods raise `Ec2Unavailable` and `QueueUnavailable`.
    """

    def __init__(
        self,
        ec2: Ec2,
        client: redis.Redis,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._ec2 = ec2
        self._client = client
        self._clock = clock
        self._sleep = sleep
        self._claim_start = client.register_script(CLAIM_START_LUA)

    def wake(self, closing_at: float | None) -> int:
        """Start the instance if it is stopped; return the seconds until it is ready, at least 1.

        `closing_at` is when it announced its own stop, in Unix seconds. An instance that is stopping cannot be
        started yet; that is done once it has stopped.
        """
        instance = self._ec2.nearest()
        with translated():
            boots: Any = self._client.lrange(GPU_BOOTS, 0, -1)
            note: Any = self._client.get(GPU_WAKING)
        boot = boot_seconds(boots)
        started_at = max(instance.launched_at, _started_at(note))
        if instance.state == "stopped":
            started_at = self._start(instance.id)
        elif instance.state == "stopping" or (closing_at is not None and closing_at >= started_at):
            since = self._clock() if closing_at is None else closing_at
            started_at = max(self._clock(), since + STOP_SECONDS)
        return max(1, math.ceil(started_at + boot - self._clock()))

    def stop(self, queue: Queue) -> str:
        """Stop the instance if nothing waits or runs, or leave word for the worker; return `stopping` or `stopped`."""
        try:
            instance = self._ec2.nearest()
        except Ec2Unavailable as error:
            if error.code == "NoInstance":
                return "stopped"
            raise
        if instance.state not in {"running", "pending"}:
            return instance.state
        if queue.close():
            try:
                self._ec2.stop(instance.id)
            except Ec2Unavailable:
                queue.reopen()
                raise
            logs.count("UserStops", instance=instance.id)
        return "stopping"

    def _start(self, instance_id: str) -> float:
        """See to it that the instance is started, once; return when it was, in Unix seconds."""
        give_up_at = self._clock() + CALL_SECONDS
        while True:
            with translated():
                answer: Any = self._claim_start(keys=[GPU_WAKING], args=[self._clock(), SETTLED_SECONDS, CALL_SECONDS])
            what, _, rest = answer.decode().partition(":")
            if what == "go":
                return self._call_start(instance_id)
            if what == "started":
                return float(rest)
            if what == "failed":
                raise Ec2Unavailable(**json.loads(rest))
            if self._clock() > give_up_at:
                message = "EC2 does not answer; send the request again after Retry-After seconds"
                raise Ec2Unavailable("NoAnswer", message, TRY_AGAIN_SECONDS)
            self._sleep(_POLL_SECONDS)

    def _call_start(self, instance_id: str) -> float:
        try:
            self._ec2.start(instance_id)
        except Ec2Unavailable as error:
            logs.count("EC2StartFailures", code=error.code)
            refusal = json.dumps({"code": error.code, "message": str(error), "retry_after": error.retry_after})
            with suppress(redis.RedisError):  # then the others wait in vain and give up by themselves
                self._client.set(GPU_WAKING, f"failed:{refusal}", ex=REFUSED_SECONDS)
            raise
        now = self._clock()
        logs.count("EC2Starts", instance=instance_id)
        with suppress(redis.RedisError):  # the GPU comes all the same
            pipeline = self._client.pipeline()
            pipeline.set(GPU_WAKING, f"started:{now}", ex=BOOT_SECONDS)
            pipeline.delete(GPU_CLOSING)  # it was stopped, so whatever was closing has closed
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


def _started_at(note: bytes | None) -> float:
    what, _, rest = (note or b"").decode().partition(":")
    return float(rest) if what == "started" else 0.0
