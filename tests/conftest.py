"""Real servers for every test that wants one: started once, shared by all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import pytest

from local.aws_server import AwsServer
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.s3_server import S3Server
from local.server import Server

_AnyServer = TypeVar("_AnyServer", bound=Server)


def pytest_configure() -> None:
    """Hear Ctrl-C again where the tests run in the background of a shell, which has all that they start ignore it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def _running(kind: type[_AnyServer]) -> Iterator[_AnyServer]:
    with RunDirectory(f"tl-fif-test-{kind.name}-") as directory:
        server = kind(directory.path)
        server.start()
        yield server
        server.stop()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """Yield a running Redis; a test that stops or kills it must `restart()` it."""
    with _running(RedisServer) as server:
        yield server


@pytest.fixture
def redis_url(redis_server: RedisServer) -> str:
    """Return the address of an empty Redis."""
    redis_server.flush()
    return redis_server.url


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    """Yield a Redis of the test's own, which it may kill and stop as it likes."""
    with _running(RedisServer) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Yield a running S3 server with an own bucket; a test that stops or kills it must `restart()` it."""
    with _running(S3Server) as server:
        yield server


@pytest.fixture(scope="session")
def aws_server() -> Iterator[AwsServer]:
    """Yield an emulated AWS with a user and a running instance; a test that changes them must undo it."""
    with _running(AwsServer) as server:
        yield server
