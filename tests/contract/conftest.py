"""The two kinds of Redis that one suite has to pass over."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import closing

import fakeredis
import pytest
import redis

from tests.worker_side import Side


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Yield a client of an empty Redis, once of the fake and once of the real one."""
    if request.param == "fake":
        made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(6, 2)))
    else:
        made = redis.Redis.from_url(request.getfixturevalue("redis_url"), socket_timeout=5)
    with closing(made):
        yield made


@pytest.fixture(params=["fake", "real"])
async def side(request: pytest.FixtureRequest) -> AsyncIterator[Side]:
    """Yield an empty queue on each kind of server."""
    server = fakeredis.FakeServer(version=(6, 2)) if request.param == "fake" else request.getfixturevalue("redis_url")
    made = Side(server)
    yield made
    for worker in (made.one, made.two):
        await worker.aclose()
    made.raw.close()
