"""The router that unit tests ask, with a fake Redis and a fake EC2 behind it."""

from __future__ import annotations

import fakeredis
import pytest

from router_lambda.app import App
from tests.router_world import Clock, FakeEc2, make_router


@pytest.fixture
def clock() -> Clock:
    """Return a clock that stands still."""
    return Clock()


@pytest.fixture
def ec2(clock: Clock) -> FakeEc2:
    """Return EC2 with one stopped instance."""
    return FakeEc2(clock)


@pytest.fixture
def server() -> fakeredis.FakeServer:
    """Return a fake Redis that a test can take down."""
    return fakeredis.FakeServer(version=(6, 2))


@pytest.fixture
def client(server: fakeredis.FakeServer) -> fakeredis.FakeRedis:
    """Return a client of the fake Redis."""
    return fakeredis.FakeRedis(server=server)


@pytest.fixture
def router(client: fakeredis.FakeRedis, ec2: FakeEc2, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> App:
    """Return a router that signs with made-up credentials in a region that is not the SDK's default."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN", "_X_AMZN_TRACE_ID"):
        monkeypatch.delenv(name, raising=False)
    return make_router(client, ec2, clock)
