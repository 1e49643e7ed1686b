"""Runs `python -m local` for a benchmark, in a process of its own, and finds its addresses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from local.child import spawn, stop, tail
from local.server import StartFailed

WORKER_LOG: Final = "worker.log"
"""Name of the worker's log in the folder of a running system."""

POLL_SECONDS: Final = 0.05
IDLE_MINUTES: Final = 30
"""Longer than any benchmark, so that the worker never stops by itself."""

ROOT: Final = Path(__file__).resolve().parents[1]


@contextmanager
def running(
    folder: Path, model: str, engine_args: Mapping[str, Any], options: Sequence[str] = ()
) -> Iterator[dict[str, Any]]:
    """Run the system with this model; yield what its ready line says, and stop it in the end.

    `options` are those of `python -m local`. Its logs and all that is temporary go into `folder`.

    Raises:
        StartFailed: it does not come up.
    """
    log = folder / "local.log"
    settings = {
        "TLFIF_MODEL": model,
        "TLFIF_ENGINE_ARGS": json.dumps(engine_args),
        "TLFIF_IDLE_MINUTES": str(IDLE_MINUTES),
        "TMPDIR": str(folder),
    }
    command = [sys.executable, "-m", "local", f"--log-dir={folder}", *options]
    child = spawn(command, log=log, folder=ROOT, environment=os.environ | settings)
    try:
        yield _ready_line(child, log)
    finally:
        stop(child)


def _ready_line(child: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    while child.poll() is None:
        for line in log.read_text("utf-8", "replace").splitlines(keepends=True):
            if line.startswith("{") and line.endswith("\n"):
                addresses: dict[str, Any] = json.loads(line)
                return addresses
        time.sleep(POLL_SECONDS)
    raise StartFailed(f"the local system did not start. Its log ends with:\n{tail(log)}")
