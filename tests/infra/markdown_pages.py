"""The repository's pages in Markdown: which there are, what they link to, and what they tell people to type."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote

ROOT: Final = Path(__file__).parents[2]

_FENCE: Final = re.compile(r"^( *)(`{3,})([^\n`]*)\n(.*?)^\1\2 *$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.DOTALL)
_LINK: Final = re.compile(r"\]\(\s*<?([^()\s<>]+)>?(?:\s+\"[^\"]*\")?\s*\)")
_IMAGE: Final = re.compile(r"<img\s[^>]*src=\"([^\"]+)\"")
_ELSEWHERE: Final = re.compile(r"[a-z][a-z0-9+.-]*:")
_WORKFLOW: Final = re.compile(r"(?:\.\./)+actions/workflows/([\w.-]+\.yml)")
"""A workflow's page or badge on GitHub, beside the repository's files there and whatever its owner is called."""


@dataclass(frozen=True, slots=True)
class Block:
    """Commands that a page shows; `line` is the number of the first of them."""

    page: str
    line: int
    text: str

    @property
    def first(self) -> str:
        """Return the first command's line without what is said behind it."""
        return re.sub(r"\s+#.*", "", self.text.partition("\n")[0]).strip()


def files(root: Path = ROOT) -> frozenset[str]:
    """Return what git tracks or would track, and is there, by its path below the root."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return frozenset(name for name in listed.stdout.split("\0") if name and (root / name).is_file())


def read(page: str) -> str:
    """Return a page's text."""
    return (ROOT / page).read_text(encoding="utf-8")


def prose(text: str) -> str:
    """Return a text without its blocks of code."""
    return _FENCE.sub("", text)


def blocks(page: str, text: str) -> list[Block]:
    """Return the commands of a page: its blocks that are marked as `sh`."""
    found = []
    for fence in _FENCE.finditer(text):
        indent, _, language, body = fence.groups()
        if language.strip() in {"sh", "bash", "shell", "console"}:
            line = text.count("\n", 0, fence.start()) + 2
            found.append(Block(page, line, re.sub(rf"^{indent}", "", body, flags=re.MULTILINE)))
    return found


def anchors(text: str) -> set[str]:
    """Return what a page's headings can be linked to by, as GitHub makes them."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} +(.+?)(?: +#+)? *$", prose(text), re.MULTILINE):
        shown = re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slug = re.sub(r"[^\w\- ]", "", shown.lower()).replace(" ", "-")
        name, copy = slug, 0
        while name in found:
            copy += 1
            name = f"{slug}-{copy}"
        found.add(name)
    return found | set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", text))


def links(text: str) -> list[str]:
    """Return what a page links to or shows, in this repository."""
    return [each for each in _written(text) if not _ELSEWHERE.match(each) and not _WORKFLOW.match(each)]


def workflows(text: str) -> set[str]:
    """Return the workflows whose page or badge a page links to or shows."""
    return {found[1] for each in _written(text) if (found := _WORKFLOW.match(each))}


def _written(text: str) -> list[str]:
    bare = _SPAN.sub("", prose(text))
    return [*_LINK.findall(bare), *_IMAGE.findall(bare)]


def target(page: str, link: str) -> tuple[str, str]:
    """Return the path below the root that a link leads to, and the anchor there."""
    path, _, anchor = unquote(link).partition("#")
    if not path:
        return page, anchor
    where = (ROOT / page).parent / path
    return Path(*where.parts).resolve().relative_to(ROOT.resolve()).as_posix(), anchor


def dead(page: str, text: str, known: frozenset[str]) -> list[str]:
    """Say which links of a page lead nowhere."""
    gone = {name for name in workflows(text) if f".github/workflows/{name}" not in known}
    found = [f"{page}: there is no workflow {name}" for name in sorted(gone)]
    for link in links(text):
        try:
            path, anchor = target(page, link)
        except ValueError:
            found.append(f"{page}: {link} leads out of the repository")
            continue
        if path not in known and not any(name.startswith(f"{path}/") for name in known):
            found.append(f"{page}: there is no {link}")
        elif anchor and path.endswith(".md") and anchor not in anchors(text if path == page else read(path)):
            found.append(f"{page}: there is no heading for {link}")
    return found
