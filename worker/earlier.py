"""What an earlier run of the same job has shown: read back from its reply object."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from router_lambda.job import FINAL_STATUSES


@dataclass(frozen=True, slots=True)
class ShownChoice:
    """One choice as its reader has seen it. `logprobs` are entries as in `worker.engine.Delta`, `None` without any."""

    index: int
    text: str
    finish_reason: str | None
    logprobs: list[dict[str, Any]] | None

    def shown_logprobs(self) -> list[dict[str, Any]] | None:
        """Return the entries whose text is shown; an unfinished choice may have a few more, of text held back."""
        if self.logprobs is None or self.finish_reason is not None:
            return self.logprobs
        shown, room = [], len(self.text)
        for entry in self.logprobs:
            room -= len(entry["token"])
            if room < 0:
                break
            shown.append(entry)
        return shown


@dataclass(frozen=True, slots=True)
class EarlierReply:
    """The document that stood when this run began; times and counts as `worker.reply.Reply` has them."""

    status: str
    choices: tuple[ShownChoice, ...]
    prompt_tokens: int
    completion_tokens: int
    queued_ms: float
    first_token_ms: float | None
    created_at: float

    @property
    def is_final(self) -> bool:
        """Whether it may never change again."""
        return self.status in FINAL_STATUSES

    @property
    def is_blank(self) -> bool:
        """Whether nobody can have read anything in it."""
        return not any(choice.text or choice.finish_reason for choice in self.choices)

    @property
    def unfinished(self) -> tuple[ShownChoice, ...]:
        """The choices that are to go on."""
        return tuple(choice for choice in self.choices if choice.finish_reason is None)

    def spent(self, choice: ShownChoice, count_tokens: Callable[[str], int]) -> int:
        """Return how many tokens the shown text of a choice has cost.

        A broken character was one token when it was said and is three when it is spelled; text that was held back is
        said again and does not count yet.
        """
        return min(count_tokens(choice.text), self.completion_tokens)

    @classmethod
    def from_json(cls, document: bytes) -> EarlierReply | None:
        """Read a reply document back; `None` if no worker can have written it."""
        try:
            read = json.loads(document)
            choices = [
                ShownChoice(
                    index=int(choice["index"]),
                    text=str(choice["text"]),
                    finish_reason=choice["finish_reason"],
                    logprobs=None if choice["logprobs"] is None else list(choice["logprobs"]["content"]),
                )
                for choice in read["choices"]
            ]
            if [choice.index for choice in choices] != list(range(len(choices))) or not choices:
                return None
            return cls(
                status=str(read["status"]),
                choices=tuple(choices),
                prompt_tokens=int(read["usage"]["prompt_tokens"]),
                completion_tokens=int(read["usage"]["completion_tokens"]),
                queued_ms=float(read["timing"]["queued_ms"]),
                first_token_ms=read["timing"]["first_token_ms"],
                created_at=float(read["created_at"]),
            )
        except (ValueError, KeyError, TypeError, IndexError, RecursionError):
            return None
