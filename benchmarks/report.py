"""What every benchmark shows and keeps: tables, charts, the goals it is held to, and the machine it ran on.

A benchmark fills a `Result`. `show_and_keep` prints it and writes `results/<name>.json`; `benchmarks.page` makes the
README and its plots of those files alone.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Final

from worker import gpu
from worker.errors import SettingsError

RESULTS: Final = Path(__file__).with_name("results")


@dataclass(frozen=True, slots=True)
class Table:
    """Cells that are lists of numbers are the same measure in several rounds: shown as median and spread."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]


@dataclass(frozen=True, slots=True)
class Chart:
    """One group of bars for each name in `x`, one bar of it for each series: the median, and the spread as a line.

    `series` holds, for each place in `x`, the measure in several rounds; an empty list leaves the place free.
    """

    title: str
    unit: str
    x: Sequence[str]
    series: Mapping[str, Sequence[Sequence[float]]]
    log: bool = False


@dataclass(frozen=True, slots=True)
class Goal:
    """What a measure should be at most, or at least; the median of the rounds counts."""

    what: str
    measured: Sequence[float]
    at_most: float | None = None
    at_least: float | None = None

    @property
    def is_met(self) -> bool:
        """Whether the median is within the limits."""
        middle = median(self.measured)
        return (self.at_most is None or middle <= self.at_most) and (self.at_least is None or middle >= self.at_least)

    @property
    def limit(self) -> str:
        """The limits in words."""
        limits = {"≤": self.at_most, "≥": self.at_least}
        return " and ".join(f"{sign} {limit:g}" for sign, limit in limits.items() if limit is not None)


@dataclass(frozen=True, slots=True)
class Result:
    """One run of one benchmark.

    Attributes:
        name: of the module, and of the file that is kept.
        question: one sentence: what is measured, beside what.
        versions: what else the numbers depend on: versions, model, number of rounds.
        numbers: every single measure, for whoever wants to look again; names end in the unit.
    """

    name: str
    question: str
    versions: Mapping[str, str]
    tables: Sequence[Table]
    charts: Sequence[Chart] = ()
    goals: Sequence[Goal] = ()
    notes: Sequence[str] = ()
    numbers: Mapping[str, Any] = field(default_factory=dict)


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    here = {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}
    with suppress(SettingsError):
        here["gpu"] = gpu.probe().name
    return here


def machine_in_words() -> str:
    """Return the same in one line."""
    here = machine()
    return ", ".join([here["cpu"], f"{here['cores']} cores", here["system"], *([here["gpu"]] if "gpu" in here else [])])


def versions(*packages: str) -> dict[str, str]:
    """Return Python's version and those of the packages, where they are installed."""
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile of at least two samples, in their unit."""
    cuts = quantiles(samples, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def number(value: float) -> str:
    """Return a number with three digits that count, and no exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{1 if abs(value) >= 10 else 2 if abs(value) >= 0.1 else 3 if abs(value) >= 0.01 else 5}f}"


def spread(samples: Sequence[float]) -> str:
    """Return the median of the rounds, and the least and the most in brackets if there were several."""
    if len(samples) == 0:
        return "-"
    middle = number(median(samples))
    return middle if len(samples) == 1 else f"{middle} ({number(min(samples))} to {number(max(samples))})"


def cell(value: object) -> str:
    """Return what a table shows."""
    if isinstance(value, float):
        return number(value)
    return spread(value) if isinstance(value, list | tuple) else str(value)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return lines of aligned columns, the first one to the left and the others to the right."""
    texts = [[cell(each) for each in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    lines = [
        "  ".join(text.ljust(width) if column == 0 else text.rjust(width) for column, (text, width) in enumerate(each))
        for each in [list(zip(row, widths, strict=True)) for row in texts]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def goal_rows(goals: Sequence[Goal]) -> list[list[object]]:
    """Return the goals as rows of a table: what, measured, goal, whether it is met."""
    return [[goal.what, list(goal.measured), goal.limit, "met" if goal.is_met else "missed"] for goal in goals]


def show_and_keep(result: Result, folder: Path = RESULTS) -> Path:
    """Print a result and write it as `<name>.json`; return the file."""
    print(f"{result.question}\n{machine_in_words()}; {'; '.join(f'{k} {v}' for k, v in result.versions.items())}")
    for each in result.tables:
        print(f"\n{each.title}\n{table(each.header, each.rows)}")
    if result.goals:
        print(f"\n{table(['goal', 'measured', 'wanted', ''], goal_rows(result.goals))}")
    for note in result.notes:
        print(f"({note})")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{result.name}.json"
    kept = {"machine": machine(), "day": datetime.now(UTC).date().isoformat()} | asdict(result)
    kept["goals"] = [asdict(goal) | {"limit": goal.limit, "is_met": goal.is_met} for goal in result.goals]
    file.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\nkept in {os.path.relpath(file)}")
    return file
