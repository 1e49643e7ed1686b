"""What workers say of themselves under `worker:{id}`, every few seconds.

Whatever lies under such a key is a sign of life. What it does not say, or says wrong, is as if nobody had said it: a
worker of another version is no reason to fail. `router_lambda.backlog.Capacity` reads what every request needs.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any, Final

import redis

from router_lambda.job import worker_key

_MOST_RUNNING: Final = 1_000_000
"""No worker runs more jobs at once."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """What a worker says of itself. Times are Unix seconds; what is not known is `None`.

    Attributes:
        worker: the worker's id, from its key.
        instance: id of the EC2 instance that it runs on.
        since: when it became ready.
        token_at: when its engine brought the last token.
        state: `ready`, `degraded` or `draining`.
        running: jobs that it runs, and requests that it answers over HTTP.
        idle_deadline: when it stops its instance if nothing comes.
    """

    worker: str
    instance: str | None = None
    since: float | None = None
    token_at: float | None = None
    state: str | None = None
    running: int = 0
    model: str | None = None
    idle_deadline: float | None = None

    @classmethod
    def read(cls, key: bytes, text: bytes) -> Heartbeat:
        """Read what lies under a worker's key."""
        said = read_object(text)
        return cls(
            worker=key.decode("utf-8", "replace").removeprefix(worker_key("")),
            instance=_name(said.get("instance")),
            since=finite(said.get("since")),
            token_at=finite(said.get("token_at")),
            state=_name(said.get("state")),
            running=_count(said.get("running")),
            model=_name(said.get("model")),
            idle_deadline=finite(said.get("idle_deadline")),
        )

    @property
    def is_awake(self) -> bool:
        """Whether it takes jobs; one that drains does not."""
        return self.state != "draining"

    @property
    def is_degraded(self) -> bool:
        """Whether Redis or S3 does not answer it."""
        return self.state == "degraded"

    @property
    def active_at(self) -> float | None:
        """When its engine was last known to work; `None` if it does not say."""
        return max((each for each in (self.since, self.token_at) if each is not None), default=None)


def read_all(client: redis.Redis) -> list[Heartbeat]:
    """Read the heartbeats of all workers, in the order of their names.

    Raises:
        redis.RedisError: Redis cannot be reached.
    """
    # A scan may name a key twice, and its order is that of a hash table.
    keys = sorted(set(client.scan_iter(match=worker_key("*"), count=1_000)))
    texts: Any = client.mget(keys) if keys else []
    return [Heartbeat.read(key, text) for key, text in zip(keys, texts, strict=True) if text is not None]


def read_object(text: bytes | str | None) -> dict[str, Any]:
    """Return the JSON object in a text, an empty one if there is none."""
    try:
        read: Any = json.loads(text or "null")
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _name(value: object) -> str | None:
    return value if isinstance(value, str) and value else None


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        return 0
    return value if 0 <= value <= _MOST_RUNNING else 0


def finite(value: object) -> float | None:
    """Return a number as a float, `None` for what is no finite one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None
