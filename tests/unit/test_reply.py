"""The reply document: its form, its growth and its size."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from worker.earlier import EarlierReply
from worker.engine import Delta, Step
from worker.reply import Reply

NOW = 1_790_000_000.0


def new_reply(**changed: Any) -> Reply:
    """Return an empty reply of a job that waited 10 ms."""
    fields: dict[str, Any] = {"attempt": 1, "enqueued_at": NOW - 0.01, "now": NOW}
    return Reply("an-id", "a-model", **fields | changed)


def whole(reply: Reply, now: float = NOW + 1) -> Any:
    """Return the document as a reader gets it."""
    return json.loads(b"".join(reply.document(now).blocks))


def test_document_has_the_contract_s_form() -> None:
    """Every field is there, from the first snapshot to the last."""
    reply = new_reply()
    reply.add(Step(12, [Delta(0, "Hi", 1)]), NOW + 0.03)
    assert whole(reply) == {
        "id": "an-id",
        "status": "streaming",
        "model": "a-model",
        "choices": [{"index": 0, "text": "Hi", "finish_reason": None, "logprobs": None}],
        "usage": {"prompt_tokens": 12, "completion_tokens": 1},
        "timing": {"queued_ms": 10.0, "first_token_ms": 40.0, "total_ms": None},
        "attempt": 1,
        "error": None,
        "created_at": NOW,
        "updated_at": NOW + 1,
    }


def test_final_document_says_how_it_ended() -> None:
    """A failure has a code and a sentence, and keeps the text that was shown."""
    reply = new_reply()
    reply.add(Step(12, [Delta(0, "Hi", 1)]), NOW + 0.03)
    reply.finish("failed", NOW + 0.5, error=("some_code", "some sentence"))
    document = whole(reply)
    assert (document["status"], document["timing"]["total_ms"]) == ("failed", 510.0)
    assert document["error"] == {"code": "some_code", "message": "some sentence"}
    assert document["choices"][0]["text"] == "Hi"


@settings(derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=20))
def test_any_text_comes_back_as_it_was(pieces: list[str]) -> None:
    """Quotes, control characters and every script survive the escaping piece by piece."""
    reply = new_reply()
    for piece in pieces:
        reply.add(Step(1, [Delta(0, piece, 1)]), NOW)
    assert whole(reply)["choices"][0]["text"] == "".join(pieces)


def test_choices_grow_side_by_side() -> None:
    """With `n` each choice has its own text, end and logprobs."""
    reply = new_reply()
    reply.expect(2)
    entry = {"token": "b", "logprob": -0.5, "top_logprobs": []}
    reply.add(Step(1, [Delta(1, "b", 1, logprobs=[entry])]), NOW)
    reply.add(Step(1, [Delta(0, "a", 1, "stop"), Delta(1, "b", 1, "length", [entry])]), NOW)
    first, second = whole(reply)["choices"]
    assert (first["text"], first["finish_reason"], first["logprobs"]) == ("a", "stop", None)
    assert (second["text"], second["finish_reason"]) == ("bb", "length")
    assert second["logprobs"] == {"content": [entry, entry]}


def test_a_frozen_document_does_not_grow() -> None:
    """A snapshot that is being uploaded stays what it was while tokens arrive, across sealed blocks too."""
    reply = new_reply()
    reply.add(Step(1, [Delta(0, "a" * 70_000, 1)]), NOW)
    reply.add(Step(1, [Delta(0, "b" * 10, 1)]), NOW)
    frozen = reply.document(NOW)
    reply.add(Step(1, [Delta(0, "c" * 70_000, 1)]), NOW)
    assert json.loads(b"".join(frozen.blocks))["choices"][0]["text"] == "a" * 70_000 + "b" * 10


def test_size_is_nearly_the_document_s() -> None:
    """What the pacing goes by is what an upload costs."""
    reply = new_reply()
    for _ in range(1_000):
        reply.add(Step(1, [Delta(0, 'Größe "x"\n', 1)]), NOW)
    assert reply.size == pytest.approx(reply.document(NOW).size, abs=64)


def test_size_counts_every_choice() -> None:
    """Eight empty choices already take their room."""
    reply = new_reply()
    reply.expect(8)
    assert reply.size == pytest.approx(reply.document(NOW).size, abs=64)


@pytest.mark.parametrize("part", [1, 7, 100, 10_000])
def test_parts_are_the_document(part: int) -> None:
    """Parts are full but for the last one, and joined they are the document."""
    reply = new_reply()
    for number in range(50):
        reply.add(Step(1, [Delta(0, f"{number} ", 1)]), NOW)
    document = reply.document(NOW)
    parts = list(document.parts(part))
    assert b"".join(parts) == b"".join(document.blocks)
    assert all(len(p) == part for p in parts[:-1])
    assert 0 < len(parts[-1]) <= part


def test_restoring_keeps_what_was_shown() -> None:
    """An earlier run's text, logprobs, counts and first token carry over."""
    entry = {"token": "x", "logprob": -1.0, "top_logprobs": []}
    earlier = new_reply()
    earlier.expect(2)
    earlier.add(Step(12, [Delta(0, "shown", 2), Delta(1, "x", 1, "length", [entry])]), NOW + 0.03)
    later = new_reply(attempt=2, now=NOW + 20)
    read = EarlierReply.from_json(json.dumps(whole(earlier)).encode())
    assert read is not None
    later.restore(read, {"shown": 2, "x": 1}.__getitem__)
    assert whole(later)["choices"] == whole(earlier)["choices"]
    assert whole(later)["usage"] == whole(earlier)["usage"]
    assert whole(later)["timing"]["first_token_ms"] == 40.0
    assert (whole(later)["attempt"], whole(later)["created_at"]) == (2, NOW)


def test_a_router_s_clock_ahead_of_ours_counts_as_no_wait() -> None:
    """No latency is ever negative."""
    reply = new_reply(enqueued_at=NOW + 100)
    reply.add(Step(1, [Delta(0, "x", 1)]), NOW + 0.25)
    timing = whole(reply)["timing"]
    assert (timing["queued_ms"], timing["first_token_ms"]) == (0.0, 250.0)
