"""Amazon Cognito's user pools, as far as signing in with a password goes.

The operations InitiateAuth and RespondToAuthChallenge of its API reference, which take no signature.
`USER_PASSWORD_AUTH` sends the password itself, so that the address has to be https; `REFRESH_TOKEN_AUTH` exchanges a
refresh token.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import httpx

from client.connection import Connected, Connection, usable
from client.errors import LoginRefused, UnexpectedAnswer
from client.fields import Fields
from client.quoting import quote
from client.tokens import Tokens

_ANSWER: Final = "Cognito's answer"
_NEW_PASSWORD: Final = "NEW_PASSWORD_REQUIRED"  # noqa: S105 - the name of a challenge
_LATER: Final = "try again in a minute"

_BUSY: Final = {
    "TooManyRequestsException": _LATER,
    "LimitExceededException": _LATER,
    "InternalErrorException": _LATER,
}
"""Errors that pass by themselves, and what to do."""

_SIGN_IN: Final = _BUSY | {
    "NotAuthorizedException": "check the user name and the password",
    "UserNotFoundException": "check --username",
    "UserNotConfirmedException": "confirm the account first, with the code that Cognito has sent",
    "PasswordResetRequiredException": "the password has to be reset first; ask whoever runs the user pool",
    "ResourceNotFoundException": "check --client-id, and the region in --cognito-url",
    "InvalidParameterException": "check --username, and that the app client allows USER_PASSWORD_AUTH",
}
_SET_PASSWORD: Final = _SIGN_IN | {
    "NotAuthorizedException": "run `tlfif login` again and give the new password within three minutes",
    "InvalidPasswordException": "run `tlfif login` again and choose another new password",
    "InvalidParameterException": "run `tlfif login` again and choose another new password",
}
_ASK: Final = "ask whoever runs the user pool"
_LOG_IN: Final = "log in again: tlfif login"


@dataclass(frozen=True, slots=True)
class NewPasswordRequired:
    """A user whom an administrator made has to choose a password first; `session` proves the old one."""

    session: str = field(repr=False)
    username: str


class Cognito(Connected):
    """One app client of one user pool, at the endpoint of its region.

    Every method raises `LoginRefused` when Cognito says no, `Unreachable` without an answer, and `UnexpectedAnswer`
    when it is no answer of Cognito's.

    Raises:
        InvalidSettings: the URL cannot be used.
    """

    def __init__(self, url: str, client_id: str, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._url = usable(url.rstrip("/") + "/", "Cognito's URL")
        self._client_id = client_id
        self._connection = Connection("--cognito-url", transport)

    async def sign_in(self, username: str, password: str) -> Tokens | NewPasswordRequired:
        """Exchange a password for tokens."""
        parameters = {"USERNAME": username, "PASSWORD": password}
        answer = await self._call(
            "InitiateAuth", {"AuthFlow": "USER_PASSWORD_AUTH", "AuthParameters": parameters}, [password], _SIGN_IN, _ASK
        )
        if answer.optional_text("ChallengeName") == _NEW_PASSWORD:
            return _new_password_required(answer, username)
        return _tokens(answer)

    async def set_password(self, required: NewPasswordRequired, password: str) -> Tokens:
        """Answer the demand for a new password."""
        body = {
            "ChallengeName": _NEW_PASSWORD,
            "Session": required.session,
            "ChallengeResponses": {"USERNAME": required.username, "NEW_PASSWORD": password},
        }
        secrets = [password, required.session]
        return _tokens(await self._call("RespondToAuthChallenge", body, secrets, _SET_PASSWORD, _ASK))

    async def refresh(self, refresh_token: str) -> Tokens:
        """Exchange a refresh token for a new access token; it stays good itself unless Cognito gives another."""
        body = {"AuthFlow": "REFRESH_TOKEN_AUTH", "AuthParameters": {"REFRESH_TOKEN": refresh_token}}
        answer = await self._call("InitiateAuth", body, [refresh_token], _BUSY, _LOG_IN)
        return _tokens(answer, kept=refresh_token)

    async def _call(
        self, operation: str, body: dict[str, Any], secrets: list[str], advice: Mapping[str, str], otherwise: str
    ) -> Fields:
        """Call an operation; what to do about an error is in `advice` by its code, or `otherwise`."""
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": f"AWSCognitoIdentityProviderService.{operation}",
        }
        content = json.dumps(body | {"ClientId": self._client_id}).encode()
        response = await self._connection.send(self._connection.request("POST", self._url, headers, content))
        if response.status_code == HTTPStatus.OK:
            return Fields.parse(response.content, _ANSWER)
        code, said = _error(response)
        for secret in secrets:  # Cognito quotes what it refuses
            said = said.replace(secret, "…")
        what_to_do = advice.get(code, otherwise)
        if "secret" in said.lower():
            what_to_do = "use the id of an app client without a secret"
        why = f"{code}: {quote(said)}" if said else code
        raise LoginRefused(f"Cognito does not accept the login ({why}); {what_to_do}", code=code)


def _new_password_required(answer: Fields, username: str) -> NewPasswordRequired:
    parameters = answer.part("ChallengeParameters") or Fields({}, _ANSWER)
    # A JSON list inside a string. The client could not know what to put there.
    if (missing := parameters.optional_text("requiredAttributes")) not in {None, "", "[]"}:
        raise LoginRefused(
            f"Cognito wants attributes of the user first ({quote(missing)}), which tlfif cannot give; {_ASK}",
            code=_NEW_PASSWORD,
        )
    # Who signs in by an alias, such as a mail address, has another name inside the pool.
    name = parameters.optional_text("USER_ID_FOR_SRP") or parameters.optional_text("USERNAME") or username
    return NewPasswordRequired(answer.text("Session"), name)


def _tokens(answer: Fields, kept: str | None = None) -> Tokens:
    if challenge := answer.optional_text("ChallengeName"):
        raise LoginRefused(
            f"Cognito asks for {quote(challenge)}, which tlfif cannot answer; "
            "have it switched off for this user, or get a token elsewhere and put it into TLFIF_TOKEN",
            code=challenge,
        )
    result = answer.part("AuthenticationResult") or Fields({}, f"{_ANSWER}.AuthenticationResult")
    return Tokens(
        access_token=result.text("AccessToken"),
        refresh_token=result.optional_text("RefreshToken") or kept or result.text("RefreshToken"),
        lifetime_seconds=result.number("ExpiresIn"),
    )


def _error(response: httpx.Response) -> tuple[str, str]:
    """Return the code and the message of an error as AWS JSON 1.1 writes it."""
    try:
        body = Fields.parse(response.content, _ANSWER)
        return quote(body.text("__type").rpartition("#")[2]), body.optional_text("message") or ""
    except UnexpectedAnswer:
        host, status = response.url.host, response.status_code
        raise UnexpectedAnswer(f"{host} answered {status}, and not as Cognito does; check --cognito-url") from None
