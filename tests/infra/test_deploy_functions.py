"""Deploying and rolling back as processes, against an emulated AWS whose functions run."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.infra.lambda_aws import HANDLERS, NAME, REPOSITORY, LambdaAws, lambda_aws, package

AT_ONCE = ("--canary-seconds", "0", "--watch-seconds", "0")
BEFORE = dict.fromkeys(HANDLERS, "3")
AFTER = dict.fromkeys(HANDLERS, "4")


@pytest.fixture(scope="module")
def aws() -> Iterator[LambdaAws]:
    """Yield an emulated AWS without functions."""
    with lambda_aws() as running:
        yield running


@pytest.fixture
def system(aws: LambdaAws) -> Iterator[LambdaAws]:
    """Yield it with a system in it: version 1 is Terraform's, 2 and 3 of 0.7.0 and 0.8.0."""
    aws.make_system(NAME, {"0.7.0": "0.7.0 c7", "0.8.0": "0.8.0 c8"})
    yield aws
    aws.remove_system(NAME)


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Return the zip of the next release."""
    path = tmp_path / "new.zip"
    path.write_bytes(package("new"))
    return path


def start(aws: LambdaAws, module: str, *arguments: str) -> subprocess.Popen[str]:
    """Start a command."""
    return subprocess.Popen(
        [sys.executable, "-m", f"terraform.{module}", *arguments],
        cwd=REPOSITORY,
        env=aws.process_environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run(aws: LambdaAws, module: str, *arguments: str) -> tuple[int, str]:
    """Run a command and return its exit status and all that it printed."""
    process = start(aws, module, *arguments)
    said, _ = process.communicate(timeout=60)
    return process.returncode, said


def record(aws: LambdaAws) -> Any:
    """Return the newest record."""
    return json.loads(aws.client("ssm").get_parameter(Name=f"/{NAME}/deployment")["Parameter"]["Value"])


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until something is so."""
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_there_and_back(system: LambdaAws, new: Path, tmp_path: Path) -> None:
    """A release is deployed, deployed again, rolled back, and an older one taken."""
    page = tmp_path / "deploy.md"
    options = ("--package", str(new), "--commit", "c9", "--summary", str(page), *AT_ONCE)
    status, said = run(system, "deploy", *options)
    assert status == 0, said
    assert system.leads(NAME) == AFTER
    assert (record(system)["state"], record(system)["functions"][f"{NAME}-waker"]) == (
        "deployed",
        {"now": "4", "before": "3"},
    )
    assert "- tl-fif-waker: 3 → 4" in page.read_text(encoding="utf-8")
    assert "#xray:traces/1-67891233-abcdef012345678912345678" in page.read_text(encoding="utf-8")

    status, said = run(system, "deploy", *options)
    assert status == 0, said
    assert "nothing new to deploy" in said
    assert system.leads(NAME) == AFTER

    status, said = run(system, "rollback")
    assert (status, system.leads(NAME)) == (0, BEFORE), said
    assert said.splitlines()[-1] == "9 of 9 functions of tl-fif went back"
    assert record(system)["state"] == "rolled back"
    status, said = run(system, "rollback")
    assert (status, system.leads(NAME)) == (0, BEFORE), said
    assert said.splitlines()[-1] == "nothing went back"

    status, said = run(system, "rollback", "--to", "0.7.0", "--summary", str(page))
    assert (status, system.leads(NAME)) == (0, dict.fromkeys(HANDLERS, "2")), said
    assert "- tl-fif-router: 3 → 2" in page.read_text(encoding="utf-8")
    status, said = run(system, "rollback", "--function", "tl-fif-router", "--function-version", "1")
    assert (status, system.leads(NAME)["router"]) == (0, "1"), said


def test_what_is_not_proven_is_not_deployed(system: LambdaAws, new: Path, tmp_path: Path) -> None:
    """The new version raises when it is asked /ping; nobody is led to it, and the summary says why."""
    new.write_bytes(package("broken", handler="raise ImportError('no module named redis')"))
    page = tmp_path / "deploy.md"
    status, said = run(system, "deploy", "--package", str(new), "--summary", str(page), *AT_ONCE)
    assert (status, system.leads(NAME)) == (1, BEFORE), said
    assert "tl-fif-router:4 fails" in said
    assert "no module named redis" in page.read_text(encoding="utf-8")
    with pytest.raises(ClientError, match="ParameterNotFound"):
        record(system)


