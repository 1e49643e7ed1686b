"""ami/session.sh, the way onto the node, against an AWS CLI that answers as the real one does."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.infra.agent_world import REPOSITORY
from tests.infra.terraform_world import resources

SCRIPT = REPOSITORY / "ami" / "session.sh"
INSTANCE = "i-0123456789abcdef0"
OTHER = "i-0fedcba9876543210"

AWS = """#!/usr/bin/env bash
python3 -c 'import json, sys; print(json.dumps(sys.argv[1:]))' "$@" >>"$CALLS"
case "$1 $2" in
"ec2 describe-instances") answer=instances ;;
"ssm describe-instance-information") answer=online ;;
*) exit 0 ;;
esac
cat "$ANSWERS/$answer"
if [[ -e $ANSWERS/$answer.failed ]]; then cat "$ANSWERS/$answer.failed" >&2; exit 254; fi
"""


class Cli:
    """A stand-in for `aws` and its plugin, first on the PATH, and what it was asked."""

    def __init__(self, folder: Path) -> None:
        self._answers = folder / "answers"
        self._calls = folder / "calls"
        self.programs = folder / "bin"
        for each in (self._answers, self.programs):
            each.mkdir()
        for name, text in (("aws", AWS), ("session-manager-plugin", "#!/bin/sh\n")):
            (self.programs / name).write_text(text, encoding="utf-8")
            (self.programs / name).chmod(0o755)
        self.answer("instances", f"{INSTANCE}\trunning\n")
        self.answer("online", "Online\n")

    def answer(self, what: str, text: str, failure: str = "") -> None:
        """Let it answer so from now on, or fail."""
        (self._answers / what).write_text(text, encoding="utf-8")
        if failure:
            (self._answers / f"{what}.failed").write_text(failure, encoding="utf-8")

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the script, and leave nothing in the folder for temporary files."""
        scratch = self._answers.parent / "tmp"
        scratch.mkdir()
        environment = {
            # Of the machine's own programs only what the script needs, so that it has no other AWS CLI to find.
            "PATH": f"{self.programs}:{self._own_programs()}",
            "ANSWERS": str(self._answers),
            "CALLS": str(self._calls),
            "TMPDIR": str(scratch),
        }
        done = subprocess.run(
            [SCRIPT, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
        )
        assert list(scratch.iterdir()) == []
        scratch.rmdir()
        return done

    def _own_programs(self) -> Path:
        folder = self.programs.with_name("own")
        folder.mkdir(exist_ok=True)
        for name in ("awk", "bash", "cat", "env", "grep", "mktemp", "python3", "rm", "wc"):
            found = shutil.which(name, path=f"/usr/bin:/bin:{os.environ['PATH']}")
            assert found is not None
            if not (folder / name).exists():
                (folder / name).symlink_to(found)
        return folder

    @property
    def calls(self) -> list[list[str]]:
        """The arguments of every call."""
        if not self._calls.exists():
            return []
        return [json.loads(line) for line in self._calls.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Return a CLI in whose account one instance runs."""
    return Cli(tmp_path)


def test_it_opens_a_shell(cli: Cli) -> None:
    """On the instance with the tag that router and reaper know it by."""
    assert cli.run().returncode == 0
    looked, asked, opened = cli.calls
    assert looked[:2] == ["ec2", "describe-instances"]
    assert "Name=tag:env,Values=tinyllama" in looked
    assert f"Key=InstanceIds,Values={INSTANCE}" in asked
    assert opened == ["ssm", "start-session", "--target", INSTANCE]


@pytest.mark.parametrize(
    ("arguments", "ports"), [(["8000"], ("8000", "8000")), (["443", "8443"], ("443", "8443"))], ids=["same", "another"]
)
def test_it_brings_a_port_here(cli: Cli, arguments: list[str], ports: tuple[str, str]) -> None:
    """By AWS's own document for it, to the same port here or to another one."""
    assert cli.run("forward", *arguments).returncode == 0
    opened = cli.calls[-1]
    assert opened[:6] == [
        "ssm",
        "start-session",
        "--target",
        INSTANCE,
        "--document-name",
        "AWS-StartPortForwardingSession",
    ]
    assert json.loads(opened[7]) == {"portNumber": [ports[0]], "localPortNumber": [ports[1]]}


def test_it_takes_another_tag_and_one_of_several(cli: Cli) -> None:
    """As the settings of Terraform allow."""
    cli.answer("instances", f"{INSTANCE}\trunning\n{OTHER}\trunning\n")
    assert cli.run("-t", "role=gpu", "-i", OTHER, "shell").returncode == 0
    assert "Name=tag:role,Values=gpu" in cli.calls[0]
    assert cli.calls[-1] == ["ssm", "start-session", "--target", OTHER]


def test_it_takes_the_one_that_runs(cli: Cli) -> None:
    """Of several that are there."""
    cli.answer("instances", f"{INSTANCE}\tstopped\n{OTHER}\trunning\n")
    assert cli.run().returncode == 0
    assert cli.calls[-1][-1] == OTHER


@pytest.mark.parametrize(
    ("instances", "said"),
    [
        ("", "no instance with the tag env=tinyllama in this region"),
        (f"{INSTANCE}\tstopped\n", f"{INSTANCE} is stopped. This wakes nothing. A prompt does: tlfif infer"),
        (f"{INSTANCE}\tstopping\n", f"{INSTANCE} is stopping."),
        (f"{INSTANCE}\trunning\n{OTHER}\trunning\n", f"several run: {INSTANCE}, {OTHER}; say which with -i"),
    ],
    ids=["none", "stopped", "stopping", "several"],
)
def test_it_says_why_there_is_no_session(cli: Cli, instances: str, said: str) -> None:
    """And starts nothing, neither a session nor an instance."""
    cli.answer("instances", instances)
    done = cli.run()
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert [call[1] for call in cli.calls] == ["describe-instances"]


@pytest.mark.parametrize(("online", "said"), [("", "never seen"), ("ConnectionLost\n", "ConnectionLost")])
def test_it_says_that_the_agent_is_not_there(cli: Cli, online: str, said: str) -> None:
    """Which a session would wait for in vain."""
    cli.answer("online", online)
    done = cli.run()
    assert done.returncode == 1
    assert f"{INSTANCE} runs, and Systems Manager does not hear from it ({said})" in done.stderr


@pytest.mark.parametrize(
    ("failure", "said"),
    [
        (
            "Unable to locate credentials. You can configure credentials by running …",
            "AWS knows no credentials of yours",
        ),
        ("An error occurred (ExpiredToken) when calling …", "AWS knows no credentials of yours"),
        ("You must specify a region. You can also configure …", "no region: export AWS_REGION"),
        ("An error occurred (UnauthorizedOperation) when calling …", "you may not do this; you need ec2:Describe"),
        ("Could not connect to the endpoint URL", "AWS does not answer: Could not connect"),
    ],
)
def test_it_says_what_aws_has_against_it(cli: Cli, failure: str, said: str) -> None:
    """In words that say what to do."""
    cli.answer("instances", "", failure)
    done = cli.run()
    assert done.returncode == 1
    assert said in done.stderr


@pytest.mark.parametrize(("program", "said"), [("aws", "the AWS CLI is missing"), ("session-manager-plugin", "wants")])
def test_it_says_which_program_is_missing(cli: Cli, program: str, said: str) -> None:
    """With the address of it."""
    (cli.programs / program).unlink()
    done = cli.run()
    assert done.returncode == 1
    assert said in done.stderr
    assert "https://docs.aws.amazon.com/" in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["forward"],
        ["forward", "0"],
        ["forward", "65536"],
        ["forward", '8000"]}'],
        ["-t", "env"],
        ["-i", "i-x; id"],
        ["-t"],
        ["-x"],
        ["ssh"],
        ["shell", "8000"],
    ],
)
def test_it_refuses_what_it_does_not_understand(cli: Cli, arguments: list[str]) -> None:
    """Before it asks anybody, with status 2 and the usage."""
    done = cli.run(*arguments)
    assert done.returncode == 2
    assert "usage: ami/session.sh" in done.stderr
    assert cli.calls == []


def test_it_helps(cli: Cli) -> None:
    """To standard output."""
    done = cli.run("-h")
    assert (done.returncode, done.stderr) == (0, "")
    assert "forward 443 8443" in done.stdout


LET_IN = {"lean": {6379}, "seed": {6379, 443}, "image": set[int]()}
"""Ports that a security group opens to anybody: the queue's, and TLS to the load balancer and from it to the node."""


@pytest.mark.parametrize("root", LET_IN)
def test_there_is_no_other_way_in(plans: dict[str, Any], root: str) -> None:
    """In no profile, nor to the machine that bakes the image, does anybody let in SSH."""
    found = resources(plans[root]).values()
    rules = [each["values"] for each in found if each["type"] == "aws_vpc_security_group_ingress_rule"]
    assert {port for rule in rules for port in (rule["from_port"], rule["to_port"])} == LET_IN[root]
    assert not any(each["values"].get("ingress") for each in found if each["type"] == "aws_security_group")
