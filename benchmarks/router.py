"""How fast the router answers and how fast it starts, in Lambda's Python and from the very package that is deployed.

    python -m benchmarks.router            about a minute; keeps results/router.json

Warm: each route through the handler, in one process over a Redis on loopback, beside the floor, which is the same Redis
commands by redis-py and nothing else; and through the real runtime client, beside a handler that does nothing.
Cold: the CPU time of importing the handler, beside that of redis-py alone.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
import zipfile
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import report
from benchmarks.router_inside import event
from local.lambda_runtime import LambdaFunction, Runtime, install_runtime
from local.redis_server import RedisServer
from local.run_directory import RunDirectory

ROOT = Path(__file__).resolve().parents[1]
BUILDER = ROOT / ".ci" / "lambda_package.py"
INFER = "POST /infer"
BY_RUNTIME = " by awslambdaric"
PERCENTILES = ("p50", "p95", "p99")
IDLE = "def handler(event, context):\n    return {'statusCode': 200, 'headers': {}, 'body': '{}'}\n"


def main(arguments: list[str]) -> int:
    """Run everything, print it and keep it."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.router", description="Measures the router Lambda.")
    parser.add_argument("--calls", type=int, default=500, help="calls of each route in a round; default %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--starts", type=int, default=15, help="cold imports of each kind; default %(default)s")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder for router.json")
    parser.add_argument("--tiny", action="store_true", help="two calls of each, and one start")
    options = parser.parse_args(arguments)
    rounds, calls, starts = (1, 2, 1) if options.tiny else (options.rounds, options.calls, options.starts)
    found = subprocess.run([sys.executable, BUILDER, "--find-python"], capture_output=True, text=True, check=False)
    if found.returncode:
        print(found.stderr, end="", file=sys.stderr)
        return found.returncode
    python = Path(found.stdout.strip())
    with RunDirectory("tl-fif-bench-") as directory:
        package = _package(directory.path)
        redis = RedisServer(directory.path)
        redis.start()
        environment = _environment(redis.url)
        warm = _inside(python, package, environment, calls=calls, rounds=rounds, redis=redis.url)
        runtime = install_runtime(python, ROOT / "requirements.lock", ROOT / "build" / "lambda-runtime")
        lambdas = _through_runtime(runtime, package, environment, directory.path, rounds * calls)
        cold = _cold(python, package, environment, starts)
        redis.stop()
    report.show_and_keep(_result(warm, lambdas, cold, rounds, calls), options.results)
    return 0


def _package(folder: Path) -> Path:
    subprocess.run([sys.executable, BUILDER, "--output", folder / "dist"], stdout=subprocess.DEVNULL, check=True)
    package = folder / "package"
    with zipfile.ZipFile(folder / "dist" / "tl-fif-router-x86_64.zip") as archive:
        archive.extractall(package)
    return package


def _environment(redis_url: str) -> dict[str, str]:
    """Return what the functions get: nothing of this machine but what Lambda would set."""
    return {
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": "eu-central-1",
        "TLFIF_REDIS_URL": redis_url,
        "TLFIF_BUCKET": "tl-fif",
        "TLFIF_PING_CIDRS": "127.0.0.1/32",
    }


