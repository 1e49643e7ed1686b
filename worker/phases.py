"""What the phases of a boot take: from the call that started the instance to the first token.

`instance`: EC2 and the operating system, until this process began; only where a start was noted. `daemon`: Python and
what is small. `imports`: vLLM's. `engine`: the model, until it has answered once. `ready`: Redis, until the first
heartbeat. `first_token`: from there to the first job's first token, which waits for that job if none is there yet.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final, Literal

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from router_lambda.job import GPU_BOOTING, booting_note

Phase = Literal["daemon", "imports", "engine", "ready", "first_token"]

ANNOUNCE_SECONDS: Final = 1.0
"""Longest wait for Redis before a boot goes on without having said how far it is."""

_START_TICKS: Final = 19
"""Place of `starttime` in /proc/self/stat behind the program's name, see proc(5)."""


def process_began() -> float:
    """Return when this process was started, in Unix seconds."""
    ticks = Path("/proc/self/stat").read_text().rpartition(")")[2].split()[_START_TICKS]
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - int(ticks) / os.sysconf("SC_CLK_TCK")
    return time.time() - age


class Phases:
    """Measures the phases, in order; `seconds` has those that have ended."""

    def __init__(self, began: float, clock: Callable[[], float] = time.time) -> None:
        """Begin with the moment that the process began, in Unix seconds as `clock` has them."""
        self.seconds: dict[str, float] = {}
        self._began = self._last = began
        self._clock = clock

    def ended(self, phase: Phase) -> None:
        """Note that a phase has ended, and the next one begun."""
        now = self._clock()
        self._note(phase, now - self._last)
        self._last = now

    def asked_for(self, at: float | None) -> None:
        """Note when the start was asked for, in Unix seconds, if it was."""
        if at is not None:
            self._note("instance", self._began - at)

    def _note(self, phase: str, seconds: float) -> None:
        self.seconds[phase] = round(max(0.0, seconds), 3)  # a boot may set the clock back

    @property
    def total_seconds(self) -> float:
        """Return how long all that has ended took together."""
        return round(sum(self.seconds.values()), 3)


def announce(redis_url: str, phase: Literal["imports", "engine"], life: float) -> None:
    """Say in Redis which phase begins, for `life` seconds; if Redis is away, nobody hears it.

    By a connection of its own, closed at once: the engine's processes must not inherit it.
    """
    client = redis.Redis.from_url(
        redis_url,
        socket_timeout=ANNOUNCE_SECONDS,
        socket_connect_timeout=ANNOUNCE_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    with closing(client), suppress(redis.RedisError, OSError):
        client.set(GPU_BOOTING, booting_note(phase, time.time()), px=round(life * 1e3))
