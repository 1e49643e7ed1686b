"""Calls to EC2, and what its refusals mean."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any, Final

from router_lambda import logs
from router_lambda.aws import make_client
from router_lambda.http import TRY_AGAIN_SECONDS

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 2.0
ATTEMPTS: Final = 2
"""With the two above the longest call takes about 6 s, which Lambda's 10 s leave room for."""

_TO_BE_ASKED_FOR: Final = ("pending", "running", "stopping", "stopped")
"""States of an instance that is or can be started; a terminated one never runs again."""

_BY_NEARNESS: Final = ("running", "pending", "stopped", "stopping")

_MOMENT: Final = r"\((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) (?:GMT|UTC)\)"
"""Compiled when it is first needed: every cold start would wait for it."""

_NO_CAPACITY: Final = frozenset({"InsufficientInstanceCapacity", "InsufficientHostCapacity"})
_BUSY: Final = frozenset({"RequestLimitExceeded", "Throttling", "Unavailable", "ServiceUnavailable", "InternalError"})


@dataclass(frozen=True, slots=True)
class Instance:
    """An EC2 instance. Times are Unix seconds.

    Attributes:
        launched_at: when it was last started.
        stopped_at: when it began to stop after that; `None` while it is up, and where EC2 does not say.
    """

    id: str
    state: str
    launched_at: float
    stopped_at: float | None = None

    @property
    def is_up(self) -> bool:
        """Whether it costs money, and a worker runs on it or soon will."""
        return self.state in {"running", "pending"}


class Ec2Unavailable(Exception):
    """EC2 did not do it. The message tells the client what to do, `retry_after` when, in seconds.

    `code` is EC2's own word for what happened, the name of the exception that kept us from asking, or why
    `router_lambda.budget` did.
    """

    def __init__(self, code: str, message: str, retry_after: int) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


def _client() -> Any:
    return make_client("ec2", connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts=ATTEMPTS)


class Ec2:
    """The instances with one tag; every method raises `Ec2Unavailable`."""

    def __init__(self, tag: tuple[str, str], make_client: Callable[[], Any] = _client) -> None:
        self._tag = tag
        self._make_client = make_client

    @cached_property
    def _ec2(self) -> Any:
        return self._make_client()

    def find(self) -> list[Instance]:
        """Return them all, those first that can work soonest: one that stops comes last."""
        name, value = self._tag
        filters = [
            {"Name": f"tag:{name}", "Values": [value]},
            {"Name": "instance-state-name", "Values": list(_TO_BE_ASKED_FOR)},
        ]
        found = [
            _instance(each)
            for reservation in self._call("describe_instances", Filters=filters)["Reservations"]
            for each in reservation["Instances"]
        ]
        return sorted(found, key=lambda instance: _BY_NEARNESS.index(instance.state))

    def instances(self) -> list[Instance]:
        """Return them as `find` does; that there is none is a refusal too."""
        found = self.find()
        if not found:
            name, value = self._tag
            message = (
                f"no EC2 instance has the tag {name}={value}; set the infrastructure up, then send the request again"
            )
            raise Ec2Unavailable("NoInstance", message, 300)
        return found

    def start(self, instance_id: str) -> None:
        """Start a stopped instance; nothing happens to one that runs."""
        self._call("start_instances", InstanceIds=[instance_id])

    def stop(self, instance_ids: list[str]) -> None:
        """Stop instances; nothing happens to a stopped one."""
        self._call("stop_instances", InstanceIds=instance_ids)

    def _call(self, method: str, **arguments: Any) -> Any:
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `router_lambda.aws`

        try:
            return getattr(self._ec2, method)(**arguments)
        except (ClientError, BotoCoreError) as error:
            unavailable = _explained(error)
            logs.line(event="ec2 call failed", call=method, code=unavailable.code, reason=str(error))
            raise unavailable from error


def _instance(said: Mapping[str, Any]) -> Instance:
    """Read what EC2 says of an instance."""
    found = Instance(said["InstanceId"], said["State"]["Name"], said["LaunchTime"].timestamp())
    return found if found.is_up else replace(found, stopped_at=_moment(said.get("StateTransitionReason") or ""))


def _moment(reason: str) -> float | None:
    """Return when a state was left, in Unix seconds: EC2 says why, `User initiated (2026-11-26 00:12:33 GMT)`.

    `None` if they do not say it, as after a shutdown from within the machine.
    """
    found = re.search(_MOMENT, reason, re.ASCII)
    try:
        return datetime.fromisoformat(f"{found[1]}+00:00").timestamp() if found else None
    except ValueError:  # a 30th of February
        return None


def _explained(error: Exception) -> Ec2Unavailable:
    """Say what a client can do about what boto3 raised."""
    response: Any = getattr(error, "response", None)  # of EC2; there is none if it was not reached
    if response:
        return _refused(response["Error"]["Code"])
    message = "EC2 cannot be reached; send the request again after Retry-After seconds"
    return Ec2Unavailable(type(error).__name__, message, TRY_AGAIN_SECONDS)


def _refused(code: str) -> Ec2Unavailable:
    """Say what a client can do about an error code of EC2."""
    if code in _NO_CAPACITY:
        message = "AWS has no GPU of this type left in this availability zone; send the request again in a few minutes"
        return Ec2Unavailable(code, message, 60)
    if code == "IncorrectInstanceState":
        message = "the GPU's instance is changing its state; send the request again after Retry-After seconds"
        return Ec2Unavailable(code, message, 10)
    if code in _BUSY:
        return Ec2Unavailable(code, "EC2 is busy; send the request again after Retry-After seconds", TRY_AGAIN_SECONDS)
    message = f"EC2 refused ({code}); the router's log has the reason, which needs somebody to mend it"
    return Ec2Unavailable(code, message, 60)
