"""The reply document as the client sees it: one frozen snapshot per change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from client.errors import UnexpectedAnswer
from client.fields import Fields
from router_lambda.job import FINAL_STATUSES


@dataclass(frozen=True, slots=True)
class Choice:
    """One of the `n` answers. `finish_reason` is `None` while it still grows."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: Any = None


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens so far, over all choices."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True)
class Timing:
    """What the worker measured, in milliseconds; `None` is not known yet."""

    queued_ms: float | None = None
    first_token_ms: float | None = None
    total_ms: float | None = None


@dataclass(frozen=True, slots=True)
class ReplyError:
    """Why a job failed, in the worker's words."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The reply at one moment.

    `elapsed_seconds` runs from the client's POST to the arrival of this snapshot; `document` is all that was
    received.
    """

    id: str
    status: str
    choices: tuple[Choice, ...]
    usage: Usage | None
    timing: Timing
    error: ReplyError | None
    elapsed_seconds: float
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, content: bytes, elapsed_seconds: float) -> Snapshot:
        """Read a reply object. What later versions add is ignored.

        Raises:
            UnexpectedAnswer: it is not JSON, a field is missing or mistyped, or the status does not exist.
        """
        reply = Fields.parse(content, "the reply")
        status = reply.text("status")
        if status != "streaming" and status not in FINAL_STATUSES:
            raise UnexpectedAnswer("the reply has a status that this client does not know; update tl-fif")
        return cls(
            id=reply.text("id"),
            status=status,
            choices=tuple(map(_choice, reply.parts("choices"))),
            usage=_usage(reply.part("usage")),
            timing=_timing(reply.part("timing")),
            error=_error(reply.part("error")),
            elapsed_seconds=elapsed_seconds,
            document=reply.value,
        )

    @property
    def text(self) -> str:
        """Text of the first choice, empty before there is one."""
        return next((choice.text for choice in self.choices if choice.index == 0), "")

    @property
    def is_final(self) -> bool:
        """Whether this snapshot is the last one."""
        return self.status in FINAL_STATUSES

    def continues(self, earlier: Snapshot) -> bool:
        """Tell whether every text here goes on from where it was in `earlier`."""
        before = {choice.index: choice.text for choice in earlier.choices}
        return all(choice.text.startswith(before.get(choice.index, "")) for choice in self.choices)


def _choice(choice: Fields) -> Choice:
    return Choice(
        index=choice.count("index"),
        text=choice.text("text"),
        finish_reason=choice.optional_text("finish_reason"),
        logprobs=choice.value.get("logprobs"),
    )


def _usage(usage: Fields | None) -> Usage | None:
    return None if usage is None else Usage(usage.count("prompt_tokens"), usage.count("completion_tokens"))


def _timing(timing: Fields | None) -> Timing:
    if timing is None:
        return Timing()
    return Timing(
        queued_ms=timing.optional_number("queued_ms"),
        first_token_ms=timing.optional_number("first_token_ms"),
        total_ms=timing.optional_number("total_ms"),
    )


def _error(error: Fields | None) -> ReplyError | None:
    return None if error is None else ReplyError(error.text("code"), error.optional_text("message") or "")
