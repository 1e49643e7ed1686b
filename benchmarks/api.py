"""What stands in front of vLLM's OpenAI API on the worker costs: the key, the place, the watch over the client.

    python -m benchmarks.api        five minutes; keeps results/api.json

The floor is vLLM's own app on the same engine in the same process, at another port; both are asked in turns, so that
the engine is the same for both to the last setting. The peer is `vllm serve`, eager, with the dtype and the room for
the KV cache of the worker, in a process of its own that is idle while the others are asked. Clients stream; the first
text counts, and all tokens until the last client has its last.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final

import httpx

from benchmarks import report
from benchmarks.api_served import KEY
from benchmarks.cold_start import EAGER, PEERS, SAME, peer_environment
from benchmarks.engine_sides import START_SECONDS, on_a_gpu, quiet, stop_tree
from local.child import spawn, stop, tail
from local.options import Options
from local.ports import LOOPBACK, free_ports
from local.run_directory import RunDirectory
from local.server import StartFailed
from worker import cpu
from worker.gguf import converted

OURS: Final = "tl-fif"
FLOOR: Final = "vLLM's app alone"
CLIENTS: Final = (1, 4, 16)
MAX_TOKENS: Final = 64
POLL_SECONDS: Final = 0.1

ROOT: Final = Path(__file__).resolve().parents[1]

Case = dict[str, list[float]]
"""Tokens a second and the median of the first text's milliseconds, a number for each round."""


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api", description="Measures the OpenAI API.")
    parser.add_argument("--rounds", type=int, default=6, help="rounds of each; default %(default)s")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, few clients, and no peer")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for api.json")
    options = parser.parse_args(arguments)
    with RunDirectory("tl-fif-bench-") as directory, ExitStack() as running:
        model = Options(tiny=options.tiny, log_dir=None).plan(directory.path).model
        if model.endswith(".gguf"):
            model = str(converted(Path(model)))
        engine: dict[str, Any] = {}
        if not on_a_gpu():
            engine = {name: cpu.engine_args(cpu.probe())[name] for name in SAME}
        if options.tiny:
            engine["dtype"] = "float32"
        try:
            ports = running.enter_context(_served(directory.path, model, engine))
            sides = {OURS: ports["ours"], FLOOR: ports["alone"]}
            if not options.tiny:
                sides[EAGER] = running.enter_context(_peer(directory.path, model, engine))
            clients = CLIENTS[:1] if options.tiny else CLIENTS
            found = asyncio.run(_measure(sides, clients, options.rounds))
        except (StartFailed, httpx.HTTPError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    versions = report.versions(*metadata.packages_distributions()["vllm"], "starlette", "uvicorn")
    versions |= {"model": Path(model).name, "tokens": str(MAX_TOKENS), "rounds": str(options.rounds)}
    report.show_and_keep(_result(found, versions), options.results)
    return 0


@contextmanager
def _served(folder: Path, model: str, engine: dict[str, Any]) -> Iterator[dict[str, int]]:
    """Yield the ports of both apps on our engine."""
    log = folder / "served.log"
    command = [sys.executable, "-m", "benchmarks.api_served", model, f"--args={json.dumps(engine)}"]
    child = spawn(command, log=log, folder=ROOT, environment=os.environ | quiet(folder))
    try:
        give_up_at = time.monotonic() + START_SECONDS
        while child.poll() is None and time.monotonic() < give_up_at:
            for line in log.read_text("utf-8", "replace").splitlines():
                if line.startswith('{"alone"'):
                    yield json.loads(line)
                    return
            time.sleep(POLL_SECONDS)
        raise StartFailed(f"the engine did not start. Its log ends with:\n{tail(log)}")
    finally:
        stop_tree(child)


@contextmanager
def _peer(folder: Path, model: str, engine: dict[str, Any]) -> Iterator[int]:
    """Yield the port of `vllm serve`."""
    (port,) = free_ports(1)
    log = folder / "peer.log"
    wanted = engine | {"host": LOOPBACK, "port": port, "served_model_name": Path(model).name}
    command = [str(Path(sys.executable).with_name("vllm")), "serve", model, *PEERS[EAGER]]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in wanted.items()]
    child = spawn(command, log=log, folder=folder, environment=peer_environment(folder, model))
    try:
        give_up_at = time.monotonic() + START_SECONDS
        while child.poll() is None and time.monotonic() < give_up_at:
            with suppress(httpx.ConnectError):
                if httpx.get(f"http://{LOOPBACK}:{port}/health", trust_env=False).is_success:
                    yield port
                    return
            time.sleep(POLL_SECONDS)
        raise StartFailed(f"vllm serve did not start. Its log ends with:\n{tail(log)}")
    finally:
        stop(child)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


