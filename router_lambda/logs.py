"""Lines of JSON on standard output, which Lambda hands to CloudWatch: access lines and metrics.

No token, prompt or reply ever goes through here: callers pass names, numbers and addresses only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping
from typing import Any, Final, Literal, TextIO

NAMESPACE: Final = "TLFIF/Router"

Unit = Literal["None", "Count", "Seconds"]
"""CloudWatch's names of the units that we use; "None" is for those that it does not know, as EUR."""

_elsewhere: TextIO | None = None


def send_to(stream: TextIO | None) -> None:
    """Send every later line to `stream`, or to standard output again for `None`.

    For processes that are no Lambda and whose standard output is somebody else's.
    """
    global _elsewhere  # noqa: PLW0603 - as standard output itself, one for the whole process
    _elsewhere = stream


def line(**fields: Any) -> None:
    """Write one line."""
    out = _elsewhere or sys.stdout
    out.write(json.dumps(fields) + "\n")
    out.flush()


def count(metric: str, **fields: Any) -> None:
    """Add 1 to a CloudWatch metric of the router; `fields` go into the same line."""
    _metrics(NAMESPACE, {metric: (1, "Count")}, time.time(), fields)


def gauge(namespace: str, values: Mapping[str, tuple[float, Unit]], at: float | None = None) -> None:
    """Write values of CloudWatch metrics, each with its unit, by name.

    They are of the time `at`, in Unix seconds, or of now; CloudWatch takes what is up to two weeks old.
    """
    _metrics(namespace, values, time.time() if at is None else at, {})


def _metrics(namespace: str, values: Mapping[str, tuple[float, Unit]], at: float, fields: Mapping[str, Any]) -> None:
    """Write metrics without dimensions in CloudWatch's embedded metric format.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    metrics = [{"Name": name, "Unit": unit} for name, (_, unit) in values.items()]
    directive = {"Namespace": namespace, "Dimensions": [[]], "Metrics": metrics}
    meta = {"Timestamp": round(at * 1000), "CloudWatchMetrics": [directive]}
    line(_aws=meta, **{name: value for name, (value, _) in values.items()}, **fields)
