"""How the client reads reply documents, good and bad."""

from __future__ import annotations

import json
from typing import Any

import pytest

from client.errors import UnexpectedAnswer
from client.reply import Choice, ReplyError, Snapshot, Timing, Usage
from tests.client_service import JOB_ID, reply


def read(document: object) -> Snapshot:
    """Read a document as the client would."""
    return Snapshot.from_json(json.dumps(document).encode(), 1.5)


def test_a_document_becomes_a_snapshot() -> None:
    """Every field that the contract names arrives with its type."""
    document = reply("Hé")

    snapshot = read(document)

    assert snapshot == Snapshot(
        id=JOB_ID,
        status="streaming",
        choices=(Choice(0, "Hé", None),),
        usage=Usage(prompt_tokens=3, completion_tokens=2),
        timing=Timing(3.1, 41.0, None),
        error=None,
        elapsed_seconds=1.5,
        document=document,
    )
    assert snapshot.document == document
    assert not snapshot.is_final


@pytest.mark.parametrize("status", ["done", "failed", "cancelled", "expired"])
def test_final_statuses_are_final(status: str) -> None:
    """The four ends of a job are known as such."""
    assert read(reply(status=status)).is_final


def test_a_failure_before_the_first_token_is_readable() -> None:
    """A document without choices, usage and timing still tells its error."""
    error = {"code": "prompt_too_long", "message": "shorten it"}

    snapshot = read({"id": JOB_ID, "status": "failed", "choices": [], "usage": None, "error": error})

    assert snapshot.error == ReplyError("prompt_too_long", "shorten it")
    assert (snapshot.text, snapshot.usage, snapshot.timing) == ("", None, Timing())


def test_unknown_fields_are_ignored() -> None:
    """A newer worker may add fields."""
    assert read(reply("a") | {"novelty": [1]}).text == "a"


def test_logprobs_are_kept_as_they_are() -> None:
    """The library passes logprobs on."""
    document = reply("a")
    document["choices"][0]["logprobs"] = {"content": [{"token": "a", "logprob": -0.1}]}

    assert read(document).choices[0].logprobs == {"content": [{"token": "a", "logprob": -0.1}]}


def test_the_text_is_that_of_choice_zero_in_any_order() -> None:
    """`text` goes by the index of a choice, not by its place."""
    document = reply("zero", "one")
    document["choices"].reverse()

    assert read(document).text == "zero"


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", b'{"id":', b"\xff\xfe\xff", b"[" * 100_000],
    ids=["empty", "html", "cut", "not UTF-8", "deep"],
)
def test_what_is_not_json_is_named_as_such(content: bytes) -> None:
    """Anything but JSON ends as one clear error."""
    with pytest.raises(UnexpectedAnswer, match=r"the reply is \d+ bytes that are not JSON"):
        Snapshot.from_json(content, 0.0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"status": None}, "the reply.status has the wrong type"),
        ({"status": "paused"}, "a status that this client does not know"),
        ({"id": 7}, "the reply.id has the wrong type"),
        ({"choices": {}}, "the reply.choices has the wrong type"),
        ({"choices": ["text"]}, r"the reply.choices\[0\] is not an object"),
        ({"choices": [{"index": 0}]}, r"the reply.choices\[0\].text is missing"),
        ({"choices": [{"index": True, "text": ""}]}, r"the reply.choices\[0\].index has the wrong type"),
        ({"usage": {"prompt_tokens": 1}}, "the reply.usage.completion_tokens is missing"),
        ({"timing": {"queued_ms": "3"}}, "the reply.timing.queued_ms has the wrong type"),
        ({"error": "boom"}, "the reply.error is not an object"),
    ],
)
def test_a_wrong_field_is_named(changes: dict[str, Any], message: str) -> None:
    """Each malformed field is named in the error."""
    with pytest.raises(UnexpectedAnswer, match=message):
        read(reply("a") | changes)


def test_a_missing_status_is_named() -> None:
    """A document without a status is refused."""
    with pytest.raises(UnexpectedAnswer, match=r"the reply\.status is missing"):
        read({"id": JOB_ID})


def test_a_document_that_is_no_object_is_named() -> None:
    """JSON that is a list is refused."""
    with pytest.raises(UnexpectedAnswer, match="the reply is not an object"):
        read([])


def test_growth_and_its_absence_are_told_apart() -> None:
    """Text may grow and a failure may come without choices; text may not change."""
    earlier = read(reply("ab", "x"))

    assert read(reply("abc", "x")).continues(earlier)
    assert read(reply(status="failed")).continues(earlier)
    assert not read(reply("ab", "")).continues(earlier)
    assert not read(reply("ac", "xy")).continues(earlier)
