"""Lines of JSON on standard output, which Lambda hands to CloudWatch: access lines and metrics.

No token, prompt or reply ever goes through here: callers pass names, numbers and addresses only.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final, TextIO

NAMESPACE: Final = "TLFIF/Router"

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
    """Add 1 to a CloudWatch metric by embedded metric format; `fields` go into the same line.

    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    directive = {"Namespace": NAMESPACE, "Dimensions": [[]], "Metrics": [{"Name": metric, "Unit": "Count"}]}
    meta = {"Timestamp": round(time.time() * 1000), "CloudWatchMetrics": [directive]}
    line(_aws=meta, **{metric: 1}, **fields)
