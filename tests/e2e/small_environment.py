"""A Python that has the client's one dependency and nothing else, which is where the smoke test has to run."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

_NEEDED = ("httpx", "httpcore", "h11", "anyio", "idna", "certifi", "typing_extensions")
"""httpx, and what comes with it on every Python that the client runs on."""

_PROGRAM = """
import runpy, sys
sys.path[:0] = {path!r}
sys.argv[0] = {module!r}
runpy.run_module({module!r}, run_name="__main__", alter_sys=True)
"""


def small_python(folder: Path, module: str) -> list[str]:
    """Return the command that runs a module of this repository with the standard library and what is in `folder`."""
    for name in _NEEDED:
        spec = find_spec(name)
        assert spec, f"{name} is not installed; run `make setup`"
        assert spec.origin
        file = Path(spec.origin)
        source = file.parent if spec.submodule_search_locations else file
        link = folder / source.name
        if not link.exists():
            link.symlink_to(source)
    # -I and -S: neither the environment nor the installed packages add anything to the path.
    return [sys.executable, "-I", "-S", "-c", _PROGRAM.format(path=[str(folder), str(REPOSITORY)], module=module)]
