"""What several integration tests look into."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis


@pytest.fixture
def client(redis_url: str) -> Iterator[redis.Redis]:
    """Yield a client of the Lambdas' Redis."""
    with redis.Redis.from_url(redis_url, socket_timeout=5) as made:
        yield made