def test_an_alarm_takes_it_back(system: LambdaAws, new: Path) -> None:
    """It goes off while everybody is led to the new version already."""
    cloudwatch = system.client("cloudwatch")
    alarm = {"MetricName": "PingFailures", "Namespace": "TLFIF/Canary", "Period": 60, "Statistic": "Sum"}
    limits = {"EvaluationPeriods": 1, "Threshold": 1.0, "ComparisonOperator": "GreaterThanOrEqualToThreshold"}
    cloudwatch.put_metric_alarm(AlarmName=f"{NAME}-ping", **alarm, **limits)
    process = start(system, "deploy", "--package", str(new), "--skip-canary", "--watch-seconds", "20")
    try:
        wait_for(lambda: system.leads(NAME) == AFTER)
        cloudwatch.set_alarm_state(AlarmName=f"{NAME}-ping", StateValue="ALARM", StateReason="a test")
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
        cloudwatch.delete_alarms(AlarmNames=[f"{NAME}-ping"])
    assert (process.returncode, system.leads(NAME)) == (1, BEFORE), said
    assert "the alarm tl-fif-ping went off" in said
    assert record(system)["state"] == "rolled back"


def in_canary(aws: LambdaAws) -> bool:
    """Tell whether all functions have a tenth of their calls led to the new version."""
    found = [aws.client("lambda").get_alias(FunctionName=f"{NAME}-{kind}", Name="prod") for kind in HANDLERS]
    return all(each.get("RoutingConfig") == {"AdditionalVersionWeights": {"4": 0.1}} for each in found)


def test_told_to_stop(system: LambdaAws, new: Path) -> None:
    """SIGTERM in the canary: it puts back at once, and does not wait for its end."""
    process = start(system, "deploy", "--package", str(new), "--canary-seconds", "600")
    wait_for(lambda: in_canary(system))
    process.send_signal(signal.SIGTERM)
    said, _ = process.communicate(timeout=30)
    assert (process.returncode, system.leads(NAME)) == (1, BEFORE), said
    assert "told to stop by a signal" in said
    assert record(system)["state"] == "rolled back"


def test_killed(system: LambdaAws, new: Path) -> None:
    """In the canary: the next deployment refuses, and a rollback ends it."""
    process = start(system, "deploy", "--package", str(new), "--canary-seconds", "600")
    wait_for(lambda: in_canary(system))
    process.kill()
    process.communicate(timeout=30)
    assert in_canary(system)
    status, said = run(system, "deploy", "--package", str(new), *AT_ONCE)
    assert status == 3, said
    assert "another deployment" in said
    assert in_canary(system)
    status, said = run(system, "rollback")
    assert (status, system.leads(NAME)) == (0, BEFORE), said
    assert "tl-fif-router: 3, 10% of the calls to 4 → 3" in said
    status, said = run(system, "deploy", "--package", str(new), *AT_ONCE)
    assert (status, system.leads(NAME)) == (0, AFTER), said


def test_rolled_back_meanwhile(system: LambdaAws, new: Path) -> None:
    """The deployment notices when it wants to go on, and ends."""
    process = start(system, "deploy", "--package", str(new), "--canary-seconds", "10", "--watch-seconds", "0")
    wait_for(lambda: in_canary(system))
    status, said = run(system, "rollback")
    assert (status, system.leads(NAME)) == (0, BEFORE), said
    said, _ = process.communicate(timeout=60)
    assert (process.returncode, system.leads(NAME)) == (3, BEFORE), said
    assert "somebody else has moved the alias" in said


def test_old_versions_go(system: LambdaAws, tmp_path: Path) -> None:
    """Five stay after each deployment; a version that is gone cannot be gone back to, which is told."""
    path = tmp_path / "new.zip"
    for number in range(4, 9):
        path.write_bytes(package(f"release {number}"))
        status, said = run(system, "deploy", "--package", str(path), "--skip-canary", "--watch-seconds", "0")
        assert status == 0, said
    listed = system.client("lambda").list_versions_by_function(FunctionName=f"{NAME}-router")["Versions"]
    assert [each["Version"] for each in listed] == ["$LATEST", "4", "5", "6", "7", "8"]
    status, said = run(system, "rollback", "--function", "tl-fif-router", "--function-version", "2")
    assert status == 1
    assert "the version 2 of tl-fif-router is gone" in said
    assert "make lambda-package and make deploy" in said
    assert system.leads(NAME)["router"] == "8"


def test_nothing_on_record(system: LambdaAws) -> None:
    """It says what else there is."""
    status, said = run(system, "rollback")
    assert status == 1
    assert said.startswith("rollback: no deployment is on record; name a release with --to")
