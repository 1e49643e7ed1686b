"""One line of a terminal that is rewritten in place."""

from __future__ import annotations

import os
from typing import Final, TextIO

_TO_ITS_START: Final = "\r"
_ERASE_THE_REST: Final = "\x1b[K"  # EL of ECMA-48
_USUAL_COLUMNS: Final = 80


class LiveLine:
    """The line where the cursor is, which has to be empty at first. `terminal` has to be one."""

    def __init__(self, terminal: TextIO) -> None:
        self._terminal = terminal
        self._shown = ""

    def show(self, text: str) -> None:
        """Put this text in the place of what the line said, as much as fits: a wrapped line cannot be rewritten."""
        room = _columns(self._terminal) - 1  # the cursor stands behind the text
        self._write(text if len(text) <= room else text[: room - 1] + "…")
        self._shown = text

    def clear(self) -> None:
        """Leave the line empty."""
        if self._shown:
            self._write("")
            self._shown = ""

    def keep(self) -> None:
        """Leave all of the last text on lines of its own."""
        if self._shown:
            self._write(self._shown)
            self._terminal.write("\n")
            self._terminal.flush()
            self._shown = ""

    def _write(self, text: str) -> None:
        self._terminal.write(f"{_TO_ITS_START}{text}{_ERASE_THE_REST}")
        self._terminal.flush()


def _columns(terminal: TextIO) -> int:
    try:
        return os.get_terminal_size(terminal.fileno()).columns or _USUAL_COLUMNS  # a bare pseudo-terminal says 0
    except OSError:
        return _USUAL_COLUMNS
