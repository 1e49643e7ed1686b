"""Old versions of the functions go, and what is in use stays."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from local.aws_server import AwsServer
from terraform import prune
from terraform.aliases import Change
from terraform.record import ROLLED_BACK, Record, Records

HANDLERS = {
    "pruned-router": "router_lambda.handler.handler",
    "pruned-waker": "router_lambda.waker.handler",
    "pruned-test-router": "router_lambda.handler.handler",
    "prunedalike-router": "router_lambda.handler.handler",
}
NAMES = tuple(HANDLERS)


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
    """Yield a client of Lambda with four functions of seven versions each, the alias at the second of them."""
    client = aws_server.client("lambda")
    role = aws_server.client("iam").create_role(RoleName="pruned", AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    for name, handler in HANDLERS.items():
        common = {"FunctionName": name, "Publish": True}
        client.create_function(
            **common, Runtime="python3.12", Role=role, Handler=handler, Code={"ZipFile": package(1)}, Timeout=3
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


@pytest.fixture
def account(functions: Any, aws_server: AwsServer, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the client, and lead whoever asks AWS there."""
    for name, value in {
        "AWS_ENDPOINT_URL": aws_server.endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_REGION": aws_server.region,
        "AWS_DEFAULT_REGION": aws_server.region,
    }.items():
        monkeypatch.setenv(name, value)
    return functions


def test_an_account(account: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """All functions of the system are pruned and no other's, of whatever name; a second run finds nothing."""
    assert prune.main(["--name", "pruned", "--keep", "3"]) == 0
    kept = ["2", "5", "6", "7"]
    all_of_them = ["1", "2", "3", "4", "5", "6", "7"]
    assert [versions(account, name) for name in NAMES] == [kept, kept, all_of_them, all_of_them]
    out = capsys.readouterr().out
    assert "deleted pruned-router:1" in out
    assert "6 old versions deleted" in out
    assert prune.main(["--name", "pruned", "--keep", "3"]) == 0
    assert "0 old versions deleted" in capsys.readouterr().out


def test_what_a_rollback_would_need_stays(
    account: Any, aws_server: AwsServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """However old it is; and a record that is none stops it before it deletes what might be needed."""
    ssm, parameter = aws_server.client("ssm"), "/pruned/deployment"
    change = {"pruned-router": Change("7", "1")}
    Records(ssm, "pruned").write(Record("0.9.0", "c9", datetime.now(UTC), ROLLED_BACK, change))
    assert prune.main(["--name", "pruned", "--keep", "3"]) == 0
    assert [versions(account, name) for name in NAMES[:2]] == [["1", "2", "5", "6", "7"], ["2", "5", "6", "7"]]
    ssm.put_parameter(Name=parameter, Value="hello", Type="String", Overwrite=True)
    assert prune.main(["--name", "pruned", "--keep", "1"]) == 1
    assert "is no record of a deployment" in capsys.readouterr().err
    assert versions(account, "pruned-waker") == ["2", "5", "6", "7"]
    ssm.delete_parameter(Name=parameter)


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
