"""Lambda's entry point: built once, from the environment, and not before it can be."""

from __future__ import annotations

from collections.abc import Iterator

import fakeredis
import pytest

from router_lambda import handler as module
from router_lambda.app import App
from router_lambda.settings import RouterConfigError
from tests.router_samples import event
from tests.router_world import content, problem


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Forget what an earlier call built, before and after."""
    module._app.cache_clear()
    yield
    module._app.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_the_entry_point_reads_its_settings_once_they_are_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """It fails while one is missing, works afterwards, and keeps what it built."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("TLFIF_BUCKET", "tl-fif")
    monkeypatch.setenv("TLFIF_PING_CIDRS", "127.0.0.1/32")
    monkeypatch.delenv("TLFIF_REDIS_URL", raising=False)
    with pytest.raises(RouterConfigError, match="TLFIF_REDIS_URL"):
        module.handler(event("GET", "/ping"), None)

    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    assert module.handler(event("GET", "/ping"), None)["statusCode"] == 200
    monkeypatch.delenv("TLFIF_BUCKET")
    assert module.handler(event("GET", "/ping"), None)["statusCode"] == 200


def test_a_ping_needs_neither_user_nor_redis(router: App, server: fakeredis.FakeServer) -> None:
    """The router itself is alive."""
    server.connected = False
    answer = router(event("GET", "/ping", authorizer=None))

    assert (answer["statusCode"], content(answer)) == (200, {"status": "ok"})


def test_queue_health_is_a_route_of_the_router_too(router: App, server: fakeredis.FakeServer) -> None:
    """200 with a time while Redis answers, 503 while it does not."""
    fine = router(event("GET", "/queue-health", authorizer=None))
    server.connected = False
    down = router(event("GET", "/queue-health", authorizer=None))

    assert fine["statusCode"] == 200
    assert content(fine)["redis"] == "ok"
    assert 0 < content(fine)["latencyMs"] < 200
    assert (down["statusCode"], down["headers"]["retry-after"]) == (503, "5")


@pytest.mark.parametrize("path", ["/ping", "/queue-health"])
def test_health_is_shown_to_the_allowed_addresses_only(router: App, path: str) -> None:
    """403 from elsewhere, whatever a header claims."""
    sent = event("GET", path, headers={"X-Forwarded-For": "127.0.0.1"})
    sent["requestContext"]["http"]["sourceIp"] = "203.0.113.7"

    answer = router(sent)

    assert answer["statusCode"] == 403
    assert "TLFIF_PING_CIDRS" in problem(answer)["detail"]
