"""The locks: which there are, what each is for, and how a line is read.

Each line but comments is `name==version --hash=sha256:…`, one hash or several; names as registries compare them.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LINE: Final = re.compile(r"([a-z0-9]+(?:-[a-z0-9]+)*)==([^ +]+)((?: --hash=sha256:[0-9a-f]{64})+)")


@dataclass(frozen=True, slots=True)
class Pin:
    """One line."""

    name: str
    version: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"


@dataclass(frozen=True, slots=True)
class Lock:
    """A file of pins."""

    path: Path
    what: str
    """What the locked packages make up, as a bill of materials calls it."""
    ships: bool
    """Whether they get onto AWS; the others stay on a developer's or CI's machine."""

    def pins(self) -> list[Pin]:
        """Read it, in its order; nothing where it is not there yet.

        Raises:
            ValueError: a line is no pin.
        """
        text = self.path.read_text(encoding="utf-8") if self.path.exists() else ""
        return [pin(line) for line in text.splitlines() if line and not line.startswith("#")]

    def __str__(self) -> str:
        return self.path.relative_to(ROOT).as_posix()


def pin(line: str) -> Pin:
    """Read a line.

    Raises:
        ValueError: it is no pin.
    """
    found = LINE.fullmatch(line)
    if not found:
        raise ValueError(f"write name==version --hash=sha256:… and not: {line}; or run: make lock")
    return Pin(found[1], found[2], tuple(re.findall(r"[0-9a-f]{64}", found[3])))


EVERYTHING: Final = Lock(ROOT / "requirements.lock", "tl-fif-development", ships=False)
NODE: Final = Lock(ROOT / "ami" / "requirements.lock", "tl-fif-node", ships=True)
ROUTER: Final = Lock(ROOT / ".ci" / "lambda.lock", "tl-fif-router", ships=True)
TOOLS: Final = Lock(ROOT / ".ci" / "tools.lock", "tl-fif-tools", ships=False)
CHECKOV: Final = Lock(ROOT / ".ci" / "checkov.txt", "tl-fif-checkov", ships=False)
LOCKS: Final = (EVERYTHING, NODE, ROUTER, TOOLS, CHECKOV)
