"""What a reader sees of a reply."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING

import pytest

from client.printing import FinalDocument, GrowingText, LabelledChoices, ending, receipt
from client.reply import Snapshot
from tests.client_service import reply

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


def snapshot(*texts: str, status: str = "streaming", elapsed: float = 1.0, **fields: object) -> Snapshot:
    """Return a snapshot with these texts."""
    return Snapshot.from_json(json.dumps(reply(*texts, status=status, **fields)).encode(), elapsed)


class Pipe(io.RawIOBase):
    """Records each write of bytes that reaches the operating system."""

    def __init__(self) -> None:
        self.writes: list[bytes] = []

    def writable(self) -> bool:
        """Allow a buffer on top."""
        return True

    def write(self, data: ReadableBuffer, /) -> int:
        """Take everything."""
        self.writes.append(bytes(data))
        return len(self.writes[-1])


def piped(pipe: Pipe) -> io.TextIOWrapper:
    """Return a text stream such as stdout is when piped: UTF-8 with a large buffer."""
    return io.TextIOWrapper(io.BufferedWriter(pipe), encoding="utf-8", errors="replace")


def test_only_new_text_is_written_and_at_once() -> None:
    """Each snapshot puts its own suffix, and no more, into the pipe."""
    pipe = Pipe()
    printer = GrowingText(piped(pipe))

    for text in ("", "The", "The", "The sky", "The sky is"):
        printer.show(snapshot(text))
    printer.close()

    assert pipe.writes == [b"The", b" sky", b" is", b"\n"]


def test_no_write_breaks_a_character() -> None:
    """Text that grows by single characters of up to four bytes is whole in every write."""
    text = "aé€😀👩‍👩‍👧नि"
    pipe = Pipe()
    printer = GrowingText(piped(pipe))

    for end in range(1, len(text) + 1):
        printer.show(snapshot(text[:end]))

    assert "".join(write.decode("utf-8") for write in pipe.writes) == text


def test_a_lone_surrogate_does_not_end_the_reply() -> None:
    """What UTF-8 cannot carry is replaced, and the rest goes on."""
    pipe = Pipe()
    printer = GrowingText(piped(pipe))

    printer.show(snapshot("a\ud83d"))
    printer.show(snapshot("a\ud83db"))

    assert b"".join(pipe.writes) == b"a?b"


@pytest.mark.parametrize(("text", "shown"), [("", ""), ("a", "a\n"), ("a\n", "a\n")])
def test_the_last_line_is_ended_once(text: str, shown: str) -> None:
    """A newline is added only where there is text without one."""
    out = io.StringIO()
    printer = GrowingText(out)

    printer.show(snapshot(text))
    printer.close()

    assert out.getvalue() == shown


def test_several_choices_are_labelled_at_the_end() -> None:
    """Nothing is shown while they grow; then each stands under its number, in order."""
    out = io.StringIO()
    printer = LabelledChoices(out)

    printer.show(snapshot("he", "wo"))
    assert not out.getvalue()
    printer.show(snapshot("hello", "world\n", status="done"))
    printer.close()

    assert out.getvalue() == "--- choice 1 of 2 ---\nhello\n--- choice 2 of 2 ---\nworld\n"


def test_without_a_snapshot_no_choice_is_printed() -> None:
    """A job that ends before its first snapshot leaves stdout empty."""
    out = io.StringIO()

    LabelledChoices(out).close()

    assert not out.getvalue()


def test_the_document_comes_alone_and_final() -> None:
    """JSON output is the last document as received, on one line of ASCII."""
    out = io.StringIO()
    printer = FinalDocument(out)

    printer.show(snapshot("h"))
    printer.show(snapshot("hé", status="done", novelty=1))
    printer.close()

    assert out.getvalue().isascii()
    assert out.getvalue().count("\n") == 1
    assert json.loads(out.getvalue()) == reply("hé", status="done", novelty=1)


def test_the_receipt_tells_what_the_user_and_the_worker_measured() -> None:
    """Wall times come from the snapshots, the worker's from its document."""
    first = snapshot("a", elapsed=0.456)
    last = snapshot(
        "abc", status="done", elapsed=2.0, timing={"queued_ms": 3.1, "first_token_ms": 41, "total_ms": 1500.4}
    )

    assert receipt(first, last) == (
        "3 tokens, first token after 0.46 s, total 2.00 s (worker: queued 3 ms, first token 41 ms, total 1500 ms)"
    )


def test_the_receipt_leaves_out_what_nobody_measured() -> None:
    """A job that never ran has a total and nothing else."""
    assert receipt(None, snapshot(status="expired", elapsed=300, usage=None, timing=None)) == "total 300.00 s"


@pytest.mark.parametrize(
    ("last", "words"),
    [
        (snapshot("a", status="done"), None),
        (snapshot(status="failed", error={"code": "c", "message": "m"}), "the job failed: m [c]"),
        (snapshot(status="failed"), "the job failed: the worker gave no reason"),
        (snapshot(status="expired"), "the job expired before a worker took it; send it again"),
        (snapshot(status="cancelled"), "the job was cancelled"),
    ],
)
def test_every_end_has_its_words(last: Snapshot, words: str | None) -> None:
    """Each final status is explained, success excepted."""
    assert ending(last) == words
