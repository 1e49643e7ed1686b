"""Reads what the gateway accepted, stops or tells of the GPU, and what a look at the reply object showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httpx

from client.errors import LinkExpired, UnexpectedAnswer, Unreachable
from client.fields import Fields
from client.gpu import Status
from client.refusals import no_such_job, refusal
from router_lambda.job import is_job_id

_STOP: Final = "the answer to POST /stop"


@dataclass(frozen=True, slots=True)
class Submission:
    """An accepted job.

    Attributes:
        id: the job's id.
        status: `queued` when a worker is alive, `starting` when the GPU has to boot.
        eta_seconds: how long the boot takes; `None` unless `starting`.
        reply_url: presigned GET of the reply object. Who holds it can read the reply, so it is never shown.
        posted_at: the client's clock just before the POST, in seconds.
    """

    id: str
    status: str
    eta_seconds: float | None
    reply_url: str = field(repr=False)
    posted_at: float


def read_submission(response: httpx.Response, posted_at: float) -> Submission:
    """Read the answer to `POST /infer`.

    Raises:
        Refused: the service did not accept the job.
        UnexpectedAnswer: it accepted, but not in the contract's words.
    """
    if response.status_code != HTTPStatus.ACCEPTED:
        raise refusal(response)
    body = Fields.parse(response.content, "the answer to POST /infer")
    job_id = body.text("id")
    if not is_job_id(job_id):
        raise UnexpectedAnswer("the service answered with an id that is no UUID v4; check --url")
    return Submission(
        id=job_id,
        status=body.text("status"),
        eta_seconds=body.optional_number("eta"),
        reply_url=_reply_url(response),
        posted_at=posted_at,
    )


def _reply_url(response: httpx.Response) -> str:
    try:
        url = response.url.join(response.headers["location"])
        on_the_web = url.scheme in {"http", "https"} and url.host
    except (KeyError, httpx.InvalidURL, ValueError):
        raise UnexpectedAnswer("the service did not say where the reply will be; check --url") from None
    if not on_the_web:
        raise UnexpectedAnswer("the service named a reply that is not on the web; check --url")
    return str(url)


def read_stop(response: httpx.Response) -> str:
    """Read the answer to `POST /stop` without an id: `stopping` or `stopped`.

    Raises:
        Refused: the service does not stop the GPU.
        UnexpectedAnswer: it answered, but not in the contract's words.
    """
    if response.status_code != HTTPStatus.ACCEPTED:
        raise refusal(response)
    status = Fields.parse(response.content, _STOP).text("status")
    if status not in {"stopping", "stopped"}:
        raise UnexpectedAnswer(f"{_STOP} has a status that this client does not know; update tl-fif")
    return status


def read_cancelling(response: httpx.Response, job_id: str) -> None:
    """Read the answer to `POST /stop` with this id.

    Raises:
        Refused: the service does not cancel the job; `NotFound` when there is none to cancel.
        UnexpectedAnswer: it answered, but not in the contract's words.
    """
    if response.status_code != HTTPStatus.ACCEPTED:
        raise no_such_job(response) or refusal(response)
    body = Fields.parse(response.content, _STOP)
    if body.text("status") != "cancelling" or body.text("id") != job_id:
        raise UnexpectedAnswer(f"{_STOP} is not about that job; check that client and service are of the same version")


def read_status(response: httpx.Response) -> Status:
    """Read the answer to `GET /status`.

    Raises:
        Refused: the service does not tell; `NotFound` when it has no such route.
        UnexpectedAnswer: it answered, but not in the contract's words.
    """
    if response.status_code != HTTPStatus.OK:
        raise refusal(response)
    return Status.from_json(response.content)


def has_news(response: httpx.Response) -> bool:
    """Tell whether a GET of the reply object brought a document; 304 and 404 (not yet there) do not.

    Raises:
        Unreachable: the store is overloaded or broken, which passes.
        LinkExpired: the presigned link is no longer honoured.
        UnexpectedAnswer: any other status, which no repeat would change.
    """
    status = response.status_code
    if status == HTTPStatus.OK:
        return True
    if status in {HTTPStatus.NOT_MODIFIED, HTTPStatus.NOT_FOUND}:
        return False
    if status in {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS} or response.is_server_error:
        raise Unreachable(f"the store answered {status}")
    # A link dies with the credentials that signed it, which S3 reports as 400 rather than 403.
    if status == HTTPStatus.FORBIDDEN or (status == HTTPStatus.BAD_REQUEST and b"ExpiredToken" in response.content):
        raise LinkExpired(f"the store refuses the link to the reply ({status}): it has expired; send the prompt again")
    raise UnexpectedAnswer(f"the store answered {status} for the reply; check how the bucket is set up")
