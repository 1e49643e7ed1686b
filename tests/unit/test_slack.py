"""Telling Slack: what is sent, what is tried again, what fails no deployment, and what nobody gets to see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from terraform import slack

SECRET = "T000/B000/who-knows-this-can-write"
URL = f"https://hooks.slack.com/services/{SECRET}"
PAGE = """## tl-fif 0.9.0 is deployed

- tl-fif-router: 7 → 8
- tl-fif-waker: [trace](https://example.org/#a:b/1) & **more** <all>
"""


class Slack:
    """Answers with one status after the other, and with the last one from then on."""

    def __init__(self, *answers: int | Exception, headers: dict[str, str] | None = None) -> None:
        self._answers = list(answers)
        self._headers = headers or {}
        self.got: list[httpx.Request] = []
        self.waited: list[float] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        self.got.append(request)
        said = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(said, Exception):
            raise said
        return httpx.Response(said, headers=self._headers)


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """Return a file to post."""
    path = tmp_path / "deploy.md"
    path.write_text(PAGE, encoding="utf-8")
    return path


@pytest.fixture
def tell(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str]]:
    """Return what posts the page: gives the exit status and all that is printed."""

    def run(answers: Slack, url: str | None = URL) -> tuple[int, str]:
        if url is None:
            monkeypatch.delenv(slack.VARIABLE, raising=False)
        else:
            monkeypatch.setenv(slack.VARIABLE, url)
        status = slack.main([str(page)], httpx.MockTransport(answers), answers.waited.append)
        printed = capsys.readouterr()
        return status, printed.out + printed.err

    return run


def test_what_slack_gets(tell: Callable[..., tuple[int, str]]) -> None:
    """One POST to the webhook, in Slack's own writing."""
    answers = Slack(200)
    assert tell(answers) == (0, "Slack has it\n")
    (request,) = answers.got
    assert (request.method, str(request.url)) == ("POST", URL)
    assert json.loads(request.content)["text"] == (
        "*tl-fif 0.9.0 is deployed*\n\n• tl-fif-router: 7 → 8\n"
        "• tl-fif-waker: <https://example.org/#a:b/1|trace> &amp; *more* &lt;all&gt;"
    )


def test_a_long_page_is_cut() -> None:
    """It stays one message."""
    assert len(slack.to_slack("x" * 50_000)) == slack.MOST_CHARACTERS


@pytest.mark.parametrize("url", [None, "", "  ", "none"])
def test_nobody_is_told(tell: Callable[..., tuple[int, str]], url: str | None) -> None:
    """Without a webhook, which is no mistake."""
    answers = Slack(200)
    assert tell(answers, url) == (0, "TLFIF_SLACK_WEBHOOK is not set: nobody is told\n")
    assert answers.got == []


def test_plaintext_is_refused(tell: Callable[..., tuple[int, str]]) -> None:
    """The address is a secret, and would be read on its way."""
    answers = Slack(200)
    status, said = tell(answers, URL.replace("https", "http"))
    assert (status, answers.got) == (0, [])
    assert "no https address" in said
    assert SECRET not in said


@pytest.mark.parametrize("trouble", [500, 503, 429, httpx.ConnectError(f"no way to {URL}"), httpx.ReadTimeout(URL)])
def test_trouble_that_passes(tell: Callable[..., tuple[int, str]], trouble: int | Exception) -> None:
    """It is tried again."""
    answers = Slack(trouble, trouble, 200)
    assert tell(answers) == (0, "Slack has it\n")
    assert answers.waited == [2.0, 4.0]


@pytest.mark.parametrize("trouble", [500, httpx.ConnectError(f"no way to {URL}"), httpx.ReadTimeout(URL)])
def test_trouble_that_does_not(tell: Callable[..., tuple[int, str]], trouble: int | Exception) -> None:
    """It gives up, warns, fails nothing, and does not name the address."""
    answers = Slack(trouble)
    status, said = tell(answers)
    assert (status, len(answers.got)) == (0, slack.TRIES)
    assert said.startswith("warning: Slack ")
    assert SECRET not in said


@pytest.mark.parametrize("refused", [302, 400, 403, 404, 410])
def test_a_refusal_is_not_tried_again(tell: Callable[..., tuple[int, str]], refused: int) -> None:
    """The webhook is gone; and nobody is followed elsewhere with what it says."""
    answers = Slack(refused, headers={"location": "https://elsewhere.example.org"})
    status, said = tell(answers)
    assert (status, len(answers.got)) == (0, 1)
    assert f"Slack answers {refused}: make a new webhook" in said
    assert SECRET not in said


@pytest.mark.parametrize(("said", "waits"), [("3", 3.0), ("3600", 10.0), ("soon", 2.0)])
def test_slack_says_when(tell: Callable[..., tuple[int, str]], said: str, waits: float) -> None:
    """It is waited for, within reason."""
    answers = Slack(429, headers={"retry-after": said})
    tell(answers)
    assert answers.waited[0] == waits


def test_an_address_that_is_none(tell: Callable[..., tuple[int, str]]) -> None:
    """It is a warning like any other."""
    status, said = tell(Slack(200), f"https://host:port/{SECRET}")
    assert status == 0
    assert "cannot be reached" in said
    assert SECRET not in said


def test_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A slip of the pen."""
    assert slack.main([str(tmp_path / "nothing.md")]) == slack.EXIT_USAGE
    assert "give the file that --summary named" in capsys.readouterr().err
