"""Which trace a job belongs to: the client's own, Lambda's, API Gateway's, or none."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.job import TRACEPARENT
from router_lambda.trace import traceparent

OWN = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
"""The example of the W3C recommendation."""

ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
PARENT = "Parent=53995c3f42cd8ad8"
"""The examples of X-Ray's documentation."""

TRACE_ID = "5759e988bd862e3fe1be46a994272793"
FULL = f"{ROOT};{PARENT};Sampled=1"
CONVERTED = f"00-{TRACE_ID}-53995c3f42cd8ad8-01"

BROKEN = [
    *("", "00", OWN.upper(), f" {OWN}", f"{OWN} ", f"{OWN}\n", f"{OWN}-00", OWN[:-1], OWN.replace("-", "_")),
    *(f"ff{OWN[2:]}", f"01{OWN[2:]}", OWN.replace("4bf9", "4bg9"), OWN.replace("4bf9", "٤bf9")),
    *(f"00-{'0' * 32}-00f067aa0ba902b7-01", OWN.replace("00f067aa0ba902b7", "0" * 16)),
    *(f"{OWN},{OWN}", f"{OWN}, {OWN}", f"{OWN},"),
]


# W3C comes first


@pytest.mark.parametrize("flags", ["00", "01", "ff"])
def test_the_clients_own_comes_first_and_stays_as_it_is(flags: str) -> None:
    """Flags are handed on, also those of which nothing is known."""
    own = OWN[:-2] + flags
    assert traceparent({"traceparent": own, "x-amzn-trace-id": FULL}, FULL) == own


@pytest.mark.parametrize("own", BROKEN)
def test_one_that_is_none_counts_as_absent(own: str) -> None:
    """As W3C Trace Context has it, two joined by a comma included; what X-Ray says is taken instead."""
    assert traceparent({"traceparent": own}, "") is None
    assert traceparent({"traceparent": own}, FULL) == CONVERTED
    assert traceparent({"traceparent": own, "x-amzn-trace-id": FULL}, "") == CONVERTED


def test_without_any_there_is_none() -> None:
    """Nothing is made up."""
    assert traceparent({}, "") is None


# X-Ray


def test_what_lambda_says_comes_before_the_header() -> None:
    """Its segment is the nearest parent; the header is what API Gateway was sent."""
    assert traceparent({"x-amzn-trace-id": ROOT.replace("5759e988", "00000001")}, FULL) == CONVERTED


@pytest.mark.parametrize("xray", ["", "garbage", "Root=", "Sampled=0", f"Self={ROOT[5:]}"])
def test_without_a_trace_of_lambda_the_header_counts(xray: str) -> None:
    """Where active tracing is off, the variable is empty or without a root."""
    assert traceparent({"x-amzn-trace-id": FULL}, xray) == CONVERTED


@pytest.mark.parametrize(
    "header",
    [
        *(FULL, f"Sampled=1;{PARENT};{ROOT}", f"{ROOT}; {PARENT}; Sampled=1", f" {FULL} ", f"{FULL};", f";{FULL}"),
        *(f"Self=1-67891234-12456789abcdef012345678;{FULL}", f"{FULL};Lineage=a87bd80c:1|68fd508a:5", f"{FULL};x"),
    ],
)
def test_the_fields_may_come_in_any_order_and_among_others(header: str) -> None:
    """Load balancers put `Self` first, Lambda puts `Lineage` last, and blanks are allowed."""
    assert traceparent({}, header) == CONVERTED
    assert traceparent({"x-amzn-trace-id": header}, "") == CONVERTED


@pytest.mark.parametrize("rest", ["", ";Parent=", ";Parent=short", ";Parent=53995C3F42CD8AD8", f";{PARENT}0"])
def test_without_a_parent_the_span_is_made_of_the_trace(rest: str) -> None:
    """API Gateway starts a trace without a segment; the same trace always gets the same span."""
    assert traceparent({}, ROOT + rest) == f"00-{TRACE_ID}-bd862e3fe1be46a9-00"


@pytest.mark.parametrize(
    ("decision", "flags"),
    [("Sampled=1", "01"), ("Sampled=0", "00"), ("Sampled=?", "00"), ("Sampled=", "00"), ("Sampled=11", "00")],
)
def test_only_what_is_sampled_for_certain_is_sampled(decision: str, flags: str) -> None:
    """X-Ray has a question mark where the decision is put off."""
    assert traceparent({}, f"{ROOT};{PARENT};{decision}") == CONVERTED[:-2] + flags
    assert traceparent({}, f"{ROOT};{PARENT}") == f"{CONVERTED[:-2]}00"


@pytest.mark.parametrize(
    "root",
    [
        *(
            "",
            "Root",
            "Root=",
            "root=1-5759e988-bd862e3fe1be46a994272793",
            ROOT[5:],
            ROOT.upper(),
            f"{ROOT}0",
            ROOT[:-1],
        ),
        *(ROOT.replace("=1-", "=2-"), ROOT.replace("-", ""), ROOT.replace("5759e988", "5759E988"), f"{ROOT} x"),
        *(ROOT.replace("5759", "\u0665759"), ROOT.replace("=", "= "), f"Root=1-{'0' * 8}-{'0' * 24}"),
        *(f"{ROOT},{ROOT}", f"{ROOT}, {ROOT}"),
    ],
)
def test_a_root_that_is_none_is_no_trace(root: str) -> None:
    """Wrong version, length, case or digits, nothing but zeros, two joined by a comma."""
    assert traceparent({}, f"{root};{PARENT};Sampled=1") is None
    assert traceparent({"x-amzn-trace-id": f"{root};{PARENT};Sampled=1"}, "") is None


def test_of_several_roots_joined_by_a_comma_none_becomes_a_mixture() -> None:
    """The fields of two headers are not put together into a trace that nobody started."""
    joined = f"{ROOT};{PARENT};Sampled=0,Root=1-00000001-bd862e3fe1be46a994272793;Parent=00f067aa0ba902b7;Sampled=1"
    found = traceparent({"x-amzn-trace-id": joined}, "")
    assert found is None or found.startswith(f"00-{TRACE_ID}-53995c3f42cd8ad8-")


def test_a_parent_of_zeros_is_none() -> None:
    """W3C forbids it as a span; as with any other parent that is none, the trace itself goes on."""
    assert traceparent({}, f"{ROOT};Parent={'0' * 16};Sampled=1") == f"00-{TRACE_ID}-bd862e3fe1be46a9-01"


@given(
    st.text() | st.from_regex(re.compile(r"Root=1-[0-9a-f]{8}-[0-9a-f]{24}(;Parent=[0-9a-f]{16})?(;Sampled=[01?])?"))
)
def test_whatever_is_sent_the_result_is_a_traceparent_or_none(header: str) -> None:
    """It goes into the job, whose reader would refuse anything else."""
    for found in (traceparent({"traceparent": header, "x-amzn-trace-id": header}, ""), traceparent({}, header)):
        assert found is None or TRACEPARENT.fullmatch(found)
