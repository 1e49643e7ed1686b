"""The command line that `python -m local` and `python -m local.demo` share, and the model that it chooses."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from local.hypervisor import Delays
from local.model import default_model
from local.stack import WORKER, Plan
from local.tiny_model import write_tiny_model
from worker.gguf import converted

BOOT_SECONDS: Final = 2.0
"""How long the emulated instance takes to start, unless it is told otherwise."""

STOP_SECONDS: Final = 1.0
"""How long it takes to stop."""

MOST_SECONDS: Final = 600.0
"""Longest boot and stop of the emulated instance."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asks for."""

    tiny: bool
    log_dir: Path | None
    asleep: bool = False
    boot_seconds: float = BOOT_SECONDS
    stop_seconds: float = STOP_SECONDS

    @classmethod
    def add_to(cls, parser: argparse.ArgumentParser) -> None:
        """Define the arguments."""
        parser.add_argument(
            "--tiny",
            action="store_true",
            help="run a tiny model with random weights (over TLFIF_MODEL): starts sooner, talks nonsense",
        )
        parser.add_argument(
            "--log-dir",
            type=Path,
            metavar="FOLDER",
            help="keep the logs there (worker, router, redis, s3, aws); else they go with the other temporary files",
        )
        parser.add_argument(
            "--asleep",
            action="store_true",
            help="begin with a stopped instance: the first prompt starts it, and the worker with it",
        )
        parser.add_argument(
            "--boot-seconds",
            type=_seconds,
            default=BOOT_SECONDS,
            metavar="N",
            help="how long the emulated instance takes to start, before the worker (default %(default)g)",
        )
        parser.add_argument(
            "--stop-seconds",
            type=_seconds,
            default=STOP_SECONDS,
            metavar="N",
            help="how long it takes to stop, after the worker (default %(default)g)",
        )

    def plan(self, folder: Path, worker: Sequence[str] = WORKER) -> Plan:
        """Choose the model, converting it if need be, and the folders: what is temporary goes into `folder`.

        Raises:
            StartFailed: the default model's package is missing.
            SettingsError: a GGUF file could not be converted.
            OSError: the folder for the logs cannot be made.
        """
        if self.log_dir is not None:
            self.log_dir.mkdir(parents=True, exist_ok=True)
        logs = (self.log_dir or folder).resolve()
        delays = Delays(self.boot_seconds, self.stop_seconds)
        model = str(self._model(folder))
        return Plan(folder=folder, logs=logs, model=model, worker=worker, delays=delays, asleep=self.asleep)

    def _model(self, folder: Path) -> Path | str:
        if self.tiny:
            return write_tiny_model(folder / "tiny-model")
        asked = os.environ.get("TLFIF_MODEL") or default_model()
        path = Path(asked).expanduser()
        if path.suffix == ".gguf":
            converted(path)  # here, where its progress is seen; the worker then finds it done
        # The worker runs in another working directory; what is no folder is a hub id and stays as it is.
        return path.resolve() if path.exists() else asked


def _seconds(text: str) -> float:
    with suppress(ValueError):
        if 0 <= (seconds := float(text)) <= MOST_SECONDS:
            return seconds
    raise argparse.ArgumentTypeError(f"{text!r} is no time; give seconds from 0 to {MOST_SECONDS:g}")


class _Seconds(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        """Put the seconds since the start in front."""
        return f"[{record.relativeCreated / 1000:5.1f} s] {super().format(record)}"


def log_to_stderr() -> None:
    """Show progress to a person; standard output belongs to the ready line or to the answer."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Seconds("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    for ours in ("local", "worker", "router_lambda"):
        logging.getLogger(ours).setLevel(logging.INFO)
