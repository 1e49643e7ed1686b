"""`tlfif stop` and what stands behind it in the library."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable

import httpx
import pytest

from client.connection import TRIES
from client.errors import (
    BadRequest,
    Busy,
    DeadlinePassed,
    InvalidSettings,
    NotAuthorized,
    NotFound,
    Refused,
    UnexpectedAnswer,
    Unreachable,
)
from client.exits import ExitCode
from tests.client_service import JOB_ID, TOKEN, URL, Run, Service, run_command

Ask = Callable[[Service], Awaitable[object]]

CANCELLING: dict[str, object] = {"status": "cancelling", "id": JOB_ID}


def answered(body: dict[str, object], status: int = 202) -> Service:
    """Return a service that answers every POST with this JSON."""
    return Service(posts=(httpx.Response(status, json=body),))


def problem(status: int, headers: dict[str, str] | None = None) -> Service:
    """Return a service that refuses every POST as RFC 9457 has it."""
    content = json.dumps({"status": status, "detail": "its own words", "request_id": "r-1"})
    return Service(
        posts=(
            httpx.Response(
                status, content=content, headers={"Content-Type": "application/problem+json"} | (headers or {})
            ),
        )
    )


async def stop(service: Service) -> str:
    """Stop the GPU."""
    async with service.client() as session:
        return await session.stop()


async def cancel(service: Service, job_id: str = JOB_ID) -> None:
    """Cancel a job."""
    async with service.client() as session:
        await session.cancel(job_id)


@pytest.mark.parametrize("status", ["stopping", "stopped"])
async def test_stopping_posts_an_empty_body(status: str) -> None:
    """Without an id the POST carries the token and nothing else; the status is handed on."""
    service = answered({"status": status})

    assert await stop(service) == status

    request = service.requests[0]
    assert (request.method, str(request.url), request.content) == ("POST", f"{URL}/stop", b"")
    assert request.headers["authorization"] == f"Bearer {TOKEN}"
    assert "content-type" not in request.headers
    assert "idempotency-key" not in request.headers


async def test_cancelling_posts_the_id() -> None:
    """The id is all of the body."""
    service = answered(CANCELLING)

    await cancel(service)

    assert (str(service.requests[0].url), service.body) == (f"{URL}/stop", {"id": JOB_ID})
    assert service.requests[0].headers["content-type"] == "application/json"


@pytest.mark.parametrize("job_id", ["", "7", JOB_ID.upper(), f"{JOB_ID}\n", "job:" + JOB_ID])
async def test_what_is_no_id_is_never_sent(job_id: str) -> None:
    """An empty id in particular, which would stop the GPU instead of a job."""
    service = answered(CANCELLING)
    with pytest.raises(InvalidSettings, match="UUID"):
        await cancel(service, job_id)

    assert not service.requests


@pytest.mark.parametrize(
    ("status", "headers", "kind"),
    [
        (400, {}, BadRequest),
        (401, {}, NotAuthorized),
        (403, {}, NotAuthorized),
        (429, {"Retry-After": "7"}, Busy),
        (503, {"Retry-After": "7"}, Busy),
        (500, {}, Refused),
    ],
)
@pytest.mark.parametrize("ask", [stop, cancel])
async def test_refusals_are_those_of_infer(ask: Ask, status: int, headers: dict[str, str], kind: type[Refused]) -> None:
    """Each has the service's words and its request id, and is asked for once."""
    service = problem(status, headers)
    with pytest.raises(Refused, match=r"its own words.*r-1") as caught:
        await ask(service)

    assert type(caught.value) is kind
    assert len(service.requests) == 1
    assert isinstance(caught.value, Busy) == ("in 7 s" in str(caught.value))


async def test_an_unknown_job_is_named_as_that() -> None:
    """404 of the service itself is about the job."""
    with pytest.raises(NotFound, match=r"^no such job of yours is waiting or running.*r-1") as caught:
        await cancel(problem(404))

    assert caught.value.status == 404


