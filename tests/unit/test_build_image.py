"""`python -m terraform.build_image`: its options, what it reads, and how it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import boto3
import pytest

from terraform import build_image
from terraform.baking import EXIT_FAILED, EXIT_SETTINGS, EXIT_STOPPED, EXIT_TOO_DEAR
from terraform.image_root import Signals, TerraformFailed
from tests.baking_world import BEGIN, NAMES, OTHER, REGION, SOURCE, USUAL, FakeAws

AT_ONCE = ((0.0, "AVAILABLE"),)


class Clock(datetime):
    """The moment, a minute after the fake account's builds begin."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Clock:
        """See `datetime.now`."""
        return cls.fromtimestamp((BEGIN + timedelta(minutes=1)).timestamp(), tz)


class Tool:
    """The command in a fake account, with a fake Terraform.

    Attributes:
        applied: the variables of each run of Terraform, and what it found in its environment besides.
        services: each client that was asked for, with its region.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.aws = FakeAws()
        self.aws.states = AT_ONCE
        self.aws.publish("ami-0123", OTHER)
        self.archive = folder / "tl-fif-node.tar.gz"
        self.archive.write_bytes(b"an archive")
        (folder / "tl-fif-node.sources").write_text(f"{SOURCE}\n")
        self.applied: list[tuple[dict[str, str], dict[str, str]]] = []
        self.services: list[tuple[str, str]] = []
        self.trouble: Exception | None = None
        for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "TLFIF_STATE_BUCKET"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("AWS_REGION", REGION)
        monkeypatch.setattr(boto3, "client", self._client)
        monkeypatch.setattr(build_image, "apply", self._apply)
        monkeypatch.setattr(build_image, "datetime", Clock)

    def run(self, *arguments: str) -> int:
        """Run it."""
        return build_image.main(["--archive", str(self.archive), *arguments])

    def _client(self, service: str, region_name: str) -> Any:
        self.services.append((service, region_name))
        return self.aws.client(service)

    def _apply(self, variables: Mapping[str, str], environment: Mapping[str, str], _run: object) -> None:
        if self.trouble:
            raise self.trouble
        self.applied.append((dict(variables), dict(environment)))


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Tool]:
    """Yield the command; whoever listens for signals afterwards is who did before."""
    # The clients are made before boto3 can make no other.
    for service in ("imagebuilder", "ssm", "ec2", "sts", "ce"):
        FakeAws().client(service)
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGINT)}
    yield Tool(tmp_path, monkeypatch)
    assert {each: signal.getsignal(each) for each in before} == before


def test_it_bakes(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """Terraform gets name, region and archive, and what else somebody gives."""
    assert tool.run("--name", "tl-fif", "--var", "keep_images=2") == 0
    ((variables, environment),) = tool.applied
    assert variables == {"name": "tl-fif", "region": REGION, "archive": str(tool.archive), "keep_images": "2"}
    assert environment == {}
    assert tool.aws.builds[0].tags == {NAMES.source_tag: SOURCE}
    assert set(tool.services) == {(each, REGION) for each in ("sts", "imagebuilder", "ssm", "ec2")}
    assert "is baked and published" in capsys.readouterr().out


def test_what_is_baked_already_needs_no_terraform(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor anything else that costs."""
    tool.aws.publish("ami-0123", SOURCE)
    tool.trouble = TerraformFailed("is not to run")
    assert tool.run() == 0
    assert "nothing to bake" in capsys.readouterr().out
    assert tool.run("--force") == EXIT_FAILED


