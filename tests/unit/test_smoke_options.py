"""What the smoke test is told, and what it needs to be there."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.client_cognito import PASSWORD
from tests.client_service import TOKEN, URL
from tests.e2e.options import Options
from tests.e2e.scripted import WITH_PASSWORD, WITH_TOKEN
from tests.e2e.small_environment import small_python
from tests.e2e.smoke import main
from tests.e2e.verdict import Limits


def test_defaults() -> None:
    """The limits are those of the requirement, and nothing is written unless it is asked for."""
    options = Options.read([], WITH_TOKEN)
    assert (options.url, options.token, options.sign_in) == (URL, TOKEN, None)
    assert options.limits == Limits(90, 120)
    assert options.artifacts is options.summary is None


def test_a_token_wins_over_a_password() -> None:
    """As with `tlfif`; an option wins over its variable."""
    options = Options.read(["--url", "https://other.test"], WITH_PASSWORD | WITH_TOKEN)
    assert (options.url, options.token, options.sign_in) == ("https://other.test", TOKEN, None)


def test_an_empty_token_is_none() -> None:
    """As a build environment may have it."""
    options = Options.read([], WITH_PASSWORD | {"TLFIF_TOKEN": ""})
    assert options.sign_in
    assert (options.sign_in.username, options.sign_in.password) == ("smoke", PASSWORD)
    assert PASSWORD not in repr(options)
    assert TOKEN not in repr(Options.read([], WITH_TOKEN))


def test_all_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    """At once, and with what to do."""
    assert main([], {}) == 2
    said = capsys.readouterr().err
    for name in ("TLFIF_URL", "TLFIF_COGNITO_URL", "TLFIF_COGNITO_CLIENT_ID", "TLFIF_USERNAME", "TLFIF_PASSWORD"):
        assert f"set {name}" in said
    assert len(said.splitlines()) == 5


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--url", "http://gateway.test"], "must be https"),
        (["--unstable-seconds", "0"], "--unstable-seconds must be above 0"),
        (["--unstable-seconds", "130"], "at most --deadline-seconds"),
        (["--deadline-seconds", "inf"], "at most --deadline-seconds"),
        (["--deadline-seconds", "nan"], "at most --deadline-seconds"),
        (["--prompt", " "], "--prompt is empty"),
        (["--artifacts", "/dev/null/folder"], "cannot write to /dev/null/folder"),
        (["--summary", "/dev/null/file"], "cannot write to /dev/null/file"),
    ],
)
def test_what_cannot_be_used(capsys: pytest.CaptureFixture[str], options: list[str], said: str) -> None:
    """It is refused before anything is asked, and said once."""
    assert main(options, WITH_TOKEN) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_a_token_that_no_header_can_carry(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The client finds that, and it is a matter of settings as well; the files say so."""
    assert main(["--artifacts", str(tmp_path)], WITH_TOKEN | {"TLFIF_TOKEN": "two words"}) == 2
    assert "wrong settings: the token has spaces" in capsys.readouterr().out
    assert '"wrong settings"' in (tmp_path / "result.json").read_text()


def test_httpx_is_all_it_needs(tmp_path: Path) -> None:
    """It runs where nothing else is installed, and reads no other test and no other part of the system."""
    command = small_python(tmp_path, "tests.e2e.smoke")
    command[-1] = f"import atexit, sys\natexit.register(lambda: print(*sorted(sys.modules)))\n{command[-1]}"
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={})
    assert (done.returncode, "TLFIF_URL" in done.stderr) == (2, True), done.stderr
    modules = done.stdout.split()
    ours = {"local", "worker", "router_lambda", "terraform", "tests"}
    read = {name for name in modules if "." in name and name.partition(".")[0] in ours}
    assert "client.cognito" in modules
    assert {name for name in read if not name.startswith("tests.e2e")} == {"router_lambda.job", "router_lambda.schema"}


def test_what_is_not_there_is_missed(tmp_path: Path) -> None:
    """The environment of the test above is as small as it says."""
    done = subprocess.run(
        small_python(tmp_path, "local"), capture_output=True, text=True, check=False, env={"PYTHONPATH": sys.path[-1]}
    )
    assert done.returncode == 1
    assert "ModuleNotFoundError" in done.stderr
