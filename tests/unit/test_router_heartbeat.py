"""What the Lambdas read from the heartbeats of workers of any version, and of whatever else lies under their keys."""

from __future__ import annotations

import json
import math
from typing import Any

import fakeredis
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.heartbeat import Heartbeat, read_all
from router_lambda.job import worker_key
from tests.router_world import NOW, beat

SAID: dict[str, Any] = {
    "state": "ready",
    "running": 2,
    "model": "m",
    "idle_deadline": NOW + 60,
    "slots": 64,
    "job_seconds": 2.5,
    "instance": "i-1",
    "since": 5,
    "token_at": NOW,
}
WRONG_COUNTS: list[Any] = [True, -1, 1.5, "2", None, [], 10**12]
WRONG_MOMENTS: list[Any] = [True, "5", [], None, 10**400, -(10**400), math.nan, math.inf, -math.inf]
WRONG_NAMES: list[Any] = ["", 7, True, None, [], {}]


def read(**said: Any) -> Heartbeat:
    """Return what is read from a heartbeat with these fields."""
    return Heartbeat.read(b"worker:w1", json.dumps(said).encode())


def test_a_heartbeat_says_what_it_says() -> None:
    """Every field, and others that are of no interest here."""
    assert read(**SAID) == Heartbeat("w1", "i-1", 5.0, NOW, "ready", 2, "m", NOW + 60)


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        (("running",), WRONG_COUNTS),
        (("since", "token_at", "idle_deadline"), WRONG_MOMENTS),
        (("state", "model", "instance"), WRONG_NAMES),
    ],
)
def test_what_it_says_wrong_is_as_if_it_had_not(fields: tuple[str, ...], wrong: list[Any]) -> None:
    """The rest counts all the same."""
    rest = {name: value for name, value in SAID.items() if name not in fields}
    for value in wrong:
        assert read(**SAID | dict.fromkeys(fields, value)) == read(**rest)


@pytest.mark.parametrize("text", [b"", b"{", b"\xff", b"null", b"[]", b"5", b'"draining"', b"[" * 100_000])
def test_whatever_lies_there_is_a_sign_of_life(text: bytes) -> None:
    """The key alone says who lives, in whatever bytes."""
    assert Heartbeat.read(b"worker:w\xff", text) == Heartbeat("w\ufffd")


@pytest.mark.parametrize(
    ("state", "is_awake", "is_degraded"),
    [("ready", True, False), ("degraded", True, True), ("draining", False, False), ("x", True, False)],
)
def test_states(*, state: str, is_awake: bool, is_degraded: bool) -> None:
    """One that drains takes no jobs; one that is degraded does."""
    found = read(state=state)
    assert (found.is_awake, found.is_degraded) == (is_awake, is_degraded)


@pytest.mark.parametrize(
    ("since", "token_at", "active_at"), [(None, None, None), (5, None, 5.0), (None, 6, 6.0), (5, 6, 6.0), (7, 6, 7.0)]
)
def test_the_last_activity(since: float | None, token_at: float | None, active_at: float | None) -> None:
    """A token, or that it became ready."""
    assert read(since=since, token_at=token_at).active_at == active_at


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
FIELDS = ("state", "running", "model", "idle_deadline", "instance", "since", "token_at")


@given(
    (JSON | st.fixed_dictionaries({}, optional=dict.fromkeys(FIELDS, JSON))).map(lambda said: json.dumps(said).encode())
    | st.binary()
)
def test_any_heartbeat_can_be_read(text: bytes) -> None:
    """And what is read is sound."""
    found = Heartbeat.read(b"worker:i-1", text)

    assert found.worker == "i-1"
    assert found.running >= 0
    moments = (found.since, found.token_at, found.idle_deadline, found.active_at)
    assert all(moment is None or math.isfinite(moment) for moment in moments)


# All of them


def test_every_worker_is_read_once(client: fakeredis.FakeRedis, monkeypatch: pytest.MonkeyPatch) -> None:
    """A scan has no order, may name a key twice, and may name one that is gone or is no string."""
    beat(client, "a", running=1)
    beat(client, "b", running=2)
    client.rpush(worker_key("list"), "x")
    names = [worker_key(name).encode() for name in ("b", "a", "gone", "b", "list")]
    monkeypatch.setattr(client, "scan_iter", lambda **_: iter(names))

    assert [(each.worker, each.running) for each in read_all(client)] == [("a", 1), ("b", 2)]


def test_among_many_keys(client: fakeredis.FakeRedis) -> None:
    """Only those of workers are looked at; without any there is nothing to read."""
    client.mset({f"rate:{number}": "1" for number in range(3_000)})
    assert read_all(client) == []
    beat(client, "w1")
    assert [each.worker for each in read_all(client)] == ["w1"]


def test_without_redis_nothing_is_read(client: fakeredis.FakeRedis, server: fakeredis.FakeServer) -> None:
    """Not as if there were no workers."""
    server.connected = False
    with pytest.raises(redis.ConnectionError):
        read_all(client)
