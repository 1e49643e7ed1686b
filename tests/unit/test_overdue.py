"""The final reply of a job that no worker will run: always a whole document, whatever was there before."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.overdue import final_document
from router_lambda.queue import Moot
from tests.openapi import schema, validator
from tests.router_samples import JOB_ID

AT = 1_790_000_000.0
EXPIRED = Moot(JOB_ID, AT, "expired")
CANCELLED = Moot(JOB_ID, AT, "cancelled")
NOW = AT + 312.5

SHOWN: dict[str, Any] = {
    "id": JOB_ID,
    "status": "streaming",
    "model": "m",
    "choices": [
        {"index": 0, "text": "Apple,", "finish_reason": None, "logprobs": None},
        {"index": 1, "text": "Pear.", "finish_reason": "stop", "logprobs": {"content": []}},
    ],
    "usage": {"prompt_tokens": 12, "completion_tokens": 7},
    "timing": {"queued_ms": 3.1, "first_token_ms": 41.0, "total_ms": None},
    "attempt": 2,
    "error": None,
    "created_at": AT + 1,
    "updated_at": AT + 2,
}

JUDGE = validator(schema("ReplyDocument"))


def is_described(document: dict[str, Any]) -> bool:
    """Tell whether a document is as the API's description has it, on the wire too."""
    return JUDGE.is_valid(json.loads(json.dumps(document)))


def test_a_blank_reply() -> None:
    """Nobody has ever taken the job: it waited all the time."""
    assert final_document(EXPIRED, {}, None, NOW) == {
        "id": JOB_ID,
        "status": "expired",
        "model": "",
        "choices": [{"index": 0, "text": "", "finish_reason": None, "logprobs": None}],
        "usage": {"prompt_tokens": 0, "completion_tokens": 0},
        "timing": {"queued_ms": 312_500.0, "first_token_ms": None, "total_ms": 312_500.0},
        "attempt": 0,
        "error": {"code": "expired", "message": "no worker was free for it within 300 seconds; send it again"},
        "created_at": NOW,
        "updated_at": NOW,
    }


def test_the_reason_is_in_it() -> None:
    """EC2's, if that was it, which tells what to do as well."""
    error = final_document(EXPIRED, {}, "AWS has no GPU left; send it later", NOW)["error"]
    assert error["code"] == "expired"
    assert error["message"] == "no GPU could be started for it within 300 seconds: AWS has no GPU left; send it later"


def test_a_cancelled_one_says_so() -> None:
    """As a worker does; that there was no GPU either does not matter."""
    document = final_document(CANCELLED, {}, "AWS has no GPU", NOW)
    assert document["status"] == "cancelled"
    assert document["error"] == {"code": "cancelled", "message": "its owner cancelled it"}
    assert is_described(document)


def test_what_is_shown_stays() -> None:
    """A worker died over it: its text, counts and times are kept, and only the end is added."""
    document = final_document(EXPIRED, SHOWN, None, NOW)

    changed = {name: value for name, value in document.items() if value != SHOWN[name]}
    assert changed.keys() == {"status", "error", "timing", "updated_at"}
    assert document["status"] == "expired"
    assert document["timing"] == {"queued_ms": 3.1, "first_token_ms": 41.0, "total_ms": 312_500.0}
    assert document["updated_at"] == NOW
    assert is_described(SHOWN)
    assert is_described(document)


def test_a_clock_that_is_behind_the_router_s_counts_as_no_wait() -> None:
    """Times are never negative."""
    assert final_document(EXPIRED, {}, None, AT - 5)["timing"]["queued_ms"] == 0.0


@pytest.mark.parametrize(
    "change",
    [
        *({"id": "another"}, {"extra": 1}, {"choices": []}, {"choices": {}}, {"choices": [1]}, {"choices": [{}]}),
        *({"usage": None}, {"timing": {"queued_ms": 1.0}}, {"timing": 5}, {"attempt": "2"}, {"attempt": True}),
        *({"created_at": "now"}, {"model": None}),
    ],
)
def test_what_no_worker_can_have_written_is_replaced(change: dict[str, Any]) -> None:
    """Nobody can have read any text in it."""
    assert final_document(EXPIRED, SHOWN | change, None, NOW) == final_document(EXPIRED, {}, None, NOW)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=4,
)


@given(
    st.dictionaries(st.text(), JSON, max_size=3)
    | st.fixed_dictionaries({}, optional=dict.fromkeys(SHOWN, JSON)).map(lambda change: SHOWN | change)
)
def test_whatever_is_there_the_document_can_be_written(found: dict[str, Any]) -> None:
    """With the members that every reply has, and the final status."""
    document = final_document(EXPIRED, found, None, NOW)

    assert document.keys() == SHOWN.keys()
    assert (document["id"], document["status"], document["error"]["code"]) == (JOB_ID, "expired", "expired")
    assert json.dumps(document).isascii()
    assert document["choices"]
