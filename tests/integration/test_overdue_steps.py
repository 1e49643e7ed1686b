"""How much a look for overdue jobs asks of Redis at once, by Redis' own counters."""

from __future__ import annotations

from typing import Any

import pytest
import redis

from router_lambda.job import QUEUE_OPEN, cancel_key, job_key
from router_lambda.lua import LOOK_IDS
from router_lambda.queue import Queue
from tests.router_samples import numbered_job

OPEN = 2 * LOOK_IDS + 500
MOST_COMMANDS = 3 * LOOK_IDS + 10
"""Of a step: a payload, a mark and a lease of each id, and a few for the open set."""


def commands(client: redis.Redis) -> int:
    """Return how many commands Redis has run since its counters were set to zero."""
    found: Any = client.info("commandstats")
    return sum(each["calls"] for each in found.values())


@pytest.mark.parametrize("state", ["waiting", "cancelled", "expired"])
def test_a_step_does_not_grow_with_the_queue(client: redis.Redis, state: str) -> None:
    """Two thousand five hundred jobs take three steps, none of which is longer than a thousand's."""
    ids = [numbered_job(number).id for number in range(OPEN)]
    client.zadd(QUEUE_OPEN, {job_id: float(at) for at, job_id in enumerate(ids)})
    if state != "expired":
        client.mset({job_key(job_id): "{}" for job_id in ids})
    if state == "cancelled":
        client.mset({cancel_key(job_id): "1" for job_id in ids})
    queue, took = Queue(client), []
    step: Any = queue._take_overdue

    def counted(**arguments: Any) -> Any:
        client.config_resetstat()
        found = step(**arguments)
        took.append(commands(client))
        return found

    queue._take_overdue = counted  # type: ignore[assignment]

    work = queue.take_overdue()

    assert (work.live, len(work.moot)) == ((OPEN, 0) if state == "waiting" else (0, OPEN))
    assert len(took) == 3
    assert max(took) <= MOST_COMMANDS
