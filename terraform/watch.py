"""What is looked at while callers meet a new version: the alarms of the system, and the errors that Lambda counts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from terraform.aliases import ALIAS, Change, DeployError

LOOK_SECONDS: Final = 10.0

IGNORED: Final = {
    "api-latency": "cold starts of a new version are slow, and are most of what little traffic there is",
    "boot-failures": "of the worker's image, which a deployment of the functions does not change",
    "gpu-unmetered": "looks back for longer than a deployment takes",
    "spend-cap": "money is spent by the GPU, whatever the functions are",
    "spend-unknown": "looks back for longer than a deployment takes",
    "spend-warning": "money is spent by the GPU, whatever the functions are",
}
"""Alarms, without the system's name, that say nothing of a deployment. All others that begin with its name end it."""

BEFORE: Final = timedelta(minutes=15)
"""A function that failed within so much time before is not judged by its failures after."""


_MINUTE: Final = timedelta(minutes=1)


class WentWrong(DeployError):
    """The system got worse while the new versions were called."""


class Watch:
    """Looks at a system, and knows how it was before.

    Args:
        client: CloudWatch's.
        name: the system's.
        changes: the functions that change.
        now: the time, UTC.
    """

    def __init__(self, client: Any, name: str, changes: Mapping[str, Change], now: Callable[[], datetime]) -> None:
        self._client = client
        self._name = name
        self._changes = changes
        self._now = now
        self._began = now()
        self._known = self._ringing()
        earlier = self._began - BEFORE
        self._judged = [name for name in changes if not self._errors(name, earlier)]
        self._all_new: datetime | None = None

    def everybody_is_led_to_the_new(self) -> None:
        """From the next full minute on, every failure is one of the new versions."""
        self._all_new = self._now().replace(second=0, microsecond=0) + _MINUTE

    def look(self) -> None:
        """See whether it is as well as it was.

        Raises:
            WentWrong: an alarm goes off that did not before, or a new version fails.
            botocore.exceptions.ClientError: AWS refuses.
        """
        ringing = self._ringing()
        news = sorted(ringing - self._known)
        self._known &= ringing  # one that ends and comes back is news
        faults = [f"the alarm {alarm} went off" for alarm in news]
        for function, change in sorted(self._changes.items()):
            count = self._errors(function, self._began, change.now)
            if not count and self._all_new is not None and function in self._judged:
                count = self._errors(function, self._all_new)
            if count:
                faults.append(f"{function}:{change.now} failed {count:.0f} times")
        if faults:
            raise WentWrong(f"{', '.join(faults)}; see docs/runbook.md and the functions' logs")

    def _ringing(self) -> frozenset[str]:
        pages = self._client.get_paginator("describe_alarms").paginate(
            AlarmNamePrefix=f"{self._name}-", AlarmTypes=["MetricAlarm"]
        )
        alarms = [each for page in pages for each in page.get("MetricAlarms", [])]
        found = {each["AlarmName"] for each in alarms if each["StateValue"] == "ALARM"}
        return frozenset(found - {f"{self._name}-{alarm}" for alarm in IGNORED})

    def _errors(self, function: str, since: datetime, version: str | None = None) -> float:
        """Return how many calls by the alias failed; with a version, those that a canary sent there."""
        now = self._now()
        if since >= now:
            return 0.0
        dimensions = {"FunctionName": function, "Resource": f"{function}:{ALIAS}"}
        if version is not None:
            dimensions["ExecutedVersion"] = version
        found = self._client.get_metric_statistics(
            Namespace="AWS/Lambda",
            MetricName="Errors",
            Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
            StartTime=since.astimezone(UTC).replace(second=0, microsecond=0),
            EndTime=now + _MINUTE,  # CloudWatch reads whole seconds, and refuses a span that is over as it begins
            Period=60,
            Statistics=["Sum"],
        )
        return sum(float(each["Sum"]) for each in found["Datapoints"])
