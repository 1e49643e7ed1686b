"""Real surroundings for real worker processes."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ami.certificate import own
from ami.pair import Pair
from local.redis_server import RedisServer
from local.s3_server import S3Server
from local.tiny_model import write_tiny_model
from tests.process.nginx_world import NginxProcess, running_nginx
from tests.process.stand_in_api import StandInApi
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


@pytest.fixture(scope="session")
def pair() -> Pair:
    """Return a key and a certificate as the node makes them."""
    if not shutil.which("openssl"):
        pytest.skip("the openssl program is not installed; it makes the certificates")
    return own(frozenset({"localhost", "127.0.0.1", "::1"}))


@pytest.fixture
def api() -> Iterator[StandInApi]:
    """Yield what stands in for the worker behind nginx."""
    with StandInApi() as running:
        yield running


@pytest.fixture
def nginx(pair: Pair, api: StandInApi) -> Iterator[NginxProcess]:
    """Yield nginx in front of it."""
    with running_nginx(pair, api.server_port) as running:
        yield running
