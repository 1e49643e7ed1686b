"""What became of replies on their way to the client, and what another way of waiting for them would have changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import mean, median
from typing import Final

from client.pacing import LONGEST_SECONDS

PHASES: Final = ("router", "queue", "engine", "S3", "look")
"""From the POST to the queue; until the worker takes it; to the first token; until S3 has it; until the client does."""


REPLIES: Final = 32
"""Replies in a round, at least; more where a wave has more."""


@dataclass(frozen=True, slots=True)
class Look:
    """One GET of the reply by the client; `began` is in Unix seconds."""

    began: float
    seconds: float
    found: bool


@dataclass(frozen=True, slots=True)
class Waiting:
    """A way to wait for the first look that finds something: the first interval, and what each one grows by."""

    shortest_seconds: float
    stretch: float

    def __str__(self) -> str:
        return f"{self.shortest_seconds * 1e3:g} ms, +{self.stretch - 1:.0%}"


@dataclass(frozen=True, slots=True)
class Seen:
    """The first token of one reply, in Unix seconds of this machine's clock, and every look at the reply.

    Attributes:
        posted: the client called.
        answered: it had the gateway's 202.
        queued: the router queued the job.
        taken: a worker took it.
        said: the engine gave the first token.
        stored: S3 had it.
        visible: the client had it.
    """

    posted: float
    answered: float
    queued: float
    taken: float
    said: float
    stored: float
    visible: float
    looks: Sequence[Look]

    @property
    def visible_ms(self) -> float:
        """Milliseconds from the call to the first token in the client's hands."""
        return (self.visible - self.posted) * 1e3

    @property
    def phases_ms(self) -> dict[str, float]:
        """The same, cut into `PHASES`."""
        moments = (self.posted, self.queued, self.taken, self.said, self.stored, self.visible)
        spans = (after - before for before, after in pairwise(moments))
        return {phase: span * 1e3 for phase, span in zip(PHASES, spans, strict=True)}

    @property
    def looks_until_visible(self) -> int:
        """How often the client looked until it saw something, that time included."""
        return 1 + next(number for number, look in enumerate(self.looks) if look.found)


@dataclass
class Case:
    """Waves of so many clients at once: every reply, and the floor's first tokens in ms; both by round."""

    clients: int
    replies: list[list[Seen]] = field(default_factory=list)
    floor_ms: list[list[float]] = field(default_factory=list)

    @property
    def waves(self) -> int:
        """Waves in a round."""
        return -(-REPLIES // self.clients)

    @property
    def name(self) -> str:
        """What the tables call it."""
        return "1 client" if self.clients == 1 else f"{self.clients} clients"

    def all(self) -> list[Seen]:
        """Return the replies of all rounds."""
        return [seen for replies in self.replies for seen in replies]

    def visible_ms(self) -> list[float]:
        """Return the median wait of each round."""
        return [median(seen.visible_ms for seen in replies) for replies in self.replies]

    def ratios(self) -> list[float]:
        """Return the median wait by that of the floor, round by round."""
        return [ours / median(floor) for ours, floor in zip(self.visible_ms(), self.floor_ms, strict=True)]


def look_seconds(replies: Sequence[Seen]) -> tuple[float, float]:
    """Return what a look takes that finds nothing, and one that finds the first snapshot: medians."""
    in_vain = [look.seconds for seen in replies for look in seen.looks[: seen.looks_until_visible - 1]]
    found = [seen.looks[seen.looks_until_visible - 1].seconds for seen in replies]
    return median(in_vain or found), median(found)


def waited(seen: Seen, waiting: Waiting, in_vain: float, found: float) -> tuple[float, int]:
    """Return when the client would have seen a reply, in ms from its call, and after how many looks.

    The store answers what it knows in the middle of a look.
    """
    began, interval, looks = seen.answered, waiting.shortest_seconds, 1
    while began + found / 2 < seen.stored:
        began += in_vain + interval
        interval = min(interval * waiting.stretch, LONGEST_SECONDS)
        looks += 1
    return (began + found - seen.posted) * 1e3, looks


def replayed(replies: Sequence[Seen], waiting: Waiting) -> dict[str, float]:
    """Return what this way of waiting would have made of these replies: `ms` late, in the middle, and `looks`."""
    in_vain, found = look_seconds(replies)
    each = [waited(seen, waiting, in_vain, found) for seen in replies]
    late = [ms - (seen.stored - seen.posted) * 1e3 for seen, (ms, _) in zip(replies, each, strict=True)]
    return {"visible_ms": median(ms for ms, _ in each), "late_ms": mean(late), "looks": mean(n for _, n in each)}
