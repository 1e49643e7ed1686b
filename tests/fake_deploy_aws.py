"""Fakes of what a deployment asks AWS for beside Lambda: SSM, CloudWatch and EC2."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from botocore.exceptions import ClientError

NAME: Final = "tl-fif"


def refusal(code: str, message: str = "refused") -> ClientError:
    """Return the error that boto3 raises for AWS's name of one."""
    return ClientError({"Error": {"Code": code, "Message": message}}, "Call")


@dataclass
class _Pages:
    call: Callable[..., Any]

    def paginate(self, **arguments: Any) -> Iterator[Any]:
        """Yield everything as one page."""
        yield self.call(**arguments)


@dataclass
class Calls:
    """Counts the calls, and lets a test act before and after each."""

    names: list[str] = field(default_factory=list)
    act: Callable[[int, str, bool], None] | None = None

    def __call__(self, name: str, *, done: bool) -> None:
        """Take note of a call that begins, or is done."""
        if not done:
            self.names.append(name)
        if self.act is not None:
            act, number = self.act, len(self.names)
            self.act = None  # what a test does here is no call of the deployment's
            try:
                act(number, name, done)
            finally:
                self.act = self.act or act


class FakeClient:
    """Sends every call by `Calls`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def get_paginator(self, name: str) -> _Pages:
        """Return what has one page."""
        return _Pages(getattr(self, name))

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = object.__getattribute__(self, f"on_{name}")

        def call(**arguments: Any) -> Any:
            self._calls(name, done=False)
            try:
                return method(**arguments)
            finally:
                self._calls(name, done=True)

        return call


class FakeSsm(FakeClient):
    """SSM with parameters and their history."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.values: dict[str, list[str]] = {f"/{NAME}/latest_ami_id": ["ami-new"]}

    def state(self) -> str | None:
        """Return the state of the newest record."""
        values = self.values.get(f"/{NAME}/deployment")
        return None if values is None else str(json.loads(values[-1])["state"])

    def on_get_parameter(self, Name: str) -> Any:  # noqa: N803
        """See SSM's API."""
        name, _, number = Name.partition(":")
        if name not in self.values:
            raise refusal("ParameterNotFound")
        values = self.values[name]
        if number and not 0 < int(number) <= len(values):
            raise refusal("ParameterVersionNotFound")
        version = int(number or len(values))
        return {"Parameter": {"Value": values[version - 1], "Version": version}}

    def on_put_parameter(self, Name: str, Value: str, Type: str, Overwrite: bool) -> Any:  # noqa: FBT001, N803
        """See SSM's API."""
        assert (Type, Overwrite) == ("String", True)
        self.values.setdefault(Name, []).append(Value)
        return {"Version": len(self.values[Name])}

    def on_get_parameter_history(self, Name: str) -> Any:  # noqa: N803
        """See SSM's API."""
        if Name not in self.values:
            raise refusal("ParameterNotFound")
        return {"Parameters": [{"Value": value} for value in self.values[Name]]}


class FakeCloudWatch(FakeClient):
    """CloudWatch with alarms and counts of errors."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.alarms: dict[str, str] = {f"{NAME}-{alarm}": "OK" for alarm in ("ping", "api-latency", "spend-cap")}
        self.errors: list[tuple[datetime, dict[str, str]]] = []

    def on_describe_alarms(self, AlarmNamePrefix: str, AlarmTypes: list[str]) -> Any:  # noqa: N803
        """See CloudWatch's API."""
        assert AlarmTypes == ["MetricAlarm"]
        found = [name for name in self.alarms if name.startswith(AlarmNamePrefix)]
        return {"MetricAlarms": [{"AlarmName": name, "StateValue": self.alarms[name]} for name in found]}

    def on_get_metric_statistics(self, **asked: Any) -> Any:
        """See CloudWatch's API."""
        assert (asked["Namespace"], asked["MetricName"], asked["Statistics"]) == ("AWS/Lambda", "Errors", ["Sum"])
        wanted = {each["Name"]: each["Value"] for each in asked["Dimensions"]}
        found = [at for at, dimensions in self.errors if dimensions == wanted]
        # Times are sent in whole seconds.
        if asked["StartTime"].replace(microsecond=0) >= asked["EndTime"].replace(microsecond=0):
            raise refusal("InvalidParameterValue", "The parameter StartTime must be less than the parameter EndTime.")
        return {"Datapoints": [{"Sum": 1.0} for at in found if asked["StartTime"] <= at < asked["EndTime"]]}


class FakeEc2(FakeClient):
    """EC2 with one GPU."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.image = "ami-new"

    def on_describe_instances(self, Filters: list[Any]) -> Any:  # noqa: N803
        """See EC2's API."""
        assert Filters[0] == {"Name": "tag:env", "Values": ["tinyllama"]}
        return {"Reservations": [{"Instances": [{"InstanceId": "i-1", "ImageId": self.image}]}]}
