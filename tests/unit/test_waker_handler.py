"""What EventBridge says to the waker, and its entry point: built once, from the environment."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import fakeredis
import pytest

from router_lambda import waker as module
from router_lambda.ec2 import Ec2
from router_lambda.queue import Queue
from router_lambda.settings import RouterConfigError
from router_lambda.waker import Stopped
from tests.router_samples import JOB
from tests.router_world import LONG_AGO, FakeEc2


def told(state: str = "stopped", at: str = "2026-09-21T14:13:20Z") -> dict[str, Any]:
    """Return an event of EC2."""
    detail = {"instance-id": "i-1", "state": state}
    return {"detail-type": "EC2 Instance State-change Notification", "time": at, "detail": detail}


def test_an_event_of_ec2_is_read() -> None:
    """Its time is in UTC."""
    assert Stopped.from_event(told()) == Stopped("i-1", 1_790_000_000.0)


@pytest.mark.parametrize("event", [told("stopping"), told("running"), {"detail": {}}, {"detail": None}, {}])
def test_any_other_event_is_a_look(event: dict[str, Any]) -> None:
    """The schedule's, above all."""
    assert Stopped.from_event(event) is None


class Context:
    """What Lambda tells of an invocation."""

    def get_remaining_time_in_millis(self) -> int:
        """Return a minute."""
        return 60_000


@pytest.fixture
def _fresh() -> Iterator[None]:
    """Forget what an earlier call built, before and after."""
    module._waker.cache_clear()
    yield
    module._waker.cache_clear()


@pytest.mark.usefixtures("_fresh")
def test_the_entry_point_reads_its_settings_once_they_are_there(
    monkeypatch: pytest.MonkeyPatch,
    ec2: FakeEc2,
    client: fakeredis.FakeRedis,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It names what is missing, keeps what it built, and says in its log what came of a call."""
    monkeypatch.setattr(module, "Ec2", lambda tag: Ec2(tag, lambda: ec2))
    monkeypatch.setattr(module, "connect", lambda _: client)
    for name in ("TLFIF_REDIS_URL", "TLFIF_BUCKET"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(RouterConfigError, match=r"TLFIF_BUCKET.*TLFIF_REDIS_URL"):
        module.handler({}, Context())

    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://127.0.0.1:1/0")
    monkeypatch.setenv("TLFIF_BUCKET", "tl-fif")
    monkeypatch.setenv("TLFIF_GPU_TAG", "env=tinyllama")
    assert module.handler({}, Context()) == {"outcome": "nothing waits"}
    monkeypatch.delenv("TLFIF_BUCKET")
    Queue(client).enqueue(JOB)
    at = datetime.fromtimestamp(LONG_AGO + 60, UTC).isoformat()
    assert module.handler(told(at=at), Context()) == {"outcome": "started"}

    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line for line in lines if line.get("event") == "wake"] == [
        {"event": "wake", "stopped": None, "outcome": "nothing waits"},
        {"event": "wake", "stopped": "i-1", "outcome": "started"},
    ]
