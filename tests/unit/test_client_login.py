"""The `tlfif login` command, and the commands that use what it stored, over a scripted Cognito."""

from __future__ import annotations

import functools
import io
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import client.cognito
import client.session
from client.cli import main
from client.cognito import Cognito
from client.exits import ExitCode
from client.session import Client
from tests.client_cognito import (
    CLIENT_ID,
    COGNITO_URL,
    NEW_PASSWORD,
    PASSWORD,
    ScriptedCognito,
    challenge,
    refused,
    tokens,
)
from tests.client_service import URL, Clock, Service

SETTINGS = {
    "TLFIF_URL": URL,
    "TLFIF_USERNAME": "ann",
    "TLFIF_COGNITO_CLIENT_ID": CLIENT_ID,
    "TLFIF_COGNITO_URL": COGNITO_URL,
}
NOW = 1_790_000_000.0

LogIn = Callable[..., int]


@pytest.fixture(autouse=True)
def path(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Give every test a home of its own and no variables but ours; return where the tokens will lie."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("TLFIF_TOKEN", raising=False)
    for name, value in SETTINGS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(time, "time", lambda: NOW)
    return tmp_path / "tl-fif" / "tokens.json"


@pytest.fixture
def log_in(monkeypatch: pytest.MonkeyPatch) -> LogIn:
    """Return a function that runs `tlfif login` with these arguments at this Cognito, with this stdin."""

    def run(script: ScriptedCognito, *arguments: str, stdin: str = f"{PASSWORD}\n") -> int:
        monkeypatch.setattr(client.cognito, "Cognito", functools.partial(Cognito, transport=script))
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        return main(["login", *arguments])

    return run


@pytest.fixture
def stop(monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """Return a function that runs `tlfif stop` against this service and this Cognito."""

    def run(service: Service, script: ScriptedCognito, *arguments: str) -> int:
        clock = Clock()
        monkeypatch.setattr(client.cognito, "Cognito", functools.partial(Cognito, transport=script))
        wired = functools.partial(Client, transport=service, clock=clock, sleep=clock.sleep)
        monkeypatch.setattr(client.session, "Client", wired)
        return main(["stop", *arguments])

    return run


def stopping() -> Service:
    """Return a service that stops its GPU."""
    return Service(posts=(httpx.Response(202, json={"status": "stopping"}),))


def stored(path: Path) -> dict[str, Any]:
    """Read the file as any program would."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def test_a_login_stores_the_tokens(log_in: LogIn, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All that a refresh needs is there under the service's URL; stdout stays empty, stderr tells where."""
    assert log_in(ScriptedCognito(tokens())) == ExitCode.DONE

    assert stored(path) == {
        URL: {
            "access_token": "access-1",
            "refresh_token": "refresh-1",
            "expires_at": NOW + 3600,
            "cognito_url": COGNITO_URL,
            "client_id": CLIENT_ID,
            "username": "ann",
        }
    }
    assert capsys.readouterr() == ("", f"tlfif: ann is logged in at {URL}; the tokens are in {path}\n")


def test_options_win_over_variables(log_in: LogIn, path: Path) -> None:
    """Each option has its variable, and the normalised URL is the key."""
    script = ScriptedCognito(tokens())
    options = {"--url": "https://OTHER.test/", "--username": "bob", "--client-id": "client2"}
    options["--cognito-url"] = "http://127.0.0.1:9"

    assert log_in(script, *[word for option in options.items() for word in option]) == ExitCode.DONE

    entry = stored(path)["https://other.test"]
    assert (entry["username"], entry["client_id"], entry["cognito_url"]) == ("bob", "client2", "http://127.0.0.1:9")
    assert script.calls[0][1]["AuthParameters"]["USERNAME"] == "bob"
    assert script.requests[0].url == "http://127.0.0.1:9/"


def test_printing_stores_nothing(
    log_in: LogIn, path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`--print` gives the access token alone, for TLFIF_TOKEN, and needs no service."""
    monkeypatch.delenv("TLFIF_URL")

    assert log_in(ScriptedCognito(tokens()), "--print") == ExitCode.DONE
    assert capsys.readouterr() == ("access-1\n", "")
    assert not path.parent.exists()


def test_a_demanded_new_password_is_the_second_line(log_in: LogIn, path: Path) -> None:
    """Users whom an administrator made choose their password at the first login."""
    script = ScriptedCognito(challenge(USERNAME="ann-in-the-pool"), tokens("access-2"))

    assert log_in(script, stdin=f"{PASSWORD}\n{NEW_PASSWORD}\n") == ExitCode.DONE

    assert [operation for operation, _ in script.calls] == ["InitiateAuth", "RespondToAuthChallenge"]
    responses = script.calls[1][1]["ChallengeResponses"]
    assert responses == {"USERNAME": "ann-in-the-pool", "NEW_PASSWORD": NEW_PASSWORD}
    assert stored(path)[URL]["access_token"] == "access-2"


@pytest.mark.parametrize(
    ("script", "code", "words"),
    [
        ([refused("NotAuthorizedException", f"Incorrect: {PASSWORD}")], 6, "check the user name and the password"),
        ([challenge("SMS_MFA")], 6, "SMS_MFA"),
        ([challenge()], 2, "no line with a new password"),
        ([httpx.ConnectError("refused")], 6, "check --cognito-url"),
        ([KeyboardInterrupt()], 130, "tlfif: interrupted\n"),
    ],
    ids=["refused", "challenge", "no new password", "network", "interrupt"],
)
def test_a_login_that_fails_stores_nothing(
    log_in: LogIn, path: Path, capsys: pytest.CaptureFixture[str], *, script: list[Any], code: int, words: str
) -> None:
    """One line on stderr without the password, an exit code, and no file."""
    assert log_in(ScriptedCognito(*script)) == code

    out, err = capsys.readouterr()
    assert not out
    assert words in err
    assert err.count("\n") == 1
    assert PASSWORD not in err
    assert not path.exists()


def test_everything_missing_is_named_at_once(
    log_in: LogIn, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Four settings, one message, and nothing is read or sent."""
    for name in SETTINGS:
        monkeypatch.delenv(name)
    script = ScriptedCognito()

    assert log_in(script) == ExitCode.USAGE

    err = capsys.readouterr().err
    assert all(name in err for name in SETTINGS)
    assert not script.requests


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--cognito-url", "http://cognito.test", "Cognito's URL must be https, or secrets travel in the clear"),
        ("--cognito-url", "cognito.test", "Cognito's URL must be https"),
        ("--url", "http://gateway.test", "the service's URL must be https"),
        ("--client-id", "two words", "app client's id"),
        ("--username", "", "user name is missing"),
    ],
)
def test_bad_settings_are_refused_before_a_password_is_read(
    log_in: LogIn, capsys: pytest.CaptureFixture[str], option: str, value: str, words: str
) -> None:
    """A password never goes to where it could be read on the way."""
    script = ScriptedCognito()

    assert log_in(script, option, value, stdin="") == ExitCode.USAGE
    assert words in capsys.readouterr().err
    assert not script.requests


def test_a_file_that_cannot_be_used_is_named_before_a_password_is_read(
    log_in: LogIn, path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nobody types a password for nothing; printing does not care about the file."""
    path.parent.mkdir()
    path.write_text("{")
    path.chmod(0o600)

    assert log_in(ScriptedCognito(), stdin="") == ExitCode.USAGE
    assert "tokens.json does not hold" in capsys.readouterr().err

    assert log_in(ScriptedCognito(tokens()), "--print") == ExitCode.DONE


def test_the_stored_token_is_used(log_in: LogIn, stop: Callable[..., int]) -> None:
    """After a login no token has to be given, and Cognito is left alone."""
    log_in(ScriptedCognito(tokens()))
    service = stopping()

    assert stop(service, ScriptedCognito()) == ExitCode.DONE
    assert service.requests[0].headers["authorization"] == "Bearer access-1"


def test_a_stored_token_goes_to_its_service_alone(
    log_in: LogIn, stop: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """At another URL nobody is logged in, and the error names both ways to be."""
    log_in(ScriptedCognito(tokens()))
    service = stopping()

    assert stop(service, ScriptedCognito(), "--url", "https://other.test") == ExitCode.USAGE
    assert "log in with `tlfif login`, or set TLFIF_TOKEN" in capsys.readouterr().err
    assert not service.requests


def test_a_given_token_wins(log_in: LogIn, stop: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The option before the variable, the variable before the file."""
    log_in(ScriptedCognito(tokens(lifetime=0)))
    monkeypatch.setenv("TLFIF_TOKEN", "from-variable")
    by_variable, by_option = stopping(), stopping()

    stop(by_variable, ScriptedCognito())
    stop(by_option, ScriptedCognito(), "--token", "from-option")

    assert by_variable.requests[0].headers["authorization"] == "Bearer from-variable"
    assert by_option.requests[0].headers["authorization"] == "Bearer from-option"


def test_a_token_about_to_expire_is_refreshed_first(log_in: LogIn, stop: Callable[..., int], path: Path) -> None:
    """The request carries the new token, which is stored beside the old refresh token."""
    log_in(ScriptedCognito(tokens(lifetime=59)))
    script = ScriptedCognito(tokens("access-2", None))
    service = stopping()

    assert stop(service, script) == ExitCode.DONE

    assert script.calls[0][1]["AuthParameters"] == {"REFRESH_TOKEN": "refresh-1"}
    assert service.requests[0].headers["authorization"] == "Bearer access-2"
    entry = stored(path)[URL]
    assert (entry["access_token"], entry["refresh_token"], entry["expires_at"]) == (
        "access-2",
        "refresh-1",
        NOW + 3600,
    )


def test_a_refused_refresh_asks_to_log_in_again(
    log_in: LogIn, stop: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    """The service is not bothered with a token that is known to be dead."""
    log_in(ScriptedCognito(tokens(lifetime=0)))
    capsys.readouterr()
    service = stopping()

    code = stop(service, ScriptedCognito(refused("NotAuthorizedException", "Refresh Token has expired")))

    assert code == ExitCode.SERVICE
    err = capsys.readouterr().err
    assert "Refresh Token has expired" in err
    assert err.endswith("log in again: tlfif login\n")
    assert not service.requests
