"""Markdown as the generated pages need it."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Final

WRITTEN: Final = "<!-- Written by `make reference` from what it describes; what is changed here by hand is lost. -->"
"""The first line of a generated page."""

_WIDTH: Final = 120


def cell(text: str) -> str:
    """Return a text as a cell of a table takes it."""
    return " ".join(text.split()).replace("|", "\\|")


def code(text: str) -> str:
    """Return a text as code, nothing if it is empty."""
    return f"`{text}`" if text else ""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; nothing if it has no rows."""
    lines = [f"| {' | '.join(cell(each) for each in row)} |" for row in rows]
    if not lines:
        return ""
    return "\n".join([f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *lines])


def page(*parts: str) -> str:
    """Return a whole page of its parts, those that are empty left out, its paragraphs wrapped."""
    paragraphs = [each for part in parts for each in re.split(r"\n{2,}(?![ \t])", part.strip("\n")) if each]
    return "\n\n".join([WRITTEN, *map(_wrapped, paragraphs)]) + "\n"


def _wrapped(paragraph: str) -> str:
    if "\n" in paragraph or paragraph.startswith(("#", "|", "- ", "```")):
        return paragraph
    return textwrap.fill(paragraph, _WIDTH, break_long_words=False, break_on_hyphens=False)


def sentence(text: str) -> str:
    """Return a text with a capital letter and a full stop."""
    text = " ".join(text.split())
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "?", "!")) else ".") if text else ""
