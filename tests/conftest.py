"""Real servers for every test that wants one: started once, shared by all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from local.aws_server import AwsServer
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.s3_server import S3Server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Yield a running Redis; a test that stops or kills it must `restart()` it."""
    with RunDirectory("tl-fif-test-redis-") as directory:
        server = RedisServer(directory.path)
        server.start()
        yield server
        server.stop()


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Return the address of an empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Yield a running S3 server with an own bucket; a test that stops or kills it must `restart()` it."""
    with RunDirectory("tl-fif-test-s3-") as directory:
        server = S3Server(directory.path)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """Yield an emulated AWS with a user and a running instance; a test that changes them must undo it."""
    with RunDirectory("tl-fif-test-aws-") as directory:
        server = AwsServer(directory.path)
        server.start()
        yield server
        server.stop()