def test_the_state_may_be_in_a_bucket(tool: Tool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the environment says."""
    monkeypatch.setenv("TLFIF_STATE_BUCKET", "a-bucket")
    assert tool.run() == 0
    ((_, environment),) = tool.applied
    assert environment.keys() == {"TF_DATA_DIR"}


def test_a_build_can_be_followed(tool: Tool) -> None:
    """Without the archive, without Terraform."""
    tool.archive.unlink()
    build = tool.aws.begin(SOURCE)
    assert tool.run("--follow", build.arn) == 0
    assert tool.applied == []


def test_cost_explorer_is_asked_in_its_region(tool: Tool) -> None:
    """It has one alone."""
    build = tool.aws.begin(SOURCE, USUAL)
    tool.aws.billed = {build.arn: 0.5}
    assert tool.run("--cost-explorer", "2026-11-26") == 0
    assert ("ce", "us-east-1") in tool.services
    assert tool.run("--cost-explorer", "2026-11-26", "--max-eur", "0.03") == EXIT_TOO_DEAR
    assert tool.run("--cost-explorer", "2026-11-26", "--max-eur", "0.03", "--usd-per-eur", "17") == 0


def test_a_limit_that_is_not_kept_has_its_own_status(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a script can tell it from a build that failed."""
    tool.aws.states = ((0.0, "BUILDING"), (0.0, "AVAILABLE"))
    tool.aws.kind = "p5.48xlarge"
    assert tool.run() == EXIT_TOO_DEAR
    assert "nobody knows what it cost" in capsys.readouterr().err


def test_somebody_who_asks_to_stop(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """By a real signal, while it waits for the build: it says how to go on, and leaves at once."""
    tool.aws.states = USUAL
    answer = tool.aws._GetImage

    def look(params: dict[str, Any]) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return answer(params)

    tool.aws._GetImage = look  # type: ignore[method-assign]
    assert tool.run() == EXIT_STOPPED
    assert f"--follow {tool.aws.builds[0].arn}" in capsys.readouterr().err


def test_a_wait_is_over_at_a_signal() -> None:
    """And not half a minute later."""
    stop = Signals()
    with stop.listening():
        signal.raise_signal(signal.SIGINT)
        build_image._until_asked(stop, 3600)
    assert stop.asked


def test_terraform_that_fails(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is started."""
    tool.trouble = TerraformFailed("what to do")
    assert tool.run() == EXIT_FAILED
    assert capsys.readouterr().err == "bake: what to do\n"
    assert tool.aws.builds == []


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        pytest.param("no region", "set AWS_REGION", id="no region"),
        pytest.param("no archive", "run make image-package", id="no archive"),
        pytest.param("no digest", "tl-fif-node.sources beside it is not there; run make image-package", id="no digest"),
        pytest.param("bad digest", "holds no digest", id="bad digest"),
    ],
)
def test_what_is_missing_is_named_at_once(
    tool: Tool, broken: str, said: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before AWS is asked."""
    sources = tool.archive.with_name("tl-fif-node.sources")
    if broken == "no region":
        monkeypatch.delenv("AWS_REGION")
    elif broken == "no archive":
        tool.archive.unlink()
    elif broken == "no digest":
        sources.unlink()
    else:
        sources.write_text("latest\n")
    assert tool.run() == EXIT_SETTINGS
    assert said in capsys.readouterr().err
    assert tool.services == []


def test_aws_that_refuses(tool: Tool, capsys: pytest.CaptureFixture[str]) -> None:
    """It says whose business that is."""
    from tests.baking_world import Refused  # noqa: PLC0415 - nobody else wants it

    tool.aws.trouble = {"GetCallerIdentity": [Refused("ExpiredToken", "signed in too long ago")]}
    assert tool.run() == EXIT_FAILED
    assert "signed in too long ago" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options",
    [
        ["--max-eur", "0"],
        ["--max-eur", "cheap"],
        ["--var", "instance_type"],
        ["--var", "Bad-Name=1"],
        ["--cost-explorer", "yesterday"],
        ["--force", "--follow", "arn"],
    ],
)
def test_options_that_mean_nothing(tool: Tool, options: list[str]) -> None:
    """Are refused."""
    with pytest.raises(SystemExit) as left:
        tool.run(*options)
    assert left.value.code == EXIT_SETTINGS
