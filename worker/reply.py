"""The reply document while it grows.

Text is escaped once, when it arrives, and kept as bytes of JSON. A snapshot is then a list of references to bytes that
never change: taking one costs nearly the same for 20 MB as for 20 bytes, and its upload can go on while the next tokens
arrive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

from worker.earlier import EarlierReply
from worker.engine import Delta, Step

_SEAL_BYTES: Final = 65_536
"""Size at which a tail becomes an immutable block; small enough to copy per snapshot, large enough to be rare."""


class _Growing:
    """Bytes that only grow: sealed blocks that snapshots share, and a short tail."""

    def __init__(self) -> None:
        self._sealed: list[bytes] = []
        self._tail = bytearray()
        self.size = 0

    def append(self, data: bytes) -> None:
        self._tail += data
        self.size += len(data)
        if len(self._tail) >= _SEAL_BYTES:
            self._sealed.append(bytes(self._tail))
            self._tail.clear()

    def blocks(self) -> list[bytes]:
        return [*self._sealed, bytes(self._tail)]


@dataclass(slots=True)
class _Choice:
    text: _Growing = field(default_factory=_Growing)
    logprobs: _Growing | None = None
    finish_reason: str | None = None


@dataclass(frozen=True, slots=True)
class Document:
    """A whole reply document, frozen at one moment: blocks of bytes that make up its JSON, and their total size."""

    blocks: list[bytes]
    size: int

    def parts(self, part_bytes: int) -> Iterator[bytes]:
        """Yield the document cut into parts of `part_bytes`, the last one shorter, holding one part at a time."""
        pieces: list[memoryview] = []
        room = part_bytes
        for block in self.blocks:
            rest = memoryview(block)
            while rest:
                pieces.append(rest[:room])
                rest = rest[room:]
                room -= len(pieces[-1])
                if room == 0:
                    yield b"".join(pieces)
                    pieces, room = [], part_bytes
        if pieces:
            yield b"".join(pieces)


class Reply:
    """The reply of one job, from its first token to its final status.

    Times: `created_at` and every `now` are Unix seconds; `queued_ms`, `first_token_ms`, `first_shown_ms` and
    `total_ms` count from the moment the router queued the job. A router's clock that is ahead of ours counts as no wait
    at all.
    """

    def __init__(self, job_id: str, model: str, *, attempt: int, enqueued_at: float, now: float) -> None:
        self.id = job_id
        self.model = model
        self.status = "streaming"
        self.attempt = attempt
        self.error: dict[str, str] | None = None
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.created_at = now
        self.queued_ms = max(0.0, now - enqueued_at) * 1e3
        self.first_token_ms: float | None = None
        self.first_shown_ms: float | None = None
        self.total_ms: float | None = None
        self._enqueued_at = min(enqueued_at, now)
        self._choices = [_Choice()]
        self._content = 0
        self._frame: int | None = None

    @property
    def size(self) -> int:
        """Bytes of the document, give or take the few digits by which counts and times grow."""
        if self._frame is None:
            self._frame = self.document(self.created_at).size - self._content
        return self._frame + self._content

    @property
    def is_final(self) -> bool:
        """Whether the document has its final status and may no longer change."""
        return self.status != "streaming"

    def expect(self, choices: int) -> None:
        """Make room for the number of choices that was asked for; one is there from the start."""
        if choices > len(self._choices):
            self._choices += [_Choice() for _ in range(choices - len(self._choices))]
            self._frame = None

    def add(self, step: Step, now: float) -> None:
        """Add what one step of the engine brought."""
        if self.first_token_ms is None:
            self.first_token_ms = (now - self._enqueued_at) * 1e3
        self.prompt_tokens = step.prompt_tokens
        for delta in step.deltas:
            choice = self._choices[delta.index]
            if delta.text:
                escaped = _json(delta.text)[1:-1]
                choice.text.append(escaped)
                self._content += len(escaped)
            if delta.logprobs is not None:
                self._add_logprobs(choice, delta.logprobs)
            if delta.finish_reason is not None:
                choice.finish_reason = delta.finish_reason
            self.completion_tokens += delta.tokens

    def shown(self, now: float) -> None:
        """Note that the document is in S3; of the first time with text in it `first_shown_ms` tells, to operators."""
        if self.first_shown_ms is None and self.first_token_ms is not None:
            self.first_shown_ms = (now - self._enqueued_at) * 1e3

    def _add_logprobs(self, choice: _Choice, entries: list[dict[str, Any]]) -> None:
        if choice.logprobs is None:
            choice.logprobs = _Growing()
        for entry in entries:
            encoded = (b"," if choice.logprobs.size else b"") + _json(entry)
            choice.logprobs.append(encoded)
            self._content += len(encoded)

    def restore(self, earlier: EarlierReply, count_tokens: Callable[[str], int]) -> None:
        """Take over what an earlier run of the same job has shown, so that no reader sees it shrink.

        Of the tokens so far those count whose text is shown, since the stream goes on from there; once all choices are
        finished, all of them.
        """
        self.expect(len(earlier.choices))
        deltas = [
            Delta(
                choice.index,
                choice.text,
                tokens=earlier.spent(choice, count_tokens),
                finish_reason=choice.finish_reason,
                logprobs=choice.shown_logprobs(),
            )
            for choice in earlier.choices
        ]
        self.add(Step(earlier.prompt_tokens, deltas), self.created_at)
        if not earlier.unfinished:
            self.completion_tokens = earlier.completion_tokens
        self.queued_ms = earlier.queued_ms
        self.first_token_ms = earlier.first_token_ms
        self.created_at = earlier.created_at

    def finish(self, status: str, now: float, *, error: tuple[str, str] | None = None) -> None:
        """Give the document its final status; `error` is a code for programs and a sentence for people."""
        self.status = status
        self.total_ms = (now - self._enqueued_at) * 1e3
        self.error = None if error is None else {"code": error[0], "message": error[1]}

    def document(self, now: float) -> Document:
        """Freeze the whole document as of `now`."""
        blocks = [_json({"id": self.id, "status": self.status, "model": self.model})[:-1] + b',"choices":[']
        for index, choice in enumerate(self._choices):
            blocks.append((b"," if index else b"") + b'{"index":%d,"text":"' % index)
            blocks += choice.text.blocks()
            blocks.append(b'","finish_reason":%b,"logprobs":' % _json(choice.finish_reason))
            if choice.logprobs is None:
                blocks.append(b"null}")
            else:
                blocks += [b'{"content":[', *choice.logprobs.blocks(), b"]}}"]
        rest = {
            "usage": {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens},
            "timing": {
                "queued_ms": _rounded(self.queued_ms),
                "first_token_ms": _rounded(self.first_token_ms),
                "total_ms": _rounded(self.total_ms),
            },
            "attempt": self.attempt,
            "error": self.error,
            "created_at": self.created_at,
            "updated_at": now,
        }
        blocks.append(b"]," + _json(rest)[1:])
        return Document(blocks, sum(map(len, blocks)))


_json: Final = msgspec.json.Encoder().encode
"""Returns a value as JSON in UTF-8. Made once, and not by the standard library: it is needed for every token."""


def _rounded(milliseconds: float | None) -> float | None:
    return None if milliseconds is None else round(milliseconds, 3)
