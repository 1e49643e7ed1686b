"""EventBridge on this machine."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import anyio
import anyio.from_thread
import pytest

from local import schedule
from local.schedule import Schedule


class Function:
    """Notes its events; fails if the test wants it. `called_twice` is set by the second call."""

    def __init__(self, *, fails: bool = False) -> None:
        self.events: list[dict[str, Any]] = []
        self.called_twice = anyio.Event()
        self._fails = fails

    def __call__(self, event: dict[str, Any], context: Any) -> dict[str, Any]:
        """Take an event, in a thread as Lambdas do here."""
        assert 0 < context.get_remaining_time_in_millis() <= 60_000
        self.events.append(event)
        if len(self.events) == 2:
            anyio.from_thread.run_sync(self.called_twice.set)
        if self._fails:
            raise RuntimeError("as the test wants")
        return {}


async def test_a_stop_is_told_to_the_waker_alone() -> None:
    """As EC2's event has it."""
    wake, reap = Function(), Function()
    await Schedule(wake, reap).stopped("i-1")
    (event,) = wake.events
    assert (event["source"], event["detail-type"]) == ("aws.ec2", "EC2 Instance State-change Notification")
    assert event["detail"] == {"instance-id": "i-1", "state": "stopped"}
    assert datetime.fromisoformat(event["time"]).tzinfo is not None
    assert reap.events == []


async def test_both_are_called_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Again and again, whether or not they fail."""
    monkeypatch.setattr(schedule, "SCHEDULE_SECONDS", 0.0)
    wake, reap = Function(fails=True), Function()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(Schedule(wake, reap).run)
        with anyio.fail_after(5):
            await wake.called_twice.wait()
            await reap.called_twice.wait()
        tasks.cancel_scope.cancel()
    assert {event["source"] for event in wake.events + reap.events} == {"aws.scheduler"}
