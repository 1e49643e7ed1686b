"""Old versions of the functions go, and what is in use stays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from typing import Any

import pytest

from local.aws_server import AwsServer
from terraform import prune

NAMES = ("pruned-router", "pruned-waker", "prunedalike-router")


@pytest.mark.parametrize(
    ("versions", "in_use", "keep", "gone"),
    [
        pytest.param(["$LATEST"], set(), 5, [], id="never deployed"),
        pytest.param(["$LATEST", "1", "2"], {"2"}, 5, [], id="fewer than are kept"),
        pytest.param(["$LATEST", "1", "2", "3", "4", "5", "6"], {"6"}, 5, ["1"], id="one too many"),
        pytest.param(["3", "1", "11", "2", "10"], {"11"}, 2, ["1", "2", "3"], id="by number and not by text"),
        pytest.param(["1", "2", "3", "4"], {"1"}, 2, ["2"], id="put back to an old one"),
        pytest.param(["1", "2", "3", "4"], {"1", "2"}, 1, ["3"], id="two in use"),
    ],
)
def test_the_newest_stay_and_what_is_in_use(versions: list[str], in_use: set[str], keep: int, gone: list[str]) -> None:
    """The oldest go first, and none that an alias points to."""
    assert prune.superfluous(versions, in_use, keep) == gone


@pytest.fixture
def functions(aws_server: AwsServer) -> Iterator[Any]:
    """Yield a client of Lambda with three functions of seven versions each, the alias at the second of them."""
    client = aws_server.client("lambda")
    role = aws_server.client("iam").create_role(RoleName="pruned", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    for name in NAMES:
        common = {"FunctionName": name, "Publish": True}
        client.create_function(
            **common, Runtime="python3.12", Role=role, Handler="a.b", Code={"ZipFile": package(1)}, Timeout=3
        )
        for number in range(2, 8):
            client.update_function_code(**common, ZipFile=package(number))
        client.create_alias(FunctionName=name, Name="prod", FunctionVersion="2")
    yield client
    for name in NAMES:
        client.delete_function(FunctionName=name)
    aws_server.client("iam").delete_role(RoleName="pruned")


def package(number: int) -> bytes:
    """Return a zip that differs from the others."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("a.py", f"number = {number}")
    return content.getvalue()


def versions(client: Any, name: str) -> list[str]:
    """Return the numbered versions of a function."""
    found = client.list_versions_by_function(FunctionName=name)["Versions"]
    return [each["Version"] for each in found if each["Version"] != "$LATEST"]


def test_an_account(
    functions: Any, aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All functions of the system are pruned and no other's; a second run finds nothing."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server.endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": aws_server.region,
        "AWS_DEFAULT_REGION": aws_server.region,
    }.items():
        monkeypatch.setenv(name, value)
    assert prune.main(["--name", "pruned", "--keep", "3"]) == 0
    kept = ["2", "5", "6", "7"]
    assert [versions(functions, name) for name in NAMES] == [kept, kept, ["1", "2", "3", "4", "5", "6", "7"]]
    out = capsys.readouterr().out
    assert "deleted pruned-router:1" in out
    assert "6 old versions deleted" in out
    assert prune.main(["--name", "pruned", "--keep", "3"]) == 0
    assert "0 old versions deleted" in capsys.readouterr().out


def test_aws_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """It says what to set."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nowhere")
    assert prune.main([]) == 1
    assert "set AWS_REGION" in capsys.readouterr().err


def test_at_least_one_stays(capsys: pytest.CaptureFixture[str]) -> None:
    """A system without a version does not run."""
    with pytest.raises(SystemExit):
        prune.main(["--keep", "0"])
    assert "at least one version" in capsys.readouterr().err
