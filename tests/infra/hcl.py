"""Reads as much of Terraform's language as the tests ask for; `terraform fmt` sees to it that it is laid out so."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r'^(?P<kind>\w+) (?P<labels>"[^\n]*") \{(?:\}|\n(?P<body>.*?)^\})', re.MULTILINE | re.DOTALL)
_ARGUMENT = re.compile(r"^  (\w+) += (.*)$", re.MULTILINE)


def blocks(folder: Path, kind: str) -> dict[str, dict[str, str]]:
    """Return the blocks of a kind in the files of a module: the labels, joined by dots, to the arguments.

    Of an argument that takes several lines, the first alone is there.
    """
    return {
        ".".join(re.findall(r'"([^"]+)"', found["labels"])): dict(_ARGUMENT.findall(found["body"] or ""))
        for path in sorted(folder.glob("*.tf"))
        for found in _BLOCK.finditer(path.read_text(encoding="utf-8"))
        if found["kind"] == kind
    }
