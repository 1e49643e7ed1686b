"""An environment for each peer below `build/peers`, from `requirements-<name>.txt` beside this file; kept between runs.

The marker is written last and holds what was asked for: an install that broke off, or an older one, is done anew.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
ENVIRONMENTS: Final = ROOT / "build" / "peers"
INSTALL_SECONDS: Final = 300.0
"""Longest time for one environment; it takes a few seconds where the packages come from near by."""


class NotInstalled(Exception):
    """The peer's packages cannot be had here; the message is pip's own."""


def requirements(name: str) -> Path:
    """Return the file with the exact versions of a peer and of what it needs."""
    return Path(__file__).with_name(f"requirements-{name}.txt")


def pinned(name: str) -> dict[str, str]:
    """Return the version of each package of a peer."""
    lines = [line.partition("#")[0].strip() for line in requirements(name).read_text().splitlines()]
    pins = [line.split("==") for line in lines if line]
    return {package: version for package, version in pins}  # noqa: C416 - a pin that is none fails here


def python(name: str, folder: Path = ENVIRONMENTS) -> Path:
    """Return the interpreter of a peer's environment, which is made if it is not there.

    Raises:
        NotInstalled: its packages cannot be had.
    """
    place = folder / name
    program, marker = place / "bin" / "python", place / ".ready"
    wanted = hashlib.sha256(requirements(name).read_bytes() + sys.version.encode()).hexdigest()
    if not marker.exists() or marker.read_text() != wanted:
        shutil.rmtree(place, ignore_errors=True)
        print(f"installing {name} into {place}", file=sys.stderr, flush=True)
        # This interpreter's pip does the work: one in each environment would take longer than all the packages.
        _do(name, [sys.executable, "-m", "venv", "--without-pip", str(place)])
        pip = [sys.executable, "-m", "pip", "--python", str(program), "--disable-pip-version-check", "install"]
        _do(name, [*pip, "--quiet", "--no-input", "--no-deps", "-r", str(requirements(name))])
        marker.write_text(wanted)
    return program


def _do(name: str, command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS)
    except subprocess.CalledProcessError as error:
        words = [line for line in error.stderr.splitlines() if "ERROR" in line] or error.stderr.splitlines()
        raise NotInstalled(f"{name} could not be installed: {' '.join(words[-1:])}") from None
    except subprocess.TimeoutExpired:
        raise NotInstalled(f"{name} could not be installed within {INSTALL_SECONDS:g} s") from None
