"""Build what goes onto the GPU's machine image: `dist/tl-fif-node.tar.gz` (`make image-package`).

It holds what runs on the node and the scripts that install it, nothing of the other places. The same sources give the
same bytes: order, times, owners and modes are set here; the compressor is the interpreter's own.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import os
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
NAME: Final = "tl-fif-node.tar.gz"

FOLDERS: Final = ("ami", "supervisord", "worker")
"""Whole, but for what interpreters and editors leave in them."""

FILES: Final = (
    *("router_lambda/__init__.py", "router_lambda/job.py"),
    *("pyproject.toml", "requirements.lock", "VERSION", "README.md", "LICENSE"),
)

EARLIEST: Final = 315_532_800
"""1980-01-01 in Unix seconds, as in the Lambda package."""


def contents(root: Path) -> Iterator[Path]:
    """List the files, relative to `root`."""
    for folder in FOLDERS:
        for path in (root / folder).rglob("*"):
            name = path.relative_to(root)
            if path.is_file() and not any(part.startswith((".", "__pycache__")) for part in name.parts):
                yield name
    yield from map(Path, FILES)


def write(root: Path, target: Path, moment: int) -> None:
    """Pack the files so that the bytes depend on names, contents, whether a file can be run, and `moment` alone."""
    names = sorted(contents(root))
    folders = sorted({parent for name in names for parent in name.parents if parent != Path()})
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name in [*folders, *names]:
            path = root / name
            entry = tarfile.TarInfo(name.as_posix())
            entry.mtime = moment
            if path.is_dir():
                entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                archive.addfile(entry)
            else:
                data = path.read_bytes()
                entry.size, entry.mode = len(data), 0o755 if os.access(path, os.X_OK) else 0o644
                archive.addfile(entry, io.BytesIO(data))
    unfinished = target.with_suffix(".unfinished")
    unfinished.write_bytes(gzip.compress(packed.getvalue(), compresslevel=9, mtime=0))
    unfinished.replace(target)


def main(arguments: list[str]) -> int:
    """Build the archive and print path, size and SHA-256."""
    parser = argparse.ArgumentParser(description="Build the archive of the GPU node.")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="folder to write to; default: dist")
    options = parser.parse_args(arguments)
    moment = os.environ.get("SOURCE_DATE_EPOCH") or str(EARLIEST)
    if not moment.isdecimal():
        print(f"image-package: write SOURCE_DATE_EPOCH in whole Unix seconds; it is {moment}", file=sys.stderr)
        return 2
    options.output.mkdir(parents=True, exist_ok=True)
    target = options.output / NAME
    write(ROOT, target, int(moment))
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{os.path.relpath(target)}  {target.stat().st_size:,} bytes  sha256 {digest}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
