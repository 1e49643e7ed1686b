"""What a smoke test leaves behind: the log, which is also printed, and JSON documents beside it."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self, TextIO

from client.errors import InvalidSettings

LOG: Final = "log.txt"
RESULT: Final = "result.json"
REPLY: Final = "reply.json"


class Record:
    """Writes into `folder`, and the summary to a file, where they are given; prints the log to `out` in any case.

    Times are seconds of `clock` since the record was made.

    What is hidden gets into none of it, not even as part of what somebody else says.
    """

    def __init__(self, folder: Path | None, summary: Path | None, out: TextIO, clock: Callable[[], float]) -> None:
        self._folder = folder
        self._summary = summary
        self._out = out
        self._clock = clock
        self._began = clock()
        self._hidden: list[str] = []
        self._log: TextIO | None = None

    def __enter__(self) -> Self:
        """Open the log.

        Raises:
            InvalidSettings: the folder or the summary's file cannot be written to.
        """
        try:
            if self._folder:
                self._folder.mkdir(parents=True, exist_ok=True)
                for name in (RESULT, REPLY):  # an old one must not pass for this run's
                    (self._folder / name).unlink(missing_ok=True)
                self._log = (self._folder / LOG).open("w", encoding="utf-8")
            if self._summary:
                self._summary.write_text("", encoding="utf-8")  # as above
        except OSError as error:
            raise InvalidSettings(
                [f"cannot write to {error.filename}: {error.strerror}; give another --artifacts or --summary"]
            ) from error
        return self

    def __exit__(self, *_: object) -> None:
        if self._log:
            self._log.close()

    def hide(self, secret: str) -> None:
        """Leave this out from now on."""
        if secret:
            self._hidden.append(secret)

    def clean(self, text: str) -> str:
        """Return a text without what is hidden."""
        for secret in self._hidden:
            text = text.replace(secret, "…")
        return text

    def say(self, text: str) -> None:
        """Write a line at once, so that whoever ends the process finds it."""
        line = f"[{self._clock() - self._began:6.1f} s] {self.clean(text)}"
        for where in (self._out, self._log):
            if where:
                print(line, file=where, flush=True)

    def keep(self, name: str, document: Mapping[str, Any]) -> None:
        """Write a JSON document into the folder, if there is one."""
        if self._folder:
            content = json.dumps(document, indent=1) + "\n"
            (self._folder / name).write_text(self.clean(content), encoding="utf-8")

    def summarise(self, text: str) -> None:
        """Write the summary, if there is a file for it."""
        if self._summary:
            self._summary.write_text(self.clean(text), encoding="utf-8")
