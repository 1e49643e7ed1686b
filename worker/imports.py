"""Leaves out of vLLM's imports what takes seconds and is not needed: a compiler, and an index that never changes.

Where a later release does not look as it is expected to, everything is imported as ever, only slower;
`tests/engine/test_lean_imports.py` then says so.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import metadata
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any, Final

_COMPILER: Final = "torch._inductor.lowering"
_INDEXER: Final = "transformers.utils.import_utils"

Index = dict[frozenset[str], dict[str, set[str]]]
"""Which names each module of transformers has, by the libraries that they need."""


@contextmanager
def lean() -> Iterator[None]:
    """While entered, import vLLM and transformers without what is not needed."""
    with _without_compiler(), _with_kept_index():
        yield


@contextmanager
def _without_compiler() -> Iterator[None]:
    """Leave PyTorch's compiler alone where nothing is compiled.

    vLLM imports a part of it to patch it, and goes on when there is no such part; PyTorch imports all of it for the
    first decorator that compiles, unless it is told by a variable of its own that this will not happen.
    """
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        os.environ.setdefault("TORCHDYNAMO_DISABLE", "1")
    if os.environ.get("TORCHDYNAMO_DISABLE") != "1" or _COMPILER in sys.modules:
        yield
        return
    sys.modules[_COMPILER] = None  # type: ignore[assignment] # how Python says that there is no such module
    try:
        yield
    finally:
        del sys.modules[_COMPILER]


@contextmanager
def _with_kept_index() -> Iterator[None]:
    """Let transformers take the index of its models from a file.

    It reads the source of all its 2,400 modules of models to make it, twice at each import.
    """
    file = _index_file()
    if file is None or _INDEXER in sys.modules:
        yield
        return
    finder = _Finder(file)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


def _index_file() -> Path | None:
    """Return where the index of the installed transformers is kept; `None` if it cannot be told which one that is."""
    try:
        record = metadata.distribution("transformers").read_text("RECORD")  # has the hash of every file
    except metadata.PackageNotFoundError:
        return None
    if record is None:
        return None
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "tl-fif" / f"transformers-{hashlib.sha256(record.encode()).hexdigest()[:12]}.json"


class _Finder(MetaPathFinder):
    """Finds the module that makes the index as Python does, and changes it once it is loaded."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _INDEXER:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            load = spec.loader.exec_module

            def load_and_change(module: ModuleType) -> None:
                load(module)
                keep_index(module, self._file)

            spec.loader.exec_module = load_and_change  # type: ignore[method-assign]
        return spec


def keep_index(module: Any, file: Path) -> None:
    """Let `module.define_import_structure` keep its answer for the folder of all models in `file`."""
    make: Callable[..., Index] | None = getattr(module, "define_import_structure", None)
    if make is None:
        return
    models = Path(module.__file__).parents[1] / "models"

    @wraps(make)
    def define_import_structure(module_path: str | Path, prefix: str | None = None) -> Index:
        if Path(module_path) not in {models, models / "__init__.py"}:
            return make(module_path, prefix)
        index = _read(file)
        if index is None:
            index = make(str(models))
            _write(file, index)
        start = "" if prefix is None else f"{prefix}."
        return {needs: {start + name: set(has) for name, has in each.items()} for needs, each in index.items()}

    module.define_import_structure = define_import_structure


def _read(file: Path) -> Index | None:
    try:
        return {
            frozenset(needs): {name: set(has) for name, has in modules.items()}
            for needs, modules in json.loads(file.read_text("utf-8"))
        }
    except (OSError, ValueError):
        return None


def _write(file: Path, index: Index) -> None:
    """Write the whole file or none: another worker may be reading it."""
    kept = [[sorted(needs), {name: sorted(has) for name, has in each.items()}] for needs, each in index.items()]
    partial = file.with_suffix(f".{os.getpid()}")
    with suppress(OSError):  # a cache that cannot be written costs time and nothing else
        file.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(json.dumps(kept), "utf-8")
        partial.replace(file)
