"""What makes a body a dashboard, by CloudWatch's own rules and by what this project asks of its dashboard.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/CloudWatch-Dashboard-Body-Structure.html
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import Any, Final

COLUMNS: Final = 24
FREE_METRICS: Final = 50
"""What a dashboard may show without costing $3 a month."""

METRICS_OF_A_WIDGET: Final = 100
PERIODS: Final = (60, 300, 900)
"""Seconds that ours use: those of the canary, of most alarms, and of the spend."""

WANTED: Final[Mapping[str, frozenset[str]]] = {
    "GPU utilisation (%)": frozenset({"TLFIF/GPU nvidia_smi_utilization_gpu"}),
    "VRAM (%)": frozenset({"TLFIF/GPU nvidia_smi_memory_used", "TLFIF/GPU nvidia_smi_memory_total"}),
    "Queue depth": frozenset({"TLFIF/Queue QueueDepth"}),
    "API latency (ms)": frozenset({"AWS/ApiGateway Latency"}),
    "First token (ms)": frozenset({"TLFIF/Worker FirstTokenMs"}),
    "Spend of the month (EUR)": frozenset({"TLFIF/Cost CurrentSpendEUR"}),
    "Boots": frozenset({"TLFIF/Router EC2Starts", "TLFIF/Worker BootFailures"}),
    "Stops": frozenset({"TLFIF/Worker AutoStops", "TLFIF/Router UserStops", "TLFIF/Router BudgetStops"}),
    "Canary: /ping": frozenset(),
    "Canary: /queue-health": frozenset({"TLFIF/Canary QueueHealthFailures"}),
    "Redis memory (%)": frozenset({"AWS/ElastiCache DatabaseMemoryUsagePercentage"}),
    "Errors of the guards": frozenset({"AWS/Lambda Errors"}),
    "Engine": frozenset({"TLFIF/GPU vllm:num_requests_running", "TLFIF/GPU vllm:num_requests_waiting"}),
    "Boot by phase (s)": frozenset({"TLFIF/GPU tlfif_boot_seconds"}),
    "Node": frozenset({"TLFIF/GPU mem_used_percent", "TLFIF/GPU disk_used_percent"}),
}
"""Widgets by their titles, with metrics that each has to show; others may be there besides."""


def metrics(widget: Mapping[str, Any]) -> Iterator[str]:
    """Yield namespace and name of every metric that a widget shows, a space between; expressions are none."""
    for entry in widget["properties"].get("metrics", []):
        if isinstance(entry[0], str):
            yield " ".join(name for name in entry[:2] if isinstance(name, str))


def lines(widget: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the horizontal lines of a widget."""
    found: list[dict[str, Any]] = widget["properties"].get("annotations", {}).get("horizontal", [])
    return found


def problems(body: str, thresholds: Mapping[str, float], region: str) -> list[str]:
    """Return what is wrong with the body of the dashboard, nothing if it is as it should be.

    `thresholds` are those of the alarms by their short names, each of which needs a line that is labelled with it.
    """
    widgets: list[dict[str, Any]] = json.loads(body)["widgets"]
    plots = [widget for widget in widgets if widget["type"] == "metric"]
    found = list(_misplaced(widgets))
    for plot in plots:
        found += _wrong_with(plot, region)
    found += _missing(widgets, plots, thresholds)
    count = sum(1 for plot in plots for _ in metrics(plot))
    if count > FREE_METRICS:
        found.append(f"{count} metrics; a free dashboard has {FREE_METRICS} at most")
    return found


def _misplaced(widgets: list[dict[str, Any]]) -> Iterator[str]:
    for widget in widgets:
        x, y, width, height = (widget[name] for name in ("x", "y", "width", "height"))
        if min(x, y) < 0 or width < 1 or height < 1 or x + width > COLUMNS:
            yield f"{_title(widget)}: outside the grid of {COLUMNS} columns"
    for one, other in combinations(widgets, 2):
        is_beside = one["x"] + one["width"] <= other["x"] or other["x"] + other["width"] <= one["x"]
        is_apart = one["y"] + one["height"] <= other["y"] or other["y"] + other["height"] <= one["y"]
        if not (is_beside or is_apart):
            yield f"{_title(one)} covers {_title(other)}"


def _wrong_with(plot: Mapping[str, Any], region: str) -> Iterator[str]:
    title, properties = _title(plot), plot["properties"]
    if properties.get("region") != region:
        yield f"{title}: has to name the region, {region}"
    entries = properties.get("metrics", [])
    if not 0 < len(entries) <= METRICS_OF_A_WIDGET:
        yield f"{title}: shows {len(entries)} metrics"
    ids = {entry[-1]["id"] for entry in entries if isinstance(entry[-1], dict) and "id" in entry[-1]}
    for entry in entries:
        options = entry[-1] if isinstance(entry[-1], dict) else {}
        names = entry[:-1] if options else entry
        if "expression" in options:
            yield from (f"{title}: no metric has the id {each}" for each in _ids_in(options["expression"]) - ids)
            continue
        if len(names) % 2 or not all(isinstance(name, str) and name for name in names):
            yield f"{title}: {names} is no namespace, name and pairs of dimensions"
        if "stat" not in options and "stat" not in properties:
            yield f"{title}: {names[1]} has no statistic"
        if options.get("period", properties.get("period")) not in PERIODS:
            yield f"{title}: {names[1]} has none of the periods {PERIODS}"
    for line in lines(plot):
        if (
            not line.get("label")
            or isinstance(line.get("value"), bool)
            or not isinstance(line.get("value"), int | float)
        ):
            yield f"{title}: a line needs a label and a value"


def _missing(
    widgets: list[dict[str, Any]], plots: list[dict[str, Any]], thresholds: Mapping[str, float]
) -> Iterator[str]:
    by_title = {_title(plot): plot for plot in plots}
    for title, wanted in WANTED.items():
        if title not in by_title:
            yield f"no widget {title}"
        elif lacking := wanted - set(metrics(by_title[title])):
            yield f"{title}: lacks {', '.join(sorted(lacking))}"
    drawn = [line for plot in plots for line in lines(plot)]
    for alarm, threshold in thresholds.items():
        if not any(f"alarm {alarm}:" in line.get("label", "") and line["value"] == threshold for line in drawn):
            yield f"no line at {threshold:g} for the alarm {alarm}"
    if not any(widget["type"] == "alarm" for widget in widgets):
        yield "no widget with the states of the alarms"


def _ids_in(expression: str) -> set[str]:
    words = "".join(letter if letter.isalnum() or letter == "_" else " " for letter in expression).split()
    return {word for word in words if word[0].islower()}


def _title(widget: Mapping[str, Any]) -> str:
    return str(widget["properties"].get("title", "a widget without a title"))