async def test_a_wrong_address_is_not_taken_for_an_unknown_job() -> None:
    """404 of an API Gateway without such a route is about the URL, as is any 404 where no job was named."""
    with pytest.raises(NotFound, match="check --url"):
        await cancel(answered({"message": "Not Found"}, 404))
    with pytest.raises(NotFound, match="check --url"):
        await stop(problem(404))


@pytest.mark.parametrize(
    ("ask", "body"),
    [
        (stop, {}),
        (stop, {"status": 1}),
        (stop, CANCELLING),
        (cancel, {}),
        (cancel, {"status": "cancelling"}),
        (cancel, {"status": "stopping", "id": JOB_ID}),
        (cancel, {"status": "cancelling", "id": "5f0c1d2e-3a4b-4c5d-8e6f-708192a3b4c6"}),
    ],
)
async def test_an_answer_to_another_question_is_an_error(ask: Ask, body: dict[str, object]) -> None:
    """A status or an id that does not belong to what was asked is no success."""
    with pytest.raises(UnexpectedAnswer):
        await ask(answered(body))


@pytest.mark.parametrize("ask", [stop, cancel])
async def test_stopping_is_repeated_until_answered(ask: Ask) -> None:
    """Both may arrive twice, so that a cut connection is tried three times."""
    service = Service(posts=(httpx.ReadTimeout("slow"),))
    with pytest.raises(Unreachable):
        await ask(service)

    assert len(service.requests) == TRIES


async def test_the_deadline_of_a_stop_names_what_did_not_come() -> None:
    """No reply is awaited here."""
    async with Service(posts=(httpx.ReadTimeout("slow"),)).client(deadline_seconds=0.01) as session:
        with pytest.raises(DeadlinePassed, match=r"no answer to POST /stop within 0\.01 s"):
            await session.stop()


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Return a function that runs `tlfif stop` with these arguments against this service."""
    return functools.partial(run_command, monkeypatch, "stop")


@pytest.mark.parametrize(
    ("arguments", "body", "out"),
    [
        ([], {"status": "stopping"}, "stopping: the GPU stops as soon as no job is running\n"),
        ([], {"status": "stopped"}, "stopped: the GPU is down already\n"),
        ([JOB_ID], CANCELLING, f"cancelling {JOB_ID}\n"),
    ],
)
def test_what_comes_of_it_is_on_stdout(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], body: dict[str, object], out: str
) -> None:
    """One line, exit code 0, and a quiet stderr."""
    assert run(answered(body), *arguments) == ExitCode.DONE
    assert capsys.readouterr() == (out, "")


@pytest.mark.parametrize(
    ("service", "words"),
    [
        (problem(404), "no such job of yours is waiting or running"),
        (problem(401), "tlfif login"),
        (problem(429, {"Retry-After": "3"}), "try again in 3 s"),
    ],
    ids=["unknown", "token", "throttled"],
)
def test_a_refusal_exits_6(run: Run, capsys: pytest.CaptureFixture[str], service: Service, words: str) -> None:
    """Nothing on stdout, one line on stderr."""
    assert run(service, JOB_ID) == ExitCode.SERVICE

    out, err = capsys.readouterr()
    assert not out
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("job_id", ["", "seven"])
def test_a_bad_id_exits_2(run: Run, capsys: pytest.CaptureFixture[str], job_id: str) -> None:
    """A script's empty variable is not taken for no argument, which would stop the GPU."""
    service = answered({"status": "stopping"})

    assert run(service, job_id) == ExitCode.USAGE
    assert "UUID" in capsys.readouterr().err
    assert not service.requests


def test_ctrl_c_speaks_of_no_job(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """An interrupted stop left nothing running that was not running before."""
    assert run(Service(posts=(KeyboardInterrupt(),))) == ExitCode.INTERRUPTED
    assert capsys.readouterr().err == "tlfif: interrupted\n"
