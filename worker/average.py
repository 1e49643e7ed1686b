"""An average that follows what is measured."""

from __future__ import annotations

from typing import Final

WEIGHT: Final = 0.2
"""Share of the newest value: after ten more values, nine tenths of an old one are forgotten."""


class MovingAverage:
    """Exponentially weighted: each value moves the average by `WEIGHT` of the way towards itself."""

    def __init__(self) -> None:
        self.value: float | None = None
        """The average in the unit of what was added; `None` before the first."""

    def add(self, value: float) -> None:
        """Count one value; the first one is the average."""
        self.value = value if self.value is None else self.value + WEIGHT * (value - self.value)
