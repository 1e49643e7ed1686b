"""Makes text that the service chose fit for the user's terminal."""

from __future__ import annotations

from typing import Final

_LONGEST: Final = 300
"""Characters shown of any such text."""


def quote(text: object) -> str:
    """Make text from outside fit for one line of a terminal."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))
    return shown if len(shown) <= _LONGEST else shown[:_LONGEST] + "…"
