"""Everything that can go wrong in the client, in one tree.

    ClientError
    ├── InvalidSettings      a URL, token, option, prompt or file that cannot be used: nothing was sent
    ├── Unreachable          the network gave no answer
    │   └── NotConnected     … not even a connection, so nothing was sent and a repeat is safe
    ├── Refused              the service answered with an error
    │   ├── BadRequest       400, 413: `errors` names every bad field
    │   ├── NotAuthorized    401, 403: the token
    │   ├── OverBudget       402: the month's budget for the GPU is used up
    │   ├── NotFound         404: the URL
    │   └── Busy             429, 503: come back later
    ├── LoginRefused         Cognito does not sign the user in, or asks for what the client cannot give
    ├── LinkExpired          the presigned link to the reply is no longer honoured
    ├── UnexpectedAnswer     an answer that breaks the contract
    └── DeadlinePassed       no final reply in time

No message holds a prompt, a password, a token or a presigned link. A job that failed is no error but a final snapshot.
"""

from __future__ import annotations

from collections.abc import Sequence

from router_lambda.job import FieldError


class ClientError(Exception):
    """The root."""


class InvalidSettings(ClientError):
    """Something the caller gave cannot be used. `problems` names all of it at once and says what to do."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class Unreachable(ClientError):
    """The network gave no answer, or only part of one. Whether a request took effect is unknown."""


class NotConnected(Unreachable):
    """No connection came about, so the request was never sent."""


class Refused(ClientError):
    """The service answered with an error.

    Attributes:
        status: the HTTP status.
        request_id: what the service's own logs call the request; empty when it named none.
        retry_after_seconds: when it advises to try again; `None` without advice.
    """

    def __init__(
        self, message: str, *, status: int, request_id: str = "", retry_after_seconds: int | None = None
    ) -> None:
        self.status = status
        self.request_id = request_id
        self.retry_after_seconds = retry_after_seconds
        super().__init__(f"{message} (request id {request_id})" if request_id else message)


class BadRequest(Refused):
    """The body of the request is not acceptable."""

    def __init__(self, message: str, *, status: int, request_id: str = "", errors: Sequence[FieldError] = ()) -> None:
        self.errors = tuple(errors)
        super().__init__(message, status=status, request_id=request_id)

    def __str__(self) -> str:
        return "\n  ".join([super().__str__(), *(f"{error.field} {error.message}" for error in self.errors)])


class NotAuthorized(Refused):
    """The token is missing, expired or not valid for this service."""


class OverBudget(Refused):
    """The month's budget for the GPU is used up: only the next month or a higher cap helps, and no repeat before."""


class NotFound(Refused):
    """The service has no such route, or no such job."""


class Busy(Refused):
    """The service takes no request right now."""


class LoginRefused(ClientError):
    """Cognito gave no tokens. `code` is its own name for the reason, or that of the challenge."""

    def __init__(self, message: str, *, code: str) -> None:
        self.code = code
        super().__init__(message)


class LinkExpired(ClientError):
    """The store refuses the presigned link to the reply."""


class UnexpectedAnswer(ClientError):
    """The service or the store sent what the contract rules out."""


class DeadlinePassed(ClientError):
    """The deadline passed before the final reply, or before any answer; the job itself may still run."""
