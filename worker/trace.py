"""What the log lines of a job carry of the trace that its request belongs to."""

from __future__ import annotations

import json

from router_lambda.job import TRACEPARENT


def trace_fields(payload: bytes) -> dict[str, str]:
    """Return `trace_id` and `traceparent` as W3C Trace Context has them; nothing for a job without a valid trace.

    Reads no other field of the payload, so that a job that is refused for one of them can be traced all the same.
    """
    if b"traceparent" not in payload:
        return {}
    try:
        stored = json.loads(payload)
    except (ValueError, RecursionError):
        return {}
    traceparent = stored.get("traceparent") if isinstance(stored, dict) else None
    match = TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    return {"trace_id": match["trace_id"], "traceparent": match[0]} if match else {}
