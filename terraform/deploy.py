"""`python -m terraform.deploy`: gives the functions new code, to a few callers at first, and takes it back in trouble.

The exit status is 0 when it is deployed or nothing is new, 1 when it failed and was put back, 2 for wrong options, and
3 when somebody else deploys or moves an alias at the same time.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from botocore.exceptions import BotoCoreError

from terraform.deployment import ROOT, Aws, Deployment, Plan
from terraform.record import DEAD_AFTER
from terraform.stop import Stop
from terraform.summary import Release, short, write

LONGEST_SECONDS: Final = 600
"""What canary and watch may be set to, each."""

MOST_PERCENT: Final = 50

EXIT_USAGE: Final = 2

assert DEAD_AFTER.total_seconds() > 2 * LONGEST_SECONDS, "a deployment that goes on must not be taken for a dead one"


def commit() -> str:
    """Return what is deployed: what CodeBuild or GitHub say, else git, else `unknown`."""
    for name in ("CODEBUILD_RESOLVED_SOURCE_VERSION", "GITHUB_SHA"):
        if os.environ.get(name):
            return short(os.environ[name])
    command = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _within(least: float, most: float) -> Callable[[str], float]:
    def read(text: str) -> float:
        value = float(text)
        if not least <= value <= most:
            raise argparse.ArgumentTypeError(f"{text} is not between {least:g} and {most:g}")
        return value

    return read


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m terraform.deploy", description=(__doc__ or "").partition("\n")[0])
    seconds = _within(0, LONGEST_SECONDS)
    add = parser.add_argument
    add("--name", default="tl-fif", help="Terraform's variable `name`; default: tl-fif")
    add("--package", type=Path, help="the zip; default: that of make lambda-package for the functions' processor")
    add("--weight", type=_within(1, MOST_PERCENT), default=10.0, metavar="PERCENT", help="of the calls; default: 10")
    add("--canary-seconds", type=seconds, default=120.0, help="how long only those are led there; default: 120")
    add("--watch-seconds", type=seconds, default=60.0, help="how long to watch after that; default: 60")
    add("--skip-canary", action="store_true", help="lead all callers there at once")
    add("--commit", default=None, help="what it was built from; default: what CodeBuild, GitHub or git says")
    add("--summary", type=Path, metavar="FILE", help="write what happened there, in Markdown")
    return parser


def main(arguments: Sequence[str]) -> int:
    """Deploy with the credentials and the region of the environment."""
    options = _parser().parse_args(arguments)
    plan = Plan(
        options.name,
        options.package,
        0.0 if options.skip_canary else options.weight / 100,
        options.canary_seconds,
        options.watch_seconds,
    )
    release = Release(
        (ROOT / "VERSION").read_text(encoding="utf-8").strip(), short(options.commit) if options.commit else commit()
    )
    stop = Stop()
    stop.listen()
    try:
        aws = Aws.of_environment()
    except BotoCoreError as error:
        print(f"deploy: {error}; set AWS_REGION and credentials", file=sys.stderr)
        return EXIT_USAGE
    deployment = Deployment(aws, plan, release, stop, lambda line: print(line, flush=True))
    try:
        return deployment.run()
    finally:
        if options.summary is not None:
            write(options.summary, deployment.page())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
