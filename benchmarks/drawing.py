"""Draws one chart of a result as an SVG: a group of bars for each name, the median of the rounds with its spread.

Drawn on white with the letters as outlines, it looks the same on light and dark pages and with whatever fonts; without
a date or a random id in it, the same numbers give the same file.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import median
from textwrap import fill
from typing import Any, Final

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from benchmarks.report import number

COLOURS: Final = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Those of Okabe and Ito, which the colour-blind tell apart; after the last one they begin anew."""

INK: Final = "#222222"
FAINT: Final = "#D9D9D9"

WIDTH: Final = 9.0
BAR: Final = 0.29
AROUND: Final = 0.95
LEGEND: Final = 0.25
"""Inches: of the picture, of one bar with the space to the next, of title and axis, and of the legend."""

GAP: Final = 0.7
EDGE: Final = 0.6
"""Between two groups, and from the middle of the outermost bars to the edges, in bars."""

FEW_DECADES: Final = 2
"""Below so many a logarithmic axis names numbers between the powers of ten."""

LABEL_LETTERS: Final = 30
"""Letters in a line of a group's name."""

STYLE: Final[Any] = {
    "svg.hashsalt": "tl-fif",
    "svg.fonttype": "path",
    "font.family": "DejaVu Sans",  # which comes with matplotlib
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its series, its place from the top in bars, and its measures, at least one."""

    series: str
    place: float
    measured: list[float]


@dataclass(frozen=True, slots=True)
class Group:
    """A name beside bars: the middle of its bars, in bars from the top."""

    name: str
    place: float


def draw(chart: Mapping[str, Any], file: Path) -> None:
    """Write a chart, in the shape of `report.Chart`, as an SVG."""
    written = StringIO()
    with rc_context(STYLE):
        figure(chart).savefig(written, format="svg", metadata={"Date": None, "Creator": None})
    lines = [line.rstrip() for line in written.getvalue().splitlines()]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def figure(chart: Mapping[str, Any]) -> Figure:
    """Return the picture of a chart."""
    x, series = chart["x"], chart["series"]
    groups, bars = laid_out(x, series)
    last = max([group.place for group in groups] + [bar.place for bar in bars])
    is_one_group = len(x) == 1
    colours = {name: COLOURS[0 if is_one_group else at % len(COLOURS)] for at, name in enumerate(series)}
    has_legend = len(series) > 1 and not is_one_group
    height = BAR * (last + 1) + AROUND + (LEGEND if has_legend else 0)
    picture = Figure(figsize=(WIDTH, height), facecolor="white", layout="constrained")
    title = f"{chart['title']}: {x[0]}" if is_one_group else chart["title"]
    picture.suptitle(title, x=0.01, ha="left", fontsize=12, fontweight="bold")
    axes = picture.add_subplot()
    _scale(axes, bars, is_log=chart["log"])
    axes.set_ylim(last + EDGE, -EDGE)
    axes.set_xlabel(chart["unit"] + (", logarithmic" if chart["log"] else ""))
    for bar in bars:
        _draw_bar(axes, bar, colours[bar.series])
    _name_groups(axes, groups)
    if has_legend:
        _explain(axes, colours)
    return picture


def laid_out(x: list[str], series: Mapping[str, list[list[float]]]) -> tuple[list[Group], list[Bar]]:
    """Return the groups and their bars from top to bottom; a single group is split into its series instead."""
    if len(x) == 1:
        found = [(name, [(name, rounds[0])]) for name, rounds in series.items()]
    else:
        found = [(name, [(each, rounds[at]) for each, rounds in series.items()]) for at, name in enumerate(x)]
    groups, bars, place = [], [], 0.0
    gap = 0.0 if all(len(inside) == 1 for _, inside in found) else GAP
    for name, inside in found:
        full = [(each, measured) for each, measured in inside if measured]
        groups.append(Group(name, place + max(0, len(full) - 1) / 2))
        bars += [Bar(each, place + at, measured) for at, (each, measured) in enumerate(full)]
        place += max(1, len(full)) + gap
    return groups, bars


def _scale(axes: Axes, bars: list[Bar], *, is_log: bool) -> None:
    """Set the axes: room for the labels to the right, and on a logarithmic one some to the left of the least bar."""
    measures = [each for bar in bars for each in bar.measured]
    most = max(measures, default=1.0)
    if is_log:
        positive = [each for each in measures if each > 0]
        least = min(positive, default=0.1)
        axes.set_xscale("log")
        decades = max(1.0, math.log10(most / least))
        if decades < FEW_DECADES:
            axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlim(least / 10 ** (0.1 * decades), most * 10 ** (0.12 * decades))
    else:
        axes.set_xlim(min(0.0, min(measures, default=0.0)), most * 1.12 or 1.0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")


def _draw_bar(axes: Axes, bar: Bar, colour: str) -> None:
    middle, least, most = median(bar.measured), min(bar.measured), max(bar.measured)
    axes.barh(bar.place, middle, height=0.8, color=colour)
    if most > least:
        spread = [[middle - least], [most - middle]]
        axes.errorbar(middle, bar.place, xerr=spread, color=INK, elinewidth=1.2, capsize=2.5)
    axes.annotate(
        number(middle),
        (max(most, axes.get_xlim()[0]), bar.place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center_baseline",
        fontsize=9,
    )


def _name_groups(axes: Axes, groups: list[Group]) -> None:
    names = [fill(group.name, LABEL_LETTERS) for group in groups]
    axes.set_yticks([group.place for group in groups], labels=names)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(visible=True, axis="x", color=FAINT)
    axes.set_axisbelow(True)


def _explain(axes: Axes, colours: Mapping[str, str]) -> None:
    """Put a legend above the axes."""
    patches = [Patch(color=colour, label=name) for name, colour in colours.items()]
    axes.legend(
        handles=patches,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=4,
        frameon=False,
        borderaxespad=0,
        borderpad=0.2,
    )
