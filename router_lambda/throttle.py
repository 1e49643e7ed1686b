"""Holds every user to `BURST` calls at once and one more each `INTERVAL_SECONDS` after that.

By the generic cell rate algorithm in its virtual scheduling form (ATM Forum, Traffic Management Specification 4.0, and
ITU-T I.371), which admits exactly what a leaky bucket as a meter admits. All that it remembers of a user is one moment,
the theoretical arrival time: when the next call would be due if calls came evenly. A call may be early by `BURST - 1`
intervals.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import redis

from router_lambda.job import user_in_key

BURST: Final = 5
"""Calls that a user who has been idle may make at once."""

INTERVAL_SECONDS: Final = 3
"""Seconds from one call to the next after a burst: 20 calls a minute."""

Allowance = Literal["infer", "stop", "status"]
"""What a user has allowances for, each of its own: a route of that name."""

TAKE_LUA: Final = """
-- Admits a call, or tells how long to wait for the next one; a refusal writes nothing. The time is this server's, so
-- the clocks of the callers do not matter. The key expires at the moment from which on it would change nothing.
-- KEYS: rate:{sub}. ARGV: interval, tolerance (both in microseconds). Returns microseconds, 0 for an admitted call.
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local interval, tolerance = tonumber(ARGV[1]), tonumber(ARGV[2])
-- What is no row of digits was not written here, and stands for a user who has not called yet.
local stored = redis.call('TYPE', KEYS[1]).ok == 'string' and redis.call('GET', KEYS[1]):match('^%d+$')
local arrival = math.max(tonumber(stored or 0), now)
-- No call can put the arrival further ahead than this: the clock was set back since, and must not lock the user out.
if arrival > now + tolerance + interval then arrival = now + tolerance end
local wait = arrival - tolerance - now
if wait > 0 then return wait end
arrival = arrival + interval
-- tostring() and .. would keep 14 digits of 16.
redis.call('SET', KEYS[1], string.format('%.0f', arrival), 'PX', math.ceil((arrival - now) / 1000))
return 0
"""


def rate_key(sub: str, route: Allowance = "infer") -> str:
    """Key of a user's allowance on a route."""
    user = user_in_key(sub)
    return f"rate:{user}" if route == "infer" else f"rate:{user}:{route}"


def retry_after(seconds: float) -> int:
    """Return the whole seconds of a `Retry-After` header, at least 1; after that wait a call is admitted."""
    return max(1, math.ceil(seconds))


class Throttle:
    """The allowances of all users, in Redis, and so the same for every Lambda that asks at the same time."""

    def __init__(self, client: redis.Redis) -> None:
        self._take = client.register_script(TAKE_LUA)

    def take(self, key: str) -> float:
        """Ask for one call; return 0 if it is admitted, else the seconds until the next one will be.

        A refused call costs nothing: asking again and again makes the wait no longer.

        Raises:
            redis.RedisError: Redis is out of reach, loading, read-only or out of memory.
        """
        interval = INTERVAL_SECONDS * 1_000_000
        wait: int = self._take(keys=[key], args=[interval, (BURST - 1) * interval])
        return wait / 1_000_000
