"""Where a request belongs in a distributed trace: W3C Trace Context, or else AWS X-Ray's own header.

Sources: https://www.w3.org/TR/trace-context/ and
https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from router_lambda.job import TRACEPARENT

_ROOT: Final = re.compile(r"1-([0-9a-f]{8})-([0-9a-f]{24})")
_SPAN: Final = re.compile(r"(?!0{16})[0-9a-f]{16}")


def traceparent(headers: Mapping[str, str], xray: str) -> str | None:
    """Return the `traceparent` for a job: the client's own, or X-Ray's in W3C form, or none.

    `headers` have lower-case names; `xray` is what Lambda puts into `_X_AMZN_TRACE_ID`, empty when it does not trace.
    """
    own = headers.get("traceparent", "")
    if TRACEPARENT.fullmatch(own):
        return own
    return _from_xray(xray) or _from_xray(headers.get("x-amzn-trace-id", ""))


def _from_xray(header: str) -> str | None:
    if "," in header:  # of several
        return None
    fields = dict(field.strip().partition("=")[::2] for field in header.split(";"))
    root, span = _ROOT.fullmatch(fields.get("Root", "")), fields.get("Parent", "")
    if root is None:
        return None
    if not _SPAN.fullmatch(span):  # API Gateway starts a trace without a segment of its own
        span = root[2][:16]
    found = f"00-{root[1]}{root[2]}-{span}-0{int(fields.get('Sampled') == '1')}"
    return found if TRACEPARENT.fullmatch(found) else None
