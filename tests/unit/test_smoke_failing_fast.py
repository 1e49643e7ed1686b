"""The smoke test among answers of 5xx: the third in a row of one party ends it, fewer do not."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.client_cognito import ScriptedCognito, challenge, refused, tokens
from tests.client_service import JOB_ID, Service, Store, accepted, gpu
from tests.e2e.scripted import DONE, READY, Deployment, cancelled, cancelling, posted, problem
from tests.e2e.tally import MOST_IN_A_ROW, FailedFast, Tally

DOWN = "Redis does not answer"


@pytest.fixture
def deployment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Deployment:
    """Return a deployment to ask."""
    return Deployment(tmp_path, capsys)


def down(retry_after: str = "2") -> httpx.Response:
    """Return the router's answer without its Redis."""
    return problem(503, DOWN, retry_after=retry_after)


def test_the_third_5xx_ends_it(deployment: Deployment) -> None:
    """Soon, with what the service said of it; there is no job to cancel."""
    service = Service(posts=(down(), down("60"), down()), statuses=(READY,))
    ran = deployment.ask(service)

    assert ran.verdict == (1, "failed")
    assert ran.result["reason"].startswith("failed fast: the service answered 503, 503, 503 one after the other")
    assert DOWN in ran.result["reason"]
    assert len(posted(service, "/infer")) == MOST_IN_A_ROW
    assert ran.seconds == 2 + 5, "as the service asks, but for 5 s at most"
    assert cancelled(service) == []
    assert ran.result["answers"]["the service"] == {"200": 1, "503": 3}


def test_twice_is_not_enough(deployment: Deployment) -> None:
    """The third try is accepted: it is the same job for the service, and the time runs from the first try."""
    service = Service(Store.EMPTY, DONE, posts=(down("3"), httpx.Response(502), accepted()), statuses=(READY,))
    ran = deployment.ask(service)

    assert ran.verdict == (0, "passed")
    assert len({request.headers["idempotency-key"] for request in posted(service, "/infer")}) == 1
    assert ran.result["seconds"] == pytest.approx(3 + 1 + 0.02)
    assert "the service answered 502" in ran.printed


def test_any_other_answer_begins_a_new_row(deployment: Deployment) -> None:
    """Even one that is no good itself; a throttle is waited for as long as it asks."""
    posts = (down("1"), down("1"), problem(429, "too fast", retry_after="7"), down("1"), down("1"), accepted())
    ran = deployment.ask(Service(DONE, posts=posts, statuses=(READY,)))
    assert ran.verdict == (0, "passed")
    assert ran.seconds == 11


def test_being_throttled_forever(deployment: Deployment) -> None:
    """The deadline ends that, too."""
    ran = deployment.ask(Service(posts=(problem(429, "too fast", retry_after="7"),), statuses=(READY,)))
    assert ran.verdict == (1, "failed")
    assert "too fast" in ran.result["reason"]
    assert 110 < ran.seconds <= 120


def test_the_first_look_at_the_gpu(deployment: Deployment) -> None:
    """It counts like the prompt, which is not sent then."""
    service = Service(statuses=(500, 500, 504))
    ran = deployment.ask(service)
    assert ran.result["reason"].startswith("failed fast: the service answered 500, 500, 504 one after the other")
    assert posted(service, "/infer") == []


@pytest.mark.parametrize("status", [500, 503])
def test_the_link_to_the_reply(deployment: Deployment, status: int) -> None:
    """The store's answers count like the service's: the third ends it, and the job."""
    service = Service(status, posts=(accepted(), cancelling()), statuses=(READY,))
    ran = deployment.ask(service)
    assert ran.result["reason"].startswith(f"failed fast: the store answered {status}, {status}, {status} one after")
    assert ran.seconds < 2
    assert cancelled(service) == [JOB_ID]


def test_the_link_to_the_reply_twice(deployment: Deployment) -> None:
    """The client waits two of them out by itself."""
    looks = (500, 500, Store.EMPTY, 500, 503, DONE)
    ran = deployment.ask(Service(*looks, statuses=(READY,)))
    assert ran.verdict == (0, "passed")
    assert ran.result["answers"]["the store"] == {"500": 3, "404": 1, "503": 1, "200": 1}


def test_the_looks_at_a_gpu_that_wakes(deployment: Deployment) -> None:
    """They count as well, and what the store answers in between does not make them fewer."""
    service = Service(
        Store.EMPTY,
        posts=(accepted("starting", eta=90), cancelling()),
        statuses=(gpu("stopped"), gpu("starting", "instance", 90), 502, 503, 502),
    )
    ran = deployment.ask(service)
    assert ran.result["reason"].startswith("failed fast: the service answered 502, 503, 502 one after the other")
    assert ran.seconds < 30
    assert ran.result["answers"]["the store"]["404"] > 10
    assert cancelled(service) == [JOB_ID]


def test_what_else_the_looks_meet_is_no_failure(deployment: Deployment) -> None:
    """The reply comes all the same."""
    statuses = (gpu("stopped"), 502, 429, httpx.ReadTimeout("slow"), 404, READY)
    service = Service(*[Store.EMPTY] * 60, DONE, posts=(accepted("starting"),), statuses=statuses)
    assert deployment.ask(service).verdict == (0, "passed")


def test_signing_in(deployment: Deployment) -> None:
    """A Cognito that fails twice and does not answer twice is asked on; the token that it gives is used."""
    cognito = ScriptedCognito(
        refused("InternalErrorException", status=500),
        httpx.ConnectError("refused"),
        httpx.Response(502),
        httpx.ReadTimeout("slow"),
        tokens(),
    )
    service = Service(DONE, statuses=(READY,))
    ran = deployment.ask(service, cognito=cognito)
    assert ran.verdict == (0, "passed")
    assert "signing in as smoke" in ran.printed
    assert service.requests[0].headers["authorization"] == "Bearer access-1"


@pytest.mark.parametrize(
    ("answers", "reason"),
    [
        ([refused("InternalErrorException", status=500)] * 3, "failed fast: Cognito answered 500, 500, 500"),
        ([httpx.ConnectError("refused")] * 3, "cannot connect to cognito.test"),
        ([refused("NotAuthorizedException")], "TLFIF_PASSWORD"),
        ([challenge()], "Cognito wants a new password of smoke first; run `tlfif login` once"),
        ([challenge("SMS_MFA")], "Cognito asks for SMS_MFA"),
        ([httpx.Response(200, text="hello")], "Cognito's answer is 5 bytes that are not JSON"),
    ],
    ids=["fails", "is away", "refuses", "wants a password", "wants more", "is another"],
)
def test_not_signing_in(deployment: Deployment, answers: list[httpx.Response | Exception], reason: str) -> None:
    """It failed, says why, and asks the service nothing."""
    service = Service()
    cognito = ScriptedCognito(*answers)
    ran = deployment.ask(service, cognito=cognito)
    assert ran.verdict == (1, "failed")
    assert reason in ran.result["reason"]
    assert service.requests == []
    assert len(cognito.requests) == len(answers)


def test_the_rows_of_two_parties_are_two() -> None:
    """Two of one and two of another are no row of three."""
    tally = Tally(lambda _: None)
    for _ in range(2):
        tally.heard("one", 500)
        tally.heard("another", 599)
    tally.heard("one", 499)
    with pytest.raises(FailedFast, match="another answered 599, 599, 500"):
        tally.heard("another", 500)
    assert tally.counts() == {"one": {"500": 2, "499": 1}, "another": {"599": 2, "500": 1}}
