"""What the log lines of a job carry of its trace."""

from __future__ import annotations

import json

import pytest

from tests.fakes import make_job
from worker.trace import trace_fields

TRACE_ID = "4bf92f3577b34da6a3ce929d0e0e4736"
TRACEPARENT = f"00-{TRACE_ID}-00f067aa0ba902b7-01"
"""The example of the W3C recommendation."""


def test_a_traced_job_gives_both_fields() -> None:
    """The id to search by, and the whole value to go on from."""
    payload = make_job(traceparent=TRACEPARENT).to_json().encode()
    assert trace_fields(payload) == {"trace_id": TRACE_ID, "traceparent": TRACEPARENT}


def test_a_job_without_a_trace_gives_none() -> None:
    """No empty fields either."""
    assert trace_fields(make_job().to_json().encode()) == {}


def test_a_job_that_will_be_refused_is_traced_all_the_same() -> None:
    """Whoever looks for the request finds why it failed."""
    assert trace_fields(json.dumps({"prompt": 1, "traceparent": TRACEPARENT}).encode())["trace_id"] == TRACE_ID


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "garbage\nwith a second line",
        TRACEPARENT + "\n",
        TRACEPARENT.upper(),
        TRACEPARENT + "-more",
        " " + TRACEPARENT,
        TRACEPARENT.replace("00-", "ff-", 1),
        TRACEPARENT.replace(TRACE_ID, "0" * 32),
        TRACEPARENT.replace("00f067aa0ba902b7", "0" * 16),
        TRACEPARENT.replace("4bf9", "٤bf9"),
        "x" * 100_000,
        7,
        None,
        [TRACEPARENT],
        {"a": TRACEPARENT},
    ],
)
def test_what_is_not_of_the_w3c_form_stays_out_of_the_log(traceparent: object) -> None:
    """Wrong length, case, version, ids of zeros, other digits, other types."""
    assert trace_fields(json.dumps({"traceparent": traceparent}).encode()) == {}


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"not json",
        b"\xff\xfe",
        b"[]",
        b'"traceparent"',
        b'{"messages": [{"traceparent": "' + TRACEPARENT.encode() + b'"}]}',
        b"[" * 100_000,
        b'{"n": ' + b"9" * 5_000 + b"}",
    ],
)
def test_a_payload_that_is_no_job_gives_none(payload: bytes) -> None:
    """Nor does it raise; a traceparent inside another field is not the job's."""
    assert trace_fields(payload) == {}
