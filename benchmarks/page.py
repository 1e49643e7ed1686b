"""Makes `benchmarks/README.md` and its charts of what the benchmarks have kept.

    python -m benchmarks.page        reads results/**/*.json, writes README.md and an SVG for each chart

It knows nothing of a benchmark but its place in the order. Folders in `results` hold what was measured elsewhere, such
as `gpu/<card>`, which `gpu.sh` writes. What no program can say, such as what a profile showed, stands in a file of the
same name in `findings`, with the ending `.md`, and is put below the section.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Final

from benchmarks import report
from benchmarks.drawing import draw

ORDER: Final = ("engine", "first_token", "queue", "cold_start", "api", "replies", "scale", "settings", "router")
"""The benchmarks from what a user feels most to what he feels least; others follow by name, and then other machines."""

README: Final = Path(__file__).with_name("README.md")
FINDINGS: Final = Path(__file__).with_name("findings")

SHAPE: Final = {"machine", "day", "name", "question", "versions", "tables", "charts", "goals", "notes"}

INTRODUCTION: Final = """\
<!-- Written by `python -m benchmarks.page`; what is changed here by hand is lost. -->

# How fast it is

```sh
make bench                          # everything, one after the other, and this page
make bench ONLY="queue scale"       # some of it
.venv/bin/python -m benchmarks.queue --help
benchmarks/gpu.sh --help            # those of the engine, on an NVIDIA GPU
```

Ratios count, absolute numbers hardly: machines differ, and the same one is noisy. So each benchmark measures a floor,
or a peer that does the same work, in the same run and in turns with ours. A cell shows the median of the rounds, with
the least and the most of them in brackets; a bar shows the median, with a line from the least to the most. A goal is
met if the median is within it.
"""


@dataclass(frozen=True, slots=True)
class Kept:
    """A result that was kept.

    Attributes:
        folder: where, relative to all results; empty for those of the machine that `make bench` runs on.
        device: what the machine has beside its CPU, in words.
        result: in the shape of `report.Result`.
    """

    folder: PurePath
    device: str
    result: dict[str, Any]

    @property
    def title(self) -> str:
        """The heading of its section."""
        name = str(self.result["name"]).replace("_", " ").capitalize()
        return f"{name} on {self.folder.name}" if self.folder.name else name

    @property
    def charts(self) -> list[tuple[str, dict[str, Any]]]:
        """The charts, each after its file, relative to all results."""
        name = self.result["name"]
        return [(str(self.folder / f"{name}_{at}.svg"), each) for at, each in enumerate(self.result["charts"], 1)]


class OldShape(Exception):
    """A file of results is not of the shape that `report.show_and_keep` writes now."""


def main(arguments: list[str]) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.page", description="Writes the page of all results.")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder of the results")
    parser.add_argument("--readme", type=Path, default=README, help="file to write")
    options = parser.parse_args(arguments)
    try:
        write(options.results, options.readme)
    except OldShape as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    print(f"wrote {os.path.relpath(options.readme)}")
    return 0


def write(results: Path = report.RESULTS, readme: Path = README) -> None:
    """Write the page and its charts; charts of results that are gone go, too.

    Raises:
        OldShape: see `read`.
    """
    kept = read(results)
    for old in results.rglob("*.svg"):
        old.unlink()
    for each in kept:
        for file, chart in each.charts:
            draw(chart, results / file)
    readme.write_text(render(results, readme), encoding="utf-8")


def read(results: Path) -> list[Kept]:
    """Return what is kept, in the order of the page.

    Raises:
        OldShape: a benchmark has to run again.
    """
    kept = []
    for file in results.rglob("*.json"):
        result = json.loads(file.read_text(encoding="utf-8"))
        if missing := SHAPE - result.keys():
            lacks = ", ".join(sorted(missing))
            raise OldShape(f"{file.relative_to(results)} has no {lacks}; run: make bench ONLY={file.stem}")
        device = file.with_name("gpu.txt")
        words = device.read_text(encoding="utf-8").strip() if device.exists() else ""
        kept.append(Kept(file.parent.relative_to(results), words, result))
    return sorted(kept, key=_place)


def _place(kept: Kept) -> tuple[PurePath, int, str]:
    name = kept.result["name"]
    return kept.folder, (*ORDER, name).index(name), name


def render(results: Path = report.RESULTS, readme: Path = README) -> str:
    """Return the text of the page.

    Raises:
        OldShape: see `read`.
    """
    kept = read(results)
    folder = Path(os.path.relpath(results, readme.parent)).as_posix()
    parts = [INTRODUCTION, *_summary(kept)]
    for each in kept:
        parts += _section(each, folder)
    return "\n".join(parts)


def _summary(kept: Sequence[Kept]) -> list[str]:
    rows = [
        [
            f"[{each.title}](#{each.title.lower().replace(' ', '-')})",
            *(_cell(goal[what]) for what in ("what", "measured", "limit")),
            "met" if goal["is_met"] else "**missed**",
        ]
        for each in kept
        for goal in each.result["goals"]
    ]
    return ["## Goals\n", _table(["benchmark", "goal", "measured", "wanted", ""], rows)] if rows else []


def _section(kept: Kept, folder: str) -> Iterator[str]:
    result, machine = kept.result, kept.result["machine"]
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['system']}{kept.device and f', {kept.device}'}"
    versions = "; ".join(f"{name} {version}" for name, version in result["versions"].items())
    yield f"## {kept.title}\n\n{_escaped(result['question'])}\n"
    yield f"<sub>{_escaped(where)}; {result['day']}. {_escaped(versions)}.</sub>\n"
    for table in result["tables"]:
        rows = [[_cell(each) for each in row] for row in table["rows"]]
        yield f"**{_escaped(table['title'])}**\n\n{_table(list(map(_cell, table['header'])), rows)}"
    for file, chart in kept.charts:
        yield f"![{chart['title']}, {chart['unit']}: {', '.join(chart['x'])}.]({folder}/{file})\n"
    if result["notes"]:
        yield "".join(f"- {_escaped(note)}\n" for note in result["notes"])
    findings = FINDINGS / kept.folder / f"{result['name']}.md"
    if findings.exists():
        yield f"{findings.read_text(encoding='utf-8').strip()}\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown, the first column to the left and the others to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _cell(value: object) -> str:
    return _escaped(report.cell(value))


def _escaped(text: str) -> str:
    """Return a text that Markdown shows as it is."""
    for sign in ("|", "<", "*"):
        text = text.replace(sign, f"\\{sign}")
    return text


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
