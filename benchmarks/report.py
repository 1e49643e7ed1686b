"""What every benchmark prints and keeps: the machine, a table, and the numbers as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from statistics import quantiles
from typing import Any

RESULTS = Path(__file__).with_name("results")


def machine() -> dict[str, Any]:
    """Return what the numbers depend on."""
    model = "unknown"
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        names = [line.partition(":")[2].strip() for line in cpuinfo.read_text().splitlines() if "model name" in line]
        model = names[0] if names else model
    return {"cpu": model, "cores": os.cpu_count(), "system": f"{platform.system()} {platform.machine()}"}


def machine_in_words() -> str:
    """Return the same in one line."""
    here = machine()
    return f"{here['cpu']}, {here['cores']} cores, {here['system']}"


def percentiles(samples: Sequence[float]) -> dict[str, float]:
    """Return the 50th, 95th and 99th percentile of at least two samples, in their unit."""
    cuts = quantiles(samples, n=100, method="inclusive")
    return {"p50": cuts[49], "p95": cuts[94], "p99": cuts[98]}


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return lines of aligned columns, the first one to the left and the others to the right; floats get two digits."""
    texts = [[f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row] for row in [header, *rows]]
    widths = [max(len(row[column]) for row in texts) for column in range(len(header))]
    lines = [
        "  ".join(text.ljust(width) if column == 0 else text.rjust(width) for column, (text, width) in enumerate(each))
        for each in [list(zip(row, widths, strict=True)) for row in texts]
    ]
    return "\n".join([lines[0], "-" * len(lines[0]), *lines[1:]])


def keep(name: str, numbers: dict[str, Any], folder: Path = RESULTS) -> Path:
    """Write `numbers` and the machine as `<name>.json` and return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{name}.json"
    file.write_text(json.dumps({"machine": machine()} | numbers, indent=2) + "\n", encoding="utf-8")
    return file
