"""The two kinds of Redis that one suite has to pass over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing

import fakeredis
import pytest
import redis


@pytest.fixture(params=["fake", "real"])
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """Yield a client of an empty Redis, once of the fake and once of the real one."""
    if request.param == "fake":
        made: redis.Redis = fakeredis.FakeRedis(server=fakeredis.FakeServer(version=(6, 2)))
    else:
        made = redis.Redis.from_url(request.getfixturevalue("redis_url"), socket_timeout=5)
    with closing(made):
        yield made
