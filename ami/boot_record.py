"""What a boot that was proven took, and whether that is still good: against limits, and against an earlier record."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

SLACK_SECONDS: Final = 1.0
"""Growth that no ratio makes a regression: a phase of a tenth of a second doubles for no reason."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Most seconds for each phase, and for all of these together."""

    phases: Mapping[str, float]
    sum: float

    @classmethod
    def read(cls, path: Path) -> Limits:
        """Read a file such as boot_limits.json.

        Raises:
            ValueError: it is no such file.
        """
        found = json.loads(path.read_text(encoding="utf-8"))
        try:
            limits = cls({name: float(seconds) for name, seconds in found["phases"].items()}, float(found["sum"]))
        except (KeyError, TypeError, AttributeError, ValueError):
            raise ValueError(f'{path} has to hold {{"phases": {{name: seconds}}, "sum": seconds}}') from None
        if not limits.phases or min(*limits.phases.values(), limits.sum) <= 0:
            raise ValueError(f"{path} has to name phases, each with seconds above 0")
        return limits


@dataclass(frozen=True, slots=True)
class BootRecord:
    """One boot.

    Attributes:
        at: when it was proven, in ISO 8601.
        made_of: versions, model and GPU; a boot of something else is no baseline.
        state: what `/healthz` said, `ready` or `degraded`.
        phases: seconds by phase; `first_token` is that of the golden prompt, from asking on.
    """

    at: str
    made_of: dict[str, str | None]
    state: str
    phases: dict[str, float] = field(default_factory=dict)

    @classmethod
    def read(cls, path: Path) -> BootRecord:
        """Read what `text` has written.

        Raises:
            ValueError: it is no record.
        """
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        try:
            return cls(found["at"], found["made_of"], found["state"], found["phases"])
        except (KeyError, TypeError):
            raise ValueError(f"{path} is no record of a boot") from None

    def text(self) -> str:
        """Return it as one line of JSON."""
        return json.dumps({**asdict(self), "sum": round(sum(self.phases.values()), 3)})

    def is_like(self, other: BootRecord) -> bool:
        """Tell whether both booted the same model on the same GPU, so that their times can be compared."""
        return all(self.made_of.get(name) == other.made_of.get(name) for name in ("model", "gpu"))


def too_slow(record: BootRecord, limits: Limits) -> list[str]:
    """Say which phases, or their sum, took longer than they may; a phase that was not measured is said, too."""
    problems = [f"phase {name}: not measured" for name in limits.phases if name not in record.phases]
    taken = {name: record.phases.get(name, 0.0) for name in limits.phases}
    for name, seconds in taken.items():
        if seconds > limits.phases[name]:
            problems.append(f"phase {name}: limit {limits.phases[name]:g} s, took {seconds:.3f} s")
    if (total := sum(taken.values())) > limits.sum:
        problems.append(f"all phases: limit {limits.sum:g} s, took {total:.3f} s")
    return problems


def regressed(record: BootRecord, baseline: BootRecord, ratio: float) -> list[str]:
    """Say which phases took more than `ratio` times as long as in the baseline, and `SLACK_SECONDS` longer."""
    return [
        f"phase {name}: {before:.3f} s before, {seconds:.3f} s now, which is more than {ratio:g} times that"
        for name, seconds in record.phases.items()
        if (before := baseline.phases.get(name)) is not None and seconds > max(before * ratio, before + SLACK_SECONDS)
    ]
