"""Build what goes onto the GPU's machine image: `dist/tl-fif-node.tar.gz` (`make image-package`).

It holds what runs on the node and the scripts that install it, nothing of the other places. The same sources give the
same bytes: order, times, owners and modes are set here; the compressor is the interpreter's own.

Beside it comes `dist/tl-fif-node.sources`: a digest of what an image is made of. Two archives with the same one give
the same image, so that `make bake` bakes once.
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
SOURCES: Final = "tl-fif-node.sources"

FOLDERS: Final = ("ami", "supervisord", "worker")
"""Whole, but for what interpreters and editors leave in them."""

FILES: Final = (
    *("router_lambda/__init__.py", "router_lambda/job.py"),
    *("pyproject.toml", "requirements.lock", "VERSION", "README.md", "LICENSE"),
)

RECIPE: Final = "terraform/image/recipe.tf"
"""Not in the archive, and yet what the image is made of: the parent image and the disk."""

NOTHING_ON_THE_NODE: Final = frozenset({"pyproject.toml", "requirements.lock", "VERSION", "LICENSE"})
"""Files of the archive that nothing on the node reads but to say whose it is; pages for people neither."""

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


def sources(root: Path) -> str:
    """Return the digest of what an image is made of: a SHA-256 over path, whether it can be run, and contents."""
    names = {name for name in contents(root) if name.suffix != ".md" and name.as_posix() not in NOTHING_ON_THE_NODE}
    digest = hashlib.sha256()
    for name in sorted(names | {Path(RECIPE)}):
        path = root / name
        held = hashlib.sha256(path.read_bytes()).hexdigest()
        digest.update(f"{held} {'x' if os.access(path, os.X_OK) else '-'} {name.as_posix()}\n".encode())
    return digest.hexdigest()


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
    """Build the archive, write the digest beside it, and print path, size and SHA-256 of one, and the other."""
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
    made_of = target.with_name(SOURCES)
    made_of.write_text(f"{sources(ROOT)}\n", encoding="utf-8")
    digest = hashlib.sha256(target.read_bytes()).hexdigest()
    print(f"{os.path.relpath(target)}  {target.stat().st_size:,} bytes  sha256 {digest}")
    print(f"{os.path.relpath(made_of)}  {made_of.read_text(encoding='utf-8').strip()}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
