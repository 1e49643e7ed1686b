"""Runs benchmarks one after the other, each in a process of its own, and makes the page of what all have kept.

    python -m benchmarks [NAME …]      all of them if none is named; 1 if any failed

One that fails is no reason not to run the next; the page then shows its last result.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from benchmarks import page, report
from worker.parent_death import die_with

PATIENCE_SECONDS: Final = 3_600.0
"""Only to end one that hangs: most take minutes."""

ROOT: Final = Path(__file__).resolve().parents[1]


def main(arguments: list[str]) -> int:
    """Run those that are named, make the page, and say which failed."""
    known = [name for name in page.ORDER if importlib.util.find_spec(f"benchmarks.{name}")]
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Runs benchmarks and makes their page.")
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"which to run, of {', '.join(known)}")
    parser.add_argument("--tiny", action="store_true", help="as small as they go, to see that they run")
    parser.add_argument("--results", type=Path, default=report.RESULTS, help="folder of the results")
    options = parser.parse_args(arguments)
    if unknown := set(options.names) - set(known):
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    results = options.results.resolve()
    if options.tiny and results == report.RESULTS:
        parser.error("--tiny is for a --results of its own: what it measures means nothing")
    flags = [f"--results={results}", *["--tiny"] * options.tiny]
    failed = [name for name in options.names or known if not _runs(name, flags)]
    readme = page.README if results == report.RESULTS else results / "README.md"
    if page.main([f"--results={results}", f"--readme={readme}"]):
        failed.append("page")
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _runs(name: str, flags: list[str]) -> bool:
    """Run one benchmark; return whether it went well."""
    print(f"== {name}", flush=True)
    began = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", f"benchmarks.{name}", *flags],
        cwd=ROOT,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - safe: it only makes two system calls
    ) as child:
        try:
            code = child.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            child.kill()  # what it has started dies with it
            print(f"it has run for {PATIENCE_SECONDS:.0f} s and is ended", file=sys.stderr)
            code = child.wait()
    print(f"== {name} took {time.monotonic() - began:.0f} s{f' and failed with {code}' if code else ''}\n", flush=True)
    return code == 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
