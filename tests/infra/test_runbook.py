"""docs/runbook.md and docs/node.md name nothing that is not there, and every alarm leads to where it is dealt with."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.infra.observability_world import Resources
from tests.infra.page_check import alarms, anchors, problems
from tests.infra.terraform_world import REPOSITORY

RUNBOOK = REPOSITORY / "docs" / "runbook.md"
PAGES = (RUNBOOK, REPOSITORY / "docs" / "node.md")
ASKED_FOR = (
    "It does not boot",
    "It does not stop",
    "It costs too much",
    "It is slow",
    "No reply comes",
    "The bake fails",
    "The pipeline fails",
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_everything_that_is_named_is_there(page: Path) -> None:
    """Log lines, metrics, settings, alarms, exit codes, files, commands with their options, widgets and links."""
    assert problems(page) == []


PLANTED = {
    '`"the engine gave up"`': 'nobody logs "the engine gave up"',
    "`EC2Restarts`": "nothing is called EC2Restarts",
    "`TLFIF_IDLE_HOURS`": "nothing is called TLFIF_IDLE_HOURS",
    "`vllm:num_requests_swapped`": "nothing is called vllm:num_requests_swapped",
    "`tlfif_idle_seconds`": "nothing is called tlfif_idle_seconds",
    "`gpu_disk_gb`": "nothing is called gpu_disk_gb",
    "`tl-fif-gpu-lost`": "no alarm, unit or function tl-fif-gpu-lost",
    "exit code 77": "no exit code 77",
    "the widget *GPU temperature*": "no widget GPU temperature",
    "`/etc/tl-fif/worker.conf`": "no /etc/tl-fif/worker.conf",
    "`/aws/lambda/tl-fif-sweeper`": "no log group /aws/lambda/tl-fif-sweeper",
    "`proof failed: the model has gone`": "nobody says the model has gone",
    "`ami/ssh.sh`": "no file ami/ssh.sh",
    "`terraform output -raw dashboard`": "no output dashboard",
    "`terraform apply -var gpu_ipv4=true`": "no variable gpu_ipv4",
    "`aws ec2 halt-instances`": "the AWS CLI has no ec2 halt-instances",
    "`aws ec2 stop-instances --instance-id i-1`": "aws ec2 stop-instances has no --instance-id",
    "`aws logs tail /tl-fif/worker --last 1h`": "aws logs tail has no --last",
    "`aws ec2 describe-images --query 'Images[?'`": "no query: Images[?",
    "```sh\naws logs tail /aws/lambda/tl-fif-sweeper --since 1h\n```": "no log group /aws/lambda/tl-fif-sweeper",
    "```sh\nX=$(aws ec2 start-instances \\\n  --ids i-1 --output text)\n```": "aws ec2 start-instances has no --ids",
    "[there](no.md)": "no page no.md",
    "[there](failures.md#the-moon)": "no heading failures.md#the-moon",
}


@pytest.mark.parametrize("text", PLANTED)
def test_what_is_not_there_is_found(text: str) -> None:
    """One of each kind, and nothing besides."""
    (found,) = problems(RUNBOOK, f"# Page\n\nSee {text}.\n" if "\n" not in text else f"# Page\n\n{text}\n")
    assert PLANTED[text] in found


def test_the_parts_are_there() -> None:
    """Those that somebody will look for."""
    assert {part.lower().replace(" ", "-") for part in ASKED_FOR} <= anchors(RUNBOOK.read_text(encoding="utf-8"))


def test_every_alarm_leads_to_its_part(observability: dict[str, Resources]) -> None:
    """In the table at the top, to the part that its mail names."""
    text = RUNBOOK.read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`tl-fif-.+?) \| \[(.+?)\]\(#.+?\) \|$", text, re.MULTILINE)
    listed = {name: part for names, part in rows for name in re.findall(r"`tl-fif-([a-z-]+)`", names)}
    assert listed == alarms()
    mailed = {
        values["alarm_name"].removeprefix("tl-fif-"): re.findall(
            r'docs/runbook\.md, "(.+)"\.$', values["alarm_description"]
        )
        for address, values in observability["lambda"].items()
        if address.startswith("aws_cloudwatch_metric_alarm")
    }
    assert {name: [part] for name, part in listed.items() if not name.startswith("spend-") or name in mailed} == mailed


def blocks(page: Path) -> list[str]:
    """Return what a page tells people to type."""
    found = re.findall(r"^( *)```sh\n(.*?)^ *```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [re.sub(rf"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]


def shellcheck(script: str) -> str:
    """Return what shellcheck says of commands that are typed one after the other."""
    # What a block uses, an earlier one or the reader has set; and what it sets, a later one may use. JMESPath has
    # backticks, which are quoted.
    program = str(Path(sys.executable).with_name("shellcheck"))
    command = [program, "--shell=bash", "--exclude=SC2154,SC2034,SC2016", "-"]
    return subprocess.run(command, input=script, capture_output=True, text=True, check=False).stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.name))
def test_commands_can_be_typed(page: Path) -> None:
    """Each block by itself is a script without mistakes."""
    assert len(blocks(page)) > 3
    assert [said for block in blocks(page) if (said := shellcheck(block))] == []


def test_a_command_with_a_mistake_is_found() -> None:
    """So that the test above can fail."""
    assert "SC2046" in shellcheck("aws ec2 stop-instances --instance-ids $(cat ids)\n")


def test_the_first_pages_lead_here() -> None:
    """Nobody finds a runbook that nothing links to."""
    for page, prefix in ((REPOSITORY / "README.md", "docs/"), (REPOSITORY / "docs" / "deploy.md", "")):
        text = page.read_text(encoding="utf-8")
        assert f"]({prefix}runbook.md)" in text
        assert f"]({prefix}node.md" in text
