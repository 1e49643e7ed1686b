"""Real surroundings for real worker processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.redis_server import RedisServer
from local.s3_server import S3Server
from local.tiny_model import write_tiny_model
from tests.process.worker_process import Surroundings


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny random model."""
    return write_tiny_model(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def around(redis_server: RedisServer, redis_url: str, s3_server: S3Server, tiny_model: Path) -> Surroundings:
    """Return an empty Redis, a bucket and a model."""
    assert redis_url == redis_server.url
    return Surroundings(redis_server, s3_server, tiny_model)