async def _measure(sides: dict[str, int], clients: Sequence[int], rounds: int) -> dict[str, dict[int, Case]]:
    """Ask every side with so many clients at once, in turns.

    Each twice, of which the second time counts, and the first round not at all: whoever is asked after the peer, which
    is another process with another model in memory, needs twice as long for its first texts.
    """
    found: dict[str, dict[int, Case]] = {
        name: {count: {"tokens_per_second": [], "first_ms": []} for count in clients} for name in sides
    }
    for number in range(rounds + 1):
        for count in clients:
            for name in list(sides) if number % 2 else reversed(list(sides)):
                await _ask(sides[name], count)
                case = await _ask(sides[name], count)
                if number:
                    for measure, value in case.items():
                        found[name][count][measure].append(value)
        print(f"round {number} of {rounds} is done", file=sys.stderr, flush=True)
    return found


async def _ask(port: int, clients: int) -> dict[str, float]:
    headers = {"authorization": f"Bearer {KEY}"}
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(
        base_url=f"http://{LOOPBACK}:{port}/v1", headers=headers, limits=limits, trust_env=False, timeout=START_SECONDS
    ) as http:
        # Connected before the clock runs: else one would ask before the others can, and its prompt hold up theirs.
        listed = await asyncio.gather(*(http.get("/models") for _ in range(clients)))
        model = listed[0].json()["data"][0]["id"]
        began = time.perf_counter()
        firsts = await asyncio.gather(*(_stream(http, model, number) for number in range(clients)))
        seconds = time.perf_counter() - began
    return {"tokens_per_second": clients * MAX_TOKENS / seconds, "first_ms": median(firsts) * 1e3}


async def _stream(http: httpx.AsyncClient, model: str, number: int) -> float:
    """Ask for a text of `MAX_TOKENS` tokens and read all of it; return the seconds to the first."""
    # Each its own, so that no prefix is found in the cache.
    prompt = f"Client {number} asks at {time.time_ns()}: why is the sky blue, and the sea as well? Tell me all of it."
    body = {
        "model": model,
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": MAX_TOKENS,
        "temperature": 0,
        "stream": True,
        "ignore_eos": True,
    }
    began = time.perf_counter()
    first = None
    async with http.stream("POST", "/chat/completions", json=body) as answer:
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if first is None and '"content":"' in line and '"content":""' not in line:
                first = time.perf_counter() - began
    if first is None:
        raise StartFailed("there was an answer without a text")
    return first


def _result(found: dict[str, dict[int, Case]], versions: dict[str, str]) -> report.Result:
    clients = list(found[OURS])

    def ratios(name: str, count: int, measure: str) -> list[float]:
        ours, theirs = found[OURS][count][measure], found[name][count][measure]
        return [our / their for our, their in zip(ours, theirs, strict=True)]

    others = [name for name in found if name != OURS]
    rows = [
        [
            f"{name}, {count} at once",
            found[name][count]["tokens_per_second"],
            ratios(name, count, "tokens_per_second") if name != OURS else "",
            found[name][count]["first_ms"],
            ratios(name, count, "first_ms") if name != OURS else "",
        ]
        for count in clients
        for name in found
    ]
    return report.Result(
        name="api",
        question="What does it cost to have the worker in front of vLLM's OpenAI API, beside that API alone?",
        versions=versions,
        tables=[
            report.Table("Streams over HTTP", ["", "tokens/s", f"{OURS} ÷ it", "first text, ms", f"{OURS} ÷ it"], rows)
        ],
        charts=[
            report.Chart(
                title,
                unit,
                [f"{count} at once" for count in clients],
                {name: [found[name][count][measure] for count in clients] for name in found},
            )
            for title, unit, measure in (
                ("Tokens", "tokens/s", "tokens_per_second"),
                ("First text", "ms", "first_ms"),
            )
        ],
        goals=[
            goal
            for count in clients
            for goal in (
                report.Goal(
                    f"tokens/s ÷ {FLOOR}, {count} at once", ratios(FLOOR, count, "tokens_per_second"), at_least=0.97
                ),
                report.Goal(f"first text ÷ {FLOOR}, {count} at once", ratios(FLOOR, count, "first_ms"), at_most=1.1),
            )
        ],
        numbers={
            "measures": {name: {str(count): case for count, case in cases.items()} for name, cases in found.items()},
            "ratios": {
                name: {str(count): ratios(name, count, "tokens_per_second") for count in clients} for name in others
            },
        },
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
