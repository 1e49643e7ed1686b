"""docs/rollback_example.md, worked through: each of its commands is run, and prints what the page says that it does."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.infra.lambda_aws import NAME, REPOSITORY, LambdaAws, lambda_aws, package

PAGE = "docs/rollback_example.md"

PAIR = re.compile(r"^```sh\n(.*?)^```\n\n^```text\n(.*?)^```$", re.MULTILINE | re.DOTALL)
"""Commands, and what they print."""

WITHOUT_WAITING = """
import os, sys
from pathlib import Path
from terraform import deploy, deployment, stop

deploy.ROOT = deployment.ROOT = Path(os.environ["EXAMPLE"])
stop.Stop.pause = lambda self, seconds: None
sys.exit(deploy.main(sys.argv[1:]))
"""

MAKE = """#!/bin/sh
# make TARGET ARGS="…", as the Makefile has it; what make itself says of a failure has line numbers in it.
target=$1
shift
for each in "$@"; do
    case $each in ARGS=*) arguments=${each#ARGS=} ;; esac
done
case $target in
deploy) {python} -c {deploy} $arguments || exit 2 ;;
*) {python} -m terraform.$target $arguments || exit 2 ;;
esac
"""

AWS = """#!/bin/sh
exec {python} -m tests.infra.aws_cli "$@"
"""


def pairs(page: str) -> list[tuple[str, str]]:
    """Return the commands of a page and what they print, in order."""
    return PAIR.findall(page)


def text() -> str:
    """Return the page."""
    return (REPOSITORY / PAGE).read_text(encoding="utf-8")


@pytest.fixture
def aws() -> Iterator[LambdaAws]:
    """Yield an account with a system that has seen three releases."""
    with lambda_aws() as running:
        running.make_system(NAME, {release: f"{release} {commit(release)}" for release in ("0.6.0", "0.7.0", "0.8.0")})
        yield running


def commit(release: str) -> str:
    """Return the commit of a release, as it is on the page."""
    minor = release.split(".")[1]
    return f"{minor}0c0ffee{minor}0c0"


@pytest.fixture
def environment(aws: LambdaAws, tmp_path: Path) -> dict[str, str]:
    """Return the environment of a shell whose `make` and `aws` work there, and wait for nothing."""
    example = tmp_path / "example"
    (example / "dist").mkdir(parents=True)
    (example / "VERSION").write_text("0.9.0\n", encoding="utf-8")
    (example / "dist" / "tl-fif-router-arm64.zip").write_bytes(package("0.9.0"))
    programs = tmp_path / "bin"
    programs.mkdir()
    words = {"python": shlex.quote(sys.executable), "deploy": shlex.quote(WITHOUT_WAITING)}
    for name, source in {"make": MAKE, "aws": AWS}.items():
        script = source
        for word, value in words.items():
            script = script.replace(f"{{{word}}}", value)
        (programs / name).write_text(script, encoding="utf-8")
        (programs / name).chmod(0o755)
    given = aws.process_environment()
    return given | {
        "PATH": f"{programs}:{given['PATH']}",
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONWARNINGS": "",
        "EXAMPLE": str(example),
        "CODEBUILD_RESOLVED_SOURCE_VERSION": commit("0.9.0"),
    }


def test_every_command_prints_what_the_page_says(environment: dict[str, str]) -> None:
    """From the deployment to the version that is gone, in this order."""
    found = pairs(text())
    assert len(found) >= 8
    for commands, printed in found:
        done = subprocess.run(
            ["/bin/sh", "-c", commands],
            cwd=REPOSITORY,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.stdout == printed, commands
        assert done.returncode == 0, commands


def test_no_command_is_left_out() -> None:
    """Each block of commands is followed by what it prints."""
    assert text().count("```sh") == text().count("```text") == len(pairs(text()))


@pytest.mark.parametrize("target", ["deploy", "rollback"])
def test_make_does_that(target: str) -> None:
    """The Makefile hands the arguments on, as `MAKE` does here."""
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*\n\t@\S+ -m terraform\.{target} \$\(ARGS\)$", makefile, re.MULTILINE)
