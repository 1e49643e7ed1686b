"""Reading back what an earlier run has shown."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.fakes import make_job
from worker.earlier import EarlierReply, ShownChoice
from worker.engine import Delta, Step
from worker.reply import Reply

NOW = 1_790_000_000.0


def document(**changed: Any) -> dict[str, Any]:
    """Return a document as a worker writes it, but for what is changed."""
    reply = Reply(make_job().id, "model", attempt=1, enqueued_at=NOW - 0.01, now=NOW)
    reply.expect(2)
    reply.add(Step(12, [Delta(0, "größer 🦙", 3), Delta(1, "x", 1, "length")]), NOW + 0.03)
    written: dict[str, Any] = json.loads(b"".join(reply.document(NOW + 1).blocks))
    return written | changed


def read(**changed: Any) -> EarlierReply | None:
    """Read such a document back."""
    return EarlierReply.from_json(json.dumps(document(**changed)).encode())


def test_what_a_worker_has_written_is_read_back() -> None:
    """Text, ends, counts and times."""
    earlier = read()
    assert earlier is not None
    assert earlier.choices == (ShownChoice(0, "größer 🦙", None, None), ShownChoice(1, "x", "length", None))
    assert earlier.unfinished == earlier.choices[:1]
    assert (earlier.prompt_tokens, earlier.completion_tokens) == (12, 4)
    assert (earlier.queued_ms, earlier.first_token_ms, earlier.created_at) == (10.0, 40.0, NOW)
    assert (earlier.is_final, earlier.is_blank) == (False, False)


@pytest.mark.parametrize("status", ["done", "failed", "cancelled", "expired"])
def test_a_final_status_is_final(status: str) -> None:
    """Nothing is to be done for such a job any more."""
    earlier = read(status=status)
    assert earlier is not None
    assert earlier.is_final


def test_a_document_without_text_is_blank() -> None:
    """Nobody can have read anything in it."""
    blank = {"index": 0, "text": "", "finish_reason": None, "logprobs": None}
    earlier, finished = read(choices=[blank]), read(choices=[blank | {"finish_reason": "stop"}])
    assert earlier is not None
    assert finished is not None
    assert (earlier.is_blank, finished.is_blank) == (True, False)


@pytest.mark.parametrize(
    "changed",
    [
        {"choices": []},
        {"choices": None},
        {"choices": [{"index": 0}]},
        {"choices": [{"index": 1, "text": "", "finish_reason": None, "logprobs": None}]},
        {"choices": [{"index": 0, "text": "", "finish_reason": None, "logprobs": {}}]},
        {"usage": {}},
        {"timing": {"queued_ms": None}},
        {"created_at": "now"},
    ],
)
def test_what_no_worker_has_written_is_none(changed: dict[str, Any]) -> None:
    """A job goes on behind nothing else than a whole document."""
    assert read(**changed) is None


def test_what_a_text_has_cost_is_no_more_than_was_counted() -> None:
    """A broken character takes more tokens to spell than it took to say."""
    earlier = read()
    assert earlier is not None
    choice = earlier.choices[0]
    assert earlier.spent(choice, lambda _text: 3) == 3
    assert earlier.spent(choice, lambda _text: 9) == 4


@pytest.mark.parametrize(("text", "count"), [("", 0), ("a", 1), ("ab", 1), ("abc", 2), ("abcd", 3)])
def test_only_logprobs_of_shown_text_are_kept(text: str, count: int) -> None:
    """Those of text that was held back come again; a finished choice keeps all."""
    entries = [{"token": "a"}, {"token": "bc"}, {"token": "d"}]
    assert ShownChoice(0, text, None, entries).shown_logprobs() == entries[:count]
    assert ShownChoice(0, text, "stop", entries).shown_logprobs() == entries
    assert ShownChoice(0, text, None, None).shown_logprobs() is None
