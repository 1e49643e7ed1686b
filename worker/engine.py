"""What the worker asks of an engine. `worker.vllm_engine` is the one that users run."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, Protocol

from router_lambda.job import Job


@dataclass(slots=True)  # one for every token: frozen, it would take three times as long to make
class Delta:
    """What one choice gained in one step.

    `text` always ends on a whole character. `logprobs` has one entry a token, each `{"token", "logprob",
    "top_logprobs": [{"token", "logprob"}, …]}` as in the OpenAI chat API; `None` when not asked for.
    """

    index: int
    text: str
    tokens: int
    finish_reason: str | None = None
    logprobs: list[dict[str, Any]] | None = None


@dataclass(slots=True)
class Step:
    """One answer of the engine: the length of the prompt in tokens, and what its choices gained."""

    prompt_tokens: int
    deltas: list[Delta]


class Engine(Protocol):
    """An engine that is ready to generate."""

    model: str
    """Name of the model as replies and metrics show it."""

    def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Stream a job until each choice has its `finish_reason`.

        Closing the generator, or cancelling the task that runs it, aborts the request in the engine.

        Raises:
            JobRejected: this job can never run.
            EngineDied: the engine is gone.
        """
        ...

    def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:
        """Stream the rest of one choice of a job, from behind the text that is shown already.

        Ends, closes and fails as `generate`; the deltas all carry `index`. The shown text has `spent` so many of the
        job's `max_tokens`.

        Raises:
            JobRejected: also, as `interrupted`, when the model's tokens cannot spell the shown text.
        """
        ...

    def count_tokens(self, text: str) -> int:
        """Return how many of the model's tokens a text has."""
        ...

    async def check(self) -> None:
        """Look whether the engine still lives.

        Raises:
            EngineDied: it does not.
        """
        ...

    async def stop(self) -> None:
        """End the engine's processes; requests that still run are lost."""
        ...
