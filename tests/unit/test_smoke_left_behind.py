"""What a smoke test leaves behind when it is interrupted, breaks, or hears what nobody else may."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from pathlib import Path

import httpx
import pytest

from tests.client_cognito import PASSWORD, ScriptedCognito, tokens
from tests.client_service import JOB_ID, REPLY_URL, TOKEN, Service, Store, accepted, gpu, reply
from tests.e2e import walk
from tests.e2e.scripted import DONE, READY, Deployment, cancelled, cancelling, posted
from tests.e2e.verdict import EXIT_CODES, Verdict


@pytest.fixture
def deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Deployment:
    """Return a deployment to ask."""
    return Deployment(tmp_path, capsys)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_middle(deployment: Deployment, number: signal.Signals) -> None:
    """The job is cancelled, and the files are written."""
    service = Service(reply("App"), posts=(accepted(), cancelling()), statuses=(READY,))

    def reach(request: httpx.Request) -> None:
        if request.headers.get("if-none-match"):  # the first text has been seen
            os.kill(os.getpid(), number)

    ran = deployment.ask(service, reach=reach)

    assert ran.verdict == (128 + number, "interrupted")
    assert number.name in ran.result["reason"]
    assert cancelled(service) == [JOB_ID]
    assert "reply.json" in ran.files


def test_a_second_signal(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not wait for the job to be cancelled, but the files are written all the same."""
    service = Service(Store.EMPTY, posts=(accepted(), cancelling()), statuses=(READY,))
    signals = iter([signal.SIGTERM, signal.SIGINT])

    def reach(request: httpx.Request) -> None:
        if request.url.host == "store.test" or request.url.path.endswith("/stop"):
            os.kill(os.getpid(), next(signals))

    async def forever(_: float) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(deployment.clock, "sleep", forever)
    service._posts[1] = httpx.ReadTimeout("slow")
    ran = deployment.ask(service, reach=reach)

    assert ran.verdict == (143, "interrupted")
    assert "SIGTERM" in ran.result["reason"]
    assert "the job is" not in ran.printed


def test_a_signal_before_the_prompt(deployment: Deployment) -> None:
    """There is no job to cancel."""
    service = Service(statuses=(gpu("stopping"),))
    ran = deployment.ask(service, reach=lambda _: os.kill(os.getpid(), signal.SIGTERM))
    assert ran.verdict == (143, "interrupted")
    assert posted(service, "/infer") == posted(service, "/stop") == []


def test_a_fault_of_its_own(deployment: Deployment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It is a failure, too, and its trace is shown."""

    def broken(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(walk, "judge", broken)
    with pytest.raises(ZeroDivisionError):
        deployment.ask(Service(DONE, statuses=(READY,)))
    result = json.loads((tmp_path / "artifacts" / "result.json").read_text())
    assert (result["verdict"], "broke" in result["reason"]) == ("failed", True)


def test_nothing_is_left_of_an_earlier_run(deployment: Deployment) -> None:
    """An old reply must not pass for one of this run."""
    assert "reply.json" in deployment.ask(Service(DONE, statuses=(READY,))).files
    assert "reply.json" not in deployment.ask(Service(statuses=(401,))).files


def test_secrets_that_the_service_repeats(deployment: Deployment) -> None:
    """Whatever somebody else puts into a message or a reply, no secret and no link to a reply is handed on."""

    def leaky(*secrets: str) -> Service:
        error = {"code": "engine_error", "message": " ".join(secrets)}
        return Service(reply(status="failed", error=error), statuses=(READY,))

    ran = deployment.ask(leaky(TOKEN, REPLY_URL))  # looks for them
    assert ran.result["reason"] == "the job ended as failed: engine_error, … …"
    assert "… …" in ran.files["reply.json"]
    assert "… …" in ran.summary
    ran = deployment.ask(leaky(PASSWORD, "access-1", "refresh-1"), cognito=ScriptedCognito(tokens()))
    assert ran.result["reason"] == "the job ended as failed: engine_error, … … …"


def test_another_prompt_is_not_written_down(deployment: Deployment) -> None:
    """A prompt of somebody's own goes to the service alone."""
    service = Service(DONE, statuses=(READY,))
    ran = deployment.ask(service, "--prompt", "my own affair")
    assert json.loads(posted(service, "/infer")[0].content)["prompt"] == "my own affair"
    assert all("affair" not in text for text in (ran.printed, ran.summary, *ran.files.values()))


def test_every_verdict_has_an_exit_code() -> None:
    """But for that of a signal, which has its own."""
    assert set(EXIT_CODES) == set(Verdict) - {Verdict.INTERRUPTED}
