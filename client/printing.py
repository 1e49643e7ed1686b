"""Shows a reply: its text as it grows, and one line about it at the end."""

from __future__ import annotations

import json
from typing import Protocol, TextIO

from client.reply import Snapshot


class Printer(Protocol):
    """Takes every snapshot of one reply, then `close` once, however it ended."""

    def show(self, snapshot: Snapshot) -> None:
        """Take the next snapshot."""

    def close(self) -> None:
        """Print what is still owed."""


class GrowingText:
    """Prints the first choice as it arrives, each character once."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._shown = ""

    def show(self, snapshot: Snapshot) -> None:
        """Print what is new; flushed, because a reader waits for it."""
        if new := snapshot.text[len(self._shown) :]:
            self._out.write(new)
            self._out.flush()
            self._shown = snapshot.text

    def close(self) -> None:
        """End the last line."""
        if self._shown:
            self._out.write(_line_end(self._shown))
            self._out.flush()


class LabelledChoices:
    """Prints several choices, which grow side by side, one after the other at the end."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._last: Snapshot | None = None

    def show(self, snapshot: Snapshot) -> None:
        """Keep the newest texts."""
        self._last = snapshot

    def close(self) -> None:
        """Print each choice under its number."""
        choices = self._last.choices if self._last else ()
        for number, choice in enumerate(sorted(choices, key=lambda choice: choice.index), start=1):
            self._out.write(f"--- choice {number} of {len(choices)} ---\n{choice.text}{_line_end(choice.text)}")
        self._out.flush()


class FinalDocument:
    """Prints the final document alone, as one line of JSON."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def show(self, snapshot: Snapshot) -> None:
        """Print the document once it is final. In ASCII, so that no locale can damage it."""
        if snapshot.is_final:
            self._out.write(json.dumps(snapshot.document) + "\n")
            self._out.flush()

    def close(self) -> None:
        """Owe nothing."""


def _line_end(text: str) -> str:
    return "" if text.endswith("\n") else "\n"


def receipt(first: Snapshot | None, last: Snapshot) -> str:
    """Return the line about a finished reply; `first` is the first snapshot that had text.

    Seconds are what the user waited since the POST, milliseconds what the worker measured.
    """
    parts = []
    if last.usage:
        parts.append(f"{last.usage.completion_tokens} tokens")
    if first:
        parts.append(f"first token after {first.elapsed_seconds:.2f} s")
    parts.append(f"total {last.elapsed_seconds:.2f} s")
    measured = [
        f"{name} {value:.0f} ms"
        for name, value in (
            ("queued", last.timing.queued_ms),
            ("first token", last.timing.first_token_ms),
            ("total", last.timing.total_ms),
        )
        if value is not None
    ]
    worker = f" (worker: {', '.join(measured)})" if measured else ""
    return ", ".join(parts) + worker


def ending(last: Snapshot) -> str | None:
    """Return why a job did not end as `done`, and what to do; `None` when it did."""
    match last.status:
        case "failed":
            why = f"{last.error.message} [{last.error.code}]" if last.error else "the worker gave no reason"
            return f"the job failed: {why}"
        case "expired":
            return "the job expired before a worker took it; send it again"
        case "cancelled":
            return "the job was cancelled"
        case _:
            return None
