"""EventBridge on this machine: calls the Lambdas that no request calls, by the clock or after a stop."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, NoReturn

import anyio
import anyio.to_thread

from local.gateway import Handler, LambdaContext

log = logging.getLogger(__name__)

SCHEDULE_SECONDS = 60.0
"""Time between two calls of a function that is on the schedule."""

FUNCTION_SECONDS = 60.0
"""Time that they get."""


class Schedule:
    """The rules: `wake` when an instance has stopped, and every minute; `reap` every minute."""

    def __init__(self, wake: Handler, reap: Handler) -> None:
        self._functions: Mapping[str, Handler] = {"tl-fif-waker": wake, "tl-fif-reaper": reap}

    async def run(self) -> NoReturn:
        """Call both by the clock until cancelled."""
        while True:
            await anyio.sleep(SCHEDULE_SECONDS)
            for name in self._functions:
                await self._call(name, {"source": "aws.scheduler", "detail-type": "Scheduled Event", "detail": {}})

    async def stopped(self, instance_id: str) -> None:
        """Tell the waker that the instance has stopped."""
        detail = {"instance-id": instance_id, "state": "stopped"}
        kind = "EC2 Instance State-change Notification"
        await self._call("tl-fif-waker", {"source": "aws.ec2", "detail-type": kind, "detail": detail})

    async def _call(self, name: str, event: dict[str, Any]) -> None:
        """Call a function; what it raises is its own affair, as in Lambda."""
        now = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        event |= {"version": "0", "id": str(uuid.uuid4()), "time": now}
        try:
            context = LambdaContext(event["id"], name, seconds=FUNCTION_SECONDS)
            await anyio.to_thread.run_sync(self._functions[name], event, context, abandon_on_cancel=True)
        except Exception:
            log.exception("%s failed", name)
