"""Build the Lambda package for each processor: `dist/tl-fif-router-<architecture>.zip` (`make lambda-package`).

It holds `router_lambda/`, whose openapi.yaml says the version, and the files of .ci/lambda.lock. The same sources give
the same bytes; docs/adr/ADR-2026-11-23-lambda-zip.md says on what terms, and why the dependencies come as bytecode
alone. Needs pip, and a Python 3.12 to compile with.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
LOCK: Final = ROOT / ".ci" / "lambda.lock"
ARCHITECTURES: Final = {"x86_64": "x86_64", "arm64": "aarch64"}
"""Lambda's names of its processors, and what wheels call them."""

# Lambda's Python 3.12 runs on Amazon Linux 2023, whose glibc is 2.34; pip takes these tags by the letter.
MANYLINUX: Final = ("manylinux_2_34", "manylinux_2_28", "manylinux_2_17", "manylinux2014")

LICENCES: Final = ("licenses", "LICENSE", "LICENCE", "COPYING", "NOTICE", "AUTHORS")
EARLIEST: Final = 315_532_800
"""1980-01-01 in Unix seconds, where a zip's calendar begins."""


class PackagingFailed(Exception):
    """The package cannot be built; the message says what to do about it."""


class NoPython(PackagingFailed):
    """This machine has no Python 3.12 that runs."""


def find_python() -> Path:
    """Return the interpreter to compile with: `$PYTHON312` where that is set, else the first that is a 3.12.

    Raises:
        NoPython: none of the places holds one.
    """
    named = os.environ.get("PYTHON312")
    for candidate in [named] if named else ["python3.12", "python3", *_pyenv_pythons()]:
        # A name proves nothing (version managers leave shims that refuse to run), so each is asked.
        found = _output(candidate, "-I", "-c", "import sys; print(sys.version_info[:2] == (3, 12), sys.executable)")
        if found.startswith("True "):
            return Path(found.removeprefix("True "))
    where = f"$PYTHON312, which is {named}, is none" if named else "neither python3.12 nor python3 nor pyenv has one"
    raise NoPython(
        f"Lambda runs Python 3.12, and {where}. Install it (for example: pyenv install 3.12) or name one:"
        " PYTHON312=/path/to/python3.12 make lambda-package"
    )


def _pyenv_pythons() -> Iterator[str]:
    versions = [version for version in _output("pyenv", "versions", "--bare").split() if version.startswith("3.12.")]
    for version in sorted(versions, key=lambda text: [int(part) for part in re.findall(r"\d+", text)], reverse=True):
        yield f"{_output('pyenv', 'prefix', version)}/bin/python3.12"


def _output(*command: str) -> str:
    """Return what a command says; nothing where it is missing or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def download(machine: str, folder: Path) -> list[Path]:
    """Fetch the wheels that go into the package of one processor, each the very file of the lock.

    Raises:
        PackagingFailed: pip could not get them, or got another file.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--require-hashes"]
    command += ["--only-binary=:all:", "--implementation=cp", "--python-version=3.12"]
    command += [f"--platform={tag}_{machine}" for tag in MANYLINUX]
    done = subprocess.run(
        [*command, "--dest", str(folder), "--requirement", str(LOCK)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"PIP_DISABLE_PIP_VERSION_CHECK": "1"},
    )
    if done.returncode:
        raise PackagingFailed(f"pip could not fetch the wheels for {machine}; it said:\n{done.stderr.strip()}")
    return sorted(folder.iterdir())


def is_wanted(name: PurePosixPath) -> bool:
    """Tell whether a file of a wheel goes into the package: code that runs, metadata and licences."""
    top, *below = name.parts
    if top.endswith(".dist-info"):
        return below == ["METADATA"] or below[0].startswith(LICENCES)
    # Of cffi, cryptography loads the extension module beside this folder and nothing else.
    return name.suffix in {".py", ".so"} and top != "cffi" and "tests" not in below


def fill(folder: Path, wheels: list[Path], python: Path) -> None:
    """Lay out the package in an empty folder: the dependencies as bytecode, the router as source and bytecode."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if not name.endswith("/")]
            if any(".data/" in name for name in names):
                raise PackagingFailed(f"{wheel.name} has a .data folder, which this script does not know how to place")
            archive.extractall(folder, [name for name in names if is_wanted(PurePosixPath(name))])
    _compile(python, folder, folder, "-b")  # beside the source: the place of bytecode that comes without
    for source in folder.rglob("*.py"):
        source.unlink()
    router = folder / "router_lambda"
    router.mkdir()
    for source in (ROOT / router.name).iterdir():
        if source.suffix == ".py" or source.name == "openapi.yaml":
            shutil.copyfile(source, router / source.name)
    _compile(python, folder, router)


def _compile(python: Path, root: Path, folder: Path, *options: str) -> None:
    # unchecked-hash: Lambda never compares it with the source, and no time of ours gets into the file.
    command = [str(python), "-m", "compileall", "-q", "--invalidation-mode=unchecked-hash", "-s", str(root)]
    # Nobody's PYTHONOPTIMIZE or the like; the seed is one so that no order in the bytecode depends on it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command += ["-p", "/var/task", *options, str(folder)]
    if subprocess.run(command, check=False, env=environment | {"PYTHONHASHSEED": "0"}).returncode:
        raise PackagingFailed(f"{python} could not compile what it names above; pin another version of that package")


def write_zip(folder: Path, target: Path, moment: int) -> None:
    """Pack a folder so that its bytes depend on names, contents and `moment` (Unix seconds) alone."""
    unfinished = target.with_suffix(".unfinished")
    with zipfile.ZipFile(unfinished, "w") as archive:
        for path in sorted(path for path in folder.rglob("*") if path.is_file()):
            entry = zipfile.ZipInfo(path.relative_to(folder).as_posix(), time.gmtime(max(moment, EARLIEST))[:6])
            entry.create_system = 3  # Unix, whatever this machine is: the permissions below count
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, path.read_bytes(), zipfile.ZIP_DEFLATED, compresslevel=9)
    unfinished.replace(target)


def build(architecture: str, python: Path, folder: Path) -> Path:
    """Build the package of one architecture into `folder` and return its path.

    Raises:
        PackagingFailed: with what to do.
    """
    target = folder / f"tl-fif-router-{architecture}.zip"
    moment = os.environ.get("SOURCE_DATE_EPOCH") or str(EARLIEST)
    if not moment.isdecimal():
        raise PackagingFailed(f"write SOURCE_DATE_EPOCH in whole Unix seconds; it is {moment}")
    with tempfile.TemporaryDirectory() as scratch:
        wheels, content = Path(scratch, "wheels"), Path(scratch, "content")
        wheels.mkdir()
        content.mkdir()
        fill(content, download(ARCHITECTURES[architecture], wheels), python)
        write_zip(content, target, int(moment))
    return target


def main(arguments: list[str]) -> int:
    """Build both packages and print path, size and SHA-256 of each."""
    parser = argparse.ArgumentParser(description="Build the Lambda package for each processor.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder to write to; default: dist")
    parser.add_argument("--find-python", action="store_true", help="print the Python 3.12 of this machine and stop")
    options = parser.parse_args(arguments)
    try:
        python = find_python()
        if options.find_python:
            print(python)
            return 0
        options.output.mkdir(parents=True, exist_ok=True)
        for architecture in ARCHITECTURES:
            path = build(architecture, python, options.output)
            size, digest = path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()
            print(f"{os.path.relpath(path)}  {size:,} bytes  sha256 {digest}", flush=True)
    except PackagingFailed as failure:
        print(f"lambda-package: {failure}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
