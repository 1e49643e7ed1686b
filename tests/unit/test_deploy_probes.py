"""The calls that prove a new version, against the functions' own code: what is asked is what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import fakeredis
import pytest

from router_lambda import authorizer, queue_health
from router_lambda.app import App
from router_lambda.queue_health import QueueHealth
from router_lambda.settings import DEFAULT_PING_CIDRS, HealthSettings
from terraform.probes import USUAL_CIDRS, Answer, Probe, probes, prove, trace_of

ENVIRONMENT = {"TLFIF_PING_CIDRS": " 203.0.113.0/24,10.20.0.0/22"}


def test_the_router(router: App) -> None:
    """It answers both calls as it should, from an address that may ask."""
    asked = probes("router", {"TLFIF_PING_CIDRS": "127.0.0.0/8, 10.20.0.0/22"})
    assert [probe.asks for probe in asked] == ["GET /ping", "OPTIONS"]
    assert [probe.fault(router(probe.event)) for probe in asked] == [None, None]


def test_the_router_s_refusal_is_seen(router: App) -> None:
    """From an address that may not ask, /ping is no proof."""
    ping, _ = probes("router", {"TLFIF_PING_CIDRS": "198.51.100.0/24"})
    assert "403" in str(ping.fault(router(ping.event)))


def test_queue_health(client: fakeredis.FakeRedis, server: fakeredis.FakeServer) -> None:
    """It is proven when Redis answers, and is not when Redis does not."""
    networks = HealthSettings.from_environment({"TLFIF_REDIS_URL": "redis://host"} | ENVIRONMENT).ping_cidrs
    app = App({"/queue-health": {"GET": QueueHealth(client, networks)}})
    (probe,) = probes("queue-health", ENVIRONMENT)
    assert probe.fault(app(probe.event)) is None
    server.connected = False
    assert "503" in str(probe.fault(app(probe.event)))


def test_the_authorizer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It refuses what is no token without asking Cognito for its keys."""
    for name, value in {
        "TLFIF_JWKS_URL": "https://nobody.invalid/jwks.json",
        "TLFIF_JWT_ISSUER": "https://nobody.invalid",
        "TLFIF_JWT_AUDIENCE": "app",
    }.items():
        monkeypatch.setenv(name, value)
    authorizer._verifier.cache_clear()
    (probe,) = probes("authorizer", {})
    assert probe.fault(authorizer.handler(probe.event, None)) is None
    authorizer._verifier.cache_clear()


@pytest.mark.parametrize("kind", ["waker", "reaper", "gauges", "canary", "cost-publisher", "budget-killer"])
def test_what_acts_on_a_schedule_is_not_called(kind: str) -> None:
    """Its effect would come twice."""
    assert probes(kind, {}) == []


def test_the_address_is_the_first_that_may_ask() -> None:
    """Of the function's own setting, or of its default."""
    asked = [probes("router", each)[0].event["requestContext"]["http"]["sourceIp"] for each in (ENVIRONMENT, {})]
    assert asked == ["203.0.113.0", "10.20.0.0"]
    assert USUAL_CIDRS == DEFAULT_PING_CIDRS
    assert queue_health.SLOWEST_SECONDS < 1


def test_every_call_is_made_and_told() -> None:
    """In order, of the version that is named."""
    asked: list[tuple[str, str, Any]] = []

    def invoke(function: str, version: str, event: Mapping[str, Any]) -> Answer:
        asked.append((function, version, event))
        return Answer("yes", "1-2")

    calls = [Probe(name, {"name": name}, lambda said: None if said == "yes" else "no") for name in "ab"]
    proofs = list(prove(invoke, "tl-fif-router", "8", calls))
    assert [(proof.asks, proof.trace) for proof in proofs] == [("a", "1-2"), ("b", "1-2")]
    assert asked == [("tl-fif-router", "8", {"name": "a"}), ("tl-fif-router", "8", {"name": "b"})]


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        ("Root=1-67891233-abcdef012345678912345678;Parent=53;Sampled=1", "1-67891233-abcdef012345678912345678"),
        ("root=1-67891233-abcdef012345678912345678;sampled=1", "1-67891233-abcdef012345678912345678"),
        ("Root=1-67891233-abcdef012345678912345678", "1-67891233-abcdef012345678912345678"),
        ("Root=1-67891233-abcdef012345678912345678;Sampled=0", None),
        ("Root=nonsense)[x](https://example.org", None),
        ("", None),
    ],
)
def test_the_trace_of_a_call(header: str, trace: str | None) -> None:
    """Of a call that X-Ray keeps; nothing else gets into a link."""
    assert trace_of({"x-amzn-trace-id": header}) == trace
    assert trace_of({}) is None
