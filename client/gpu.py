"""The GPU as `GET /status` tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from client.fields import Fields
from client.quoting import quote

STOPPED: Final = "stopped"

_PHASES: Final = {
    "instance": "the instance boots",
    "imports": "the worker imports vLLM",
    "engine": "vLLM loads the model",
}


@dataclass(frozen=True, slots=True)
class Status:
    """What the GPU does at one moment.

    Attributes:
        state: `stopped`, `starting` (the instance boots), `booting` (the worker on it loads), `ready`, `stopping`, or
            a word of a later version.
        phase: which part of the way to `ready` is under way: `instance`, `imports` or `engine`; `None` on no way.
        eta_seconds: how long the rest of the way takes; `None` on no way.
        waiting: jobs in the queue.
        running: jobs that a worker has taken.
        model: the model's name; `None` where it is not known.
        idle_seconds: when the GPU stops by itself; `None` while there is work or it is not ready.
        problem: a sentence about what keeps the GPU from getting ready; `None` if nothing does.
        document: all that was received.
    """

    state: str
    phase: str | None
    eta_seconds: float | None
    waiting: int
    running: int
    model: str | None
    idle_seconds: float | None
    problem: str | None
    document: Mapping[str, Any] = field(repr=False, compare=False)

    @classmethod
    def from_json(cls, content: bytes) -> Status:
        """Read the body of the answer. What later versions add is ignored.

        Raises:
            UnexpectedAnswer: it is not JSON, or a field is missing or mistyped.
        """
        status = Fields.parse(content, "the answer to GET /status")
        return cls(
            state=status.text("state"),
            phase=status.optional_text("phase"),
            eta_seconds=status.optional_number("eta"),
            waiting=status.count("waiting"),
            running=status.count("running"),
            model=status.optional_text("model"),
            idle_seconds=status.optional_number("idle_seconds"),
            problem=status.optional_text("problem"),
            document=status.value,
        )

    @property
    def activity(self) -> str | None:
        """The phase in words; `None` without one."""
        return None if self.phase is None else _PHASES.get(self.phase, quote(self.phase))

    def is_like(self, other: Status) -> bool:
        """Tell whether both say the same, but for how many seconds something takes."""
        return self._timeless() == other._timeless()

    def _timeless(self) -> Status:
        eta = None if self.eta_seconds is None else 0
        idle = None if self.idle_seconds is None else 0
        return replace(self, eta_seconds=eta, idle_seconds=idle)