def _inside(python: Path, package: Path, environment: dict[str, str], **wish: Any) -> dict[str, Any]:
    done = subprocess.run(
        # -P: else this folder would come first on the path, and its queue.py stand in for Python's own.
        [python, "-P", Path(__file__).with_name("router_inside.py")],
        input=json.dumps(wish),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env=environment | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def _through_runtime(
    runtime: Runtime, package: Path, environment: dict[str, str], folder: Path, calls: int
) -> dict[str, list[float]]:
    """Return the seconds of invocations as the Runtime API sees them; `floor` is a handler that does nothing."""
    idle = folder / "idle"
    idle.mkdir()
    (idle / "idle.py").write_text(IDLE)
    taken: dict[str, list[float]] = {"floor": [], "GET /ping": [], INFER: []}
    prompt = json.dumps({"prompt": "Why is the sky blue? " * 20})
    log = folder / "functions.log"
    with (
        LambdaFunction(runtime, idle, "idle.handler", {}, log) as nothing,
        LambdaFunction(runtime, package, "router_lambda.handler.handler", environment, log) as router,
    ):
        for number in range(-10, calls):
            sent = {
                "floor": (nothing, event("GET", "/ping", "nobody")),
                "GET /ping": (router, event("GET", "/ping", "nobody")),
                INFER: (router, event("POST", "/infer", f"runtime-{number}", prompt)),
            }
            for name, (function, what) in sent.items():
                began = time.perf_counter()
                answer = function.invoke(what)
                if number >= 0:  # the first ones connect and warm up
                    taken[name].append(time.perf_counter() - began)
                assert answer["statusCode"] in {200, 202}, answer
    return taken


def _cold(python: Path, package: Path, environment: dict[str, str], starts: int) -> dict[str, list[float]]:
    """Return the CPU seconds of imports, each in a process of its own, taken in turns."""
    kinds = {"nothing": "pass", "redis-py": "import redis", "the handler": "import router_lambda.handler"}
    taken: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(starts + 1):
        for kind, code in kinds.items():
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            # Without site-packages, as in Lambda; from the package's own bytecode, as in Lambda.
            subprocess.run(
                [python, "-S", "-c", code],
                check=True,
                env=environment | {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"},
            )
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            taken[kind].append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return {kind: seconds[1:] for kind, seconds in taken.items()}  # the first of each reads from the disk


def _result(
    warm: dict[str, Any], lambdas: dict[str, list[float]], cold: dict[str, list[float]], rounds: int, calls: int
) -> report.Result:
    """Return what is shown and kept; every percentile is that of one round."""
    pairs = {name: (taken["handler"], taken["floor"]) for name, taken in warm["routes"].items()}
    pairs |= {name + BY_RUNTIME: (taken, lambdas["floor"]) for name, taken in lambdas.items() if name != "floor"}
    found = {name: [_percentiles_ms(taken, rounds) for taken in pair] for name, pair in pairs.items()}
    interpreter = median(cold["nothing"])
    imports = {kind: [(each - interpreter) * 1e3 for each in cold[kind]] for kind in cold if kind != "nothing"}
    return report.Result(
        name="router",
        question="How long does a warm call of the router take beside its Redis commands alone, and a cold import?",
        versions={"python": warm["python"], "redis-py": warm["redis"], "rounds": f"{rounds} of {calls} calls"},
        tables=[
            report.Table(
                "Warm calls, ms",
                ["route", "p50", "p95", "p99", "floor p50", "floor p95", "p50 ÷ floor"],
                [[name, *_cells(ours, floor)] for name, (ours, floor) in found.items()],
            ),
            report.Table(
                "Cold import, ms of CPU",
                ["of", "CPU", "÷ redis-py"],
                [[kind, taken, median(taken) / median(imports["redis-py"])] for kind, taken in imports.items()],
            ),
        ],
        charts=[
            report.Chart(
                "Warm call, p50",
                "ms",
                list(found),
                {
                    "the route": [ours["p50"] for ours, _ in found.values()],
                    "its floor": [floor["p50"] for _, floor in found.values()],
                },
                log=True,
            )
        ],
        goals=[
            report.Goal(f"warm {INFER}, p95, ms", found[INFER][0]["p95"], at_most=60),
            report.Goal(f"warm {INFER}{BY_RUNTIME}, p95, ms", found[INFER + BY_RUNTIME][0]["p95"], at_most=60),
        ],
        notes=[
            "The floor is the route's Redis commands by redis-py alone; by awslambdaric, a handler that does nothing.",
            f"The interpreter itself takes {interpreter * 1e3:.0f} ms of CPU on top.",
        ],
        numbers={
            "warm_ms": {name: {"handler": ours, "floor": floor} for name, (ours, floor) in found.items()},
            "cold_import_cpu_ms": imports,
        },
    )


def _percentiles_ms(seconds: list[float], rounds: int) -> dict[str, list[float]]:
    """Return each percentile of every round, in ms; empty lists of no seconds at all."""
    each = len(seconds) // rounds
    of_rounds = [
        report.percentiles([one * 1e3 for one in seconds[at : at + each]]) for at in range(0, len(seconds), each or 1)
    ]
    return {name: [found[name] for found in of_rounds] for name in PERCENTILES}


def _cells(ours: dict[str, list[float]], floor: dict[str, list[float]]) -> list[list[float]]:
    ratios = [mine / least for mine, least in zip(ours["p50"], floor["p50"], strict=False)]
    return [*ours.values(), floor["p50"], floor["p95"], ratios]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
