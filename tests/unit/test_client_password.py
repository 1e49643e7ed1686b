"""How passwords are asked for."""

from __future__ import annotations

import getpass
import io
import warnings
from collections.abc import Callable

import pytest

from client.errors import InvalidSettings
from client.password import Asked, Piped, passwords

Terminal = Callable[..., list[str]]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a function that makes the user type these lines, and returns the list of prompts shown."""

    def types(*lines: str) -> list[str]:
        prompts: list[str] = []
        typed = iter(lines)

        def answer(prompt: str) -> str:
            prompts.append(prompt)
            return next(typed)

        monkeypatch.setattr(getpass, "getpass", answer)
        return prompts

    return types


class Stdin(io.TextIOWrapper):
    """A stdin that may be a terminal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__(io.BytesIO(b"piped\n"))
        self._terminal = terminal

    def isatty(self) -> bool:
        """Tell what this is."""
        return self._terminal


def test_a_terminal_is_asked_and_a_pipe_is_read(terminal: Terminal) -> None:
    """What stdin is decides."""
    terminal("typed")

    assert passwords(Stdin(terminal=True)).current("ann") == "typed"
    assert passwords(Stdin(terminal=False)).current("ann") == "piped"


def test_the_prompts_say_what_is_wanted(terminal: Terminal) -> None:
    """The old one once, the new one twice."""
    prompts = terminal("old", "new", "new")

    assert (Asked().current("ann"), Asked().new()) == ("old", "new")
    assert prompts == ["Password of ann: ", "The account needs a new password: ", "Once more: "]


def test_two_different_new_passwords_are_refused(terminal: Terminal) -> None:
    """A slip of the finger changes nothing, and neither spelling is shown."""
    terminal("hush1", "hush2")

    with pytest.raises(InvalidSettings, match="differ, so nothing was changed") as caught:
        Asked().new()
    assert "hush" not in str(caught.value)


def test_an_empty_answer_is_no_password(terminal: Terminal) -> None:
    """Enter alone ends the login."""
    terminal("")

    with pytest.raises(InvalidSettings, match="no password was given"):
        Asked().current("ann")


def test_the_end_of_a_terminal_is_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-D ends the login without a traceback."""

    def end(_prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(getpass, "getpass", end)

    with pytest.raises(InvalidSettings, match="no password was given"):
        Asked().current("ann")


def test_a_terminal_that_would_echo_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """`getpass` warns and goes on to show what is typed; here the warning is the end."""

    def echoing(_prompt: str) -> str:
        warnings.warn("Can not control echo on the terminal.", getpass.GetPassWarning, stacklevel=2)
        return "shown to everybody"

    monkeypatch.setattr(getpass, "getpass", echoing)

    with pytest.raises(InvalidSettings, match="cannot hide a password"):
        Asked().current("ann")


def test_each_line_of_a_pipe_is_a_password() -> None:
    """Line ends of any kind are not part of it, spaces are."""
    piped = Piped(io.BytesIO("  Pässwort \r\nnew".encode()))

    assert (piped.current("ann"), piped.new()) == ("  Pässwort ", "new")


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n"])
def test_a_pipe_without_a_line_is_refused(content: bytes) -> None:
    """The error says which line is missing."""
    with pytest.raises(InvalidSettings, match="no line with the password of ann"):
        Piped(io.BytesIO(content)).current("ann")
    with pytest.raises(InvalidSettings, match="no line with a new password, which the account needs"):
        Piped(io.BytesIO(content)).new()


def test_a_pipe_that_is_not_utf8_is_refused_without_showing_it() -> None:
    """The bytes are in no message and no chained error."""
    with pytest.raises(InvalidSettings, match="not UTF-8") as caught:
        Piped(io.BytesIO(b"hush\xff\n")).current("ann")

    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
