"""Asks for passwords: on a terminal without echo, else one a line on stdin. No option takes one."""

from __future__ import annotations

import getpass
import warnings
from typing import TYPE_CHECKING, BinaryIO, Protocol

from client.errors import InvalidSettings

if TYPE_CHECKING:
    from typing import TextIO


class Passwords(Protocol):
    """Both methods raise `InvalidSettings` when there is no password to be had."""

    def current(self, username: str) -> str:
        """Ask for the password of a user."""

    def new(self) -> str:
        """Ask for the password that the user will have from now on."""


def passwords(stdin: TextIO) -> Passwords:
    """Return the way to ask that suits this stdin."""
    return Asked() if stdin.isatty() else Piped(stdin.buffer)


class Asked:
    """Asks on the terminal of the process."""

    def current(self, username: str) -> str:
        """Ask once."""
        return _ask(f"Password of {username}: ")

    def new(self) -> str:
        """Ask twice, so that a slip of the finger locks nobody out."""
        first = _ask("The account needs a new password: ")
        if _ask("Once more: ") != first:
            raise InvalidSettings(["the two new passwords differ, so nothing was changed; run `tlfif login` again"])
        return first


class Piped:
    """Takes the first line as the password, the second as the new one."""

    def __init__(self, lines: BinaryIO) -> None:
        self._lines = lines

    def current(self, username: str) -> str:
        """Read a line; a script knows whose password it gives."""
        return self._line(f"the password of {username}")

    def new(self) -> str:
        """Read the next line."""
        return self._line("a new password, which the account needs, after the old one")

    def _line(self, what: str) -> str:
        try:
            line = self._lines.readline().decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            # Without the original, which repeats the bytes.
            raise InvalidSettings(["the password on stdin is not UTF-8; convert it first"]) from None
        if not line:
            raise InvalidSettings([f"stdin has no line with {what}; give one, or run `tlfif login` on a terminal"])
        return line


def _ask(prompt: str) -> str:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", getpass.GetPassWarning)
            answer = getpass.getpass(prompt)
    except getpass.GetPassWarning:
        raise InvalidSettings(["this terminal cannot hide a password; give it on stdin"]) from None
    except EOFError:
        answer = ""
    if not answer:
        raise InvalidSettings(["no password was given, so nothing was sent"])
    return answer
