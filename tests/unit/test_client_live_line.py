"""A line of a terminal that is rewritten in place."""

from __future__ import annotations

from client.live_line import LiveLine
from tests.client_service import Terminal


def test_a_text_takes_the_place_of_the_one_before() -> None:
    """A short text after a long one leaves no rest of it."""
    terminal = Terminal("above\n")
    terminal.seek(0, 2)
    line = LiveLine(terminal)

    line.show("a long text")
    line.show("short")
    assert terminal.lines == ["above", "short"]
    line.clear()
    assert terminal.lines == ["above", ""]


def test_a_text_never_wraps() -> None:
    """Where nobody knows the width, it is 80; the last column stays free for the cursor."""
    terminal = Terminal()
    line = LiveLine(terminal)

    line.show("x" * 79)
    assert terminal.lines == ["x" * 79]
    line.show("x" * 80)
    assert terminal.lines == ["x" * 78 + "…"]
    line.keep()
    assert terminal.lines == ["x" * 80, ""]


def test_without_a_text_nothing_is_written() -> None:
    """What was never shown, or is gone, needs neither to be cleared nor kept."""
    terminal = Terminal()
    line = LiveLine(terminal)

    line.clear()
    line.keep()
    assert not terminal.getvalue()

    line.show("x")
    line.keep()
    written = terminal.getvalue()
    line.clear()
    line.keep()
    assert terminal.getvalue() == written
