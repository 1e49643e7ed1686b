"""The smoke test at a scripted deployment: what it asks, how it judges, what it leaves behind."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from client.pacing import STATUS_SECONDS
from router_lambda.job import CLOSING_SECONDS
from tests.client_service import JOB_ID, URL, Service, Store, accepted, gpu, reply
from tests.e2e.scripted import DONE, READY, Deployment, cancelled, cancelling, posted, problem


@pytest.fixture
def deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Deployment:
    """Return a deployment to ask."""
    return Deployment(tmp_path, capsys)


def test_a_warm_gpu(deployment: Deployment) -> None:
    """One look at the GPU, one prompt with the shortest idle time, and the reply; the files say so."""
    service = Service(Store.EMPTY, reply("Apple"), DONE, statuses=(READY,))
    ran = deployment.ask(service)

    assert ran.verdict == (0, "passed")
    assert [request.url.path for request in service.requests[:2]] == ["/prod/status", "/prod/infer"]
    body = json.loads(posted(service, "/infer")[0].content)
    assert (body["prompt"], body["idle_minutes"]) == ("Name three fruits.", 1)
    assert cancelled(service) == []
    assert json.loads(ran.files["reply.json"]) == DONE
    assert ran.result == {
        "verdict": "passed",
        "reason": "the reply took 0.1 s",
        "seconds": 0.07,
        "first_text_seconds": 0.02,
        "unstable_seconds": 90.0,
        "deadline_seconds": 120.0,
        "gpu": "ready",
        "job": JOB_ID,
        "status": "done",
        "model": "tiny",
        "answers": {"the service": {"200": 1, "202": 1}, "the store": {"404": 1, "200": 2}},
        "url": URL,
        "started_at": "2026-09-21T14:13:20+00:00",
    }
    assert ran.files["log.txt"] == ran.printed
    assert ran.printed.splitlines() == [
        f"[   0.0 s] asking {URL}",
        "[   0.0 s] the GPU is ready",
        f"[   0.0 s] job {JOB_ID} is accepted, queued",
        "[   0.0 s] the first text is there after 0.0 s",
        "[   0.1 s] the reply is final after 0.1 s: done",
        "[   0.1 s] passed: the reply took 0.1 s",
    ]
    assert ran.summary == (
        "### Smoke test: passed\n\nThe reply took 0.1 s.\n\n"
        f"- the GPU was ready when the prompt was sent to {URL}\n"
        f"- first text after 0.0 s\n- job {JOB_ID}\n- above 90 s a warning, above 120 s a failure\n"
    )


def test_a_gpu_that_wakes(deployment: Deployment) -> None:
    """The phases of the start are in the log, with their times."""
    statuses = [gpu("stopped"), gpu("starting", "instance", 60), gpu("booting", "engine", 20), READY]
    service = Service(*[Store.EMPTY] * 100, DONE, posts=(accepted("starting", eta=60),), statuses=statuses)
    ran = deployment.ask(service)

    assert ran.verdict == (0, "passed")
    assert ran.result["gpu"] == "stopped"
    assert "the instance boots, 0 s so far, about 60 s to go" in ran.printed
    assert "vLLM loads the model, 3 s so far, about 20 s to go" in ran.printed


@pytest.mark.parametrize(
    ("seconds", "verdict"),
    [
        (0.5, (0, "passed")),
        (89.9, (0, "passed")),
        (90.0, (0, "passed")),
        (90.1, (0, "unstable")),
        (119.9, (0, "unstable")),
        (120.0, (0, "unstable")),
        (120.1, (1, "failed")),
    ],
)
def test_how_late_is_too_late(deployment: Deployment, seconds: float, verdict: tuple[int, str]) -> None:
    """Up to 90 s it passes, up to 120 s it is a warning, and then a failure."""
    ran = deployment.reply_at(seconds)
    assert ran.verdict == verdict
    assert ran.result["seconds"] == pytest.approx(seconds)
    assert ("WARNING: unstable" in ran.printed) == (verdict[1] == "unstable")


def test_no_reply_at_all(deployment: Deployment) -> None:
    """It gives up at the deadline, takes the job along, and says what the GPU was doing."""
    statuses = [gpu("stopped"), gpu("starting", "instance", 30, problem="AWS has no GPU left")]
    service = Service(Store.EMPTY, posts=(accepted("starting", eta=90), cancelling()), statuses=statuses)
    ran = deployment.ask(service)

    assert ran.verdict == (1, "failed")
    assert ran.result["reason"] == "no final reply within 120 s; the GPU is starting, AWS has no GPU left"
    assert 120 < ran.seconds <= 121
    assert cancelled(service) == [JOB_ID]
    assert "the job is cancelled" in ran.printed
    assert "reply.json" not in ran.files


def test_half_a_reply_is_kept(deployment: Deployment) -> None:
    """What had arrived when the time was over is there to be looked at."""
    service = Service(reply("App"), posts=(accepted(), cancelling()), statuses=(READY,))
    ran = deployment.ask(service, "--unstable-seconds", "5", "--deadline-seconds", "10")

    assert ran.verdict == (1, "failed")
    assert (ran.result["seconds"], ran.result["first_text_seconds"], ran.result["status"]) == (None, 0.0, "streaming")
    assert json.loads(ran.files["reply.json"])["choices"][0]["text"] == "App"
    assert 10 < ran.seconds <= 11


@pytest.mark.parametrize(
    ("final", "reason"),
    [
        (
            reply("", status="failed", error={"code": "engine_error", "message": "out\x1b of memory"}),
            "the job ended as failed: engine_error, out\N{REPLACEMENT CHARACTER} of memory",
        ),
        (reply("half", status="expired"), "the job ended as expired"),
        (reply("half", status="cancelled"), "the job ended as cancelled"),
        (reply(" \n", status="done"), "the reply has no text; see the worker's log for what the model did"),
        (reply(status="done"), "the reply has no text; see the worker's log for what the model did"),
    ],
    ids=["failed", "expired", "cancelled", "blank", "no choice"],
)
def test_a_reply_that_is_none(deployment: Deployment, final: dict[str, object], reason: str) -> None:
    """It failed, however early, and there is nothing to cancel."""
    service = Service(final, statuses=(READY,))
    ran = deployment.ask(service)

    assert ran.verdict == (1, "failed")
    assert ran.result["reason"] == reason
    assert cancelled(service) == []


def test_a_gpu_that_stops_is_waited_for(deployment: Deployment) -> None:
    """The time of the stop is not that of the start which is measured."""
    statuses = [gpu("stopping")] * 5 + [gpu("stopped"), READY]
    service = Service(DONE, posts=(accepted("starting", eta=90),), statuses=statuses)
    ran = deployment.ask(service)

    assert ran.verdict == (0, "passed")
    assert (ran.result["gpu"], ran.result["seconds"]) == ("stopped", 0.0)
    assert ran.seconds == 5 * 2 * STATUS_SECONDS


def test_a_gpu_that_never_stops_is_asked(deployment: Deployment) -> None:
    """After the longest time that a stop may take, the prompt is sent all the same."""
    ran = deployment.ask(Service(DONE, statuses=(gpu("stopping"),)))
    assert ran.verdict == (0, "passed")
    assert CLOSING_SECONDS <= ran.seconds <= CLOSING_SECONDS + 2 * STATUS_SECONDS


@pytest.mark.parametrize("answer", ["starting", "queued"])
def test_a_gpu_that_stops_between_look_and_prompt(deployment: Deployment, answer: str) -> None:
    """The stop then counts, and the log tells of it, whatever the router had thought."""
    statuses = [READY, gpu("stopping"), gpu("starting", "instance", 60), READY]
    service = Service(*[Store.EMPTY] * 200, DONE, posts=(accepted(answer),), statuses=statuses)
    ran = deployment.ask(service)

    assert ran.verdict == (0, "unstable")
    assert ran.result["gpu"] == "ready"
    assert "the GPU is stopping" in ran.printed
    assert "the instance boots" in ran.printed


def test_the_budget_is_used_up(deployment: Deployment) -> None:
    """The router does what it should, and no other deployment would do better: a warning."""
    detail = "42.10 of 40.00 EUR are used up; until 2026-12-01"
    service = Service(posts=(problem(402, detail),), statuses=(gpu("stopped"),))
    ran = deployment.ask(service)

    assert ran.verdict == (0, "unstable")
    assert detail in ran.result["reason"]
    assert "WARNING: unstable" in ran.printed
    assert "reply.json" not in ran.files


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_that_is_refused(deployment: Deployment, status: int) -> None:
    """It says which variables to set, and sends no prompt."""
    service = Service(statuses=(status,))
    ran = deployment.ask(service)

    assert ran.verdict == (1, "failed")
    assert "TLFIF_TOKEN" in ran.result["reason"]
    assert "TLFIF_PASSWORD" in ran.result["reason"]
    assert posted(service, "/infer") == []


def test_a_link_that_has_expired(deployment: Deployment) -> None:
    """Nobody could read the reply, so that it is a failure, and the job is cancelled."""
    service = Service(403, posts=(accepted(), cancelling()), statuses=(READY,))
    ran = deployment.ask(service)

    assert ran.verdict == (1, "failed")
    assert "it has expired" in ran.result["reason"]
    assert cancelled(service) == [JOB_ID]


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(404, headers={"content-type": "application/problem+json"}), "the job has ended already"),
        (httpx.Response(500), "the job is not cancelled: the service failed"),
        (httpx.ReadTimeout("slow"), "the job is not cancelled: gateway.test gave no whole answer"),
    ],
    ids=["ended", "broken", "silent"],
)
def test_a_job_that_cannot_be_cancelled(
    deployment: Deployment, answer: httpx.Response | httpx.ReadTimeout, said: str
) -> None:
    """The verdict stays what it was."""
    ran = deployment.ask(Service(403, posts=(accepted(), answer), statuses=(READY,)))
    assert "it has expired" in ran.result["reason"]
    assert said in ran.printed


def test_nobody_answers(deployment: Deployment) -> None:
    """The client's own tries are enough."""
    service = Service(statuses=(httpx.ConnectError("refused"),))
    ran = deployment.ask(service)
    assert ran.verdict == (1, "failed")
    assert "cannot connect to gateway.test" in ran.result["reason"]
    assert len(service.requests) == 3
