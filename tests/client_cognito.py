"""A scripted Cognito: what the client's unit tests sign in at."""

from __future__ import annotations

import json
from typing import Any

import httpx

COGNITO_URL = "https://cognito.test"
CLIENT_ID = "client1"
PASSWORD = "Old-Secret-1"
NEW_PASSWORD = "New-Secret-2"


def tokens(access: str = "access-1", refresh: str | None = "refresh-1", lifetime: float = 3600) -> httpx.Response:
    """Return the answer that gives tokens; a refresh gives no refresh token."""
    result = {"AccessToken": access, "ExpiresIn": lifetime, "TokenType": "Bearer", "IdToken": "id-1"}
    return httpx.Response(200, json={"AuthenticationResult": result | ({"RefreshToken": refresh} if refresh else {})})


def challenge(name: str = "NEW_PASSWORD_REQUIRED", **parameters: str) -> httpx.Response:
    """Return the answer that asks for more."""
    body = {"ChallengeName": name, "Session": "session-1", "ChallengeParameters": parameters}
    return httpx.Response(200, json=body)


def refused(code: str, message: str | None = None, status: int = 400) -> httpx.Response:
    """Return an error as AWS JSON 1.1 writes it."""
    return httpx.Response(status, json={"__type": code} | ({"message": message} if message else {}))


class ScriptedCognito(httpx.MockTransport):
    """Gives these answers in order; an exception among them is raised instead."""

    def __init__(self, *answers: httpx.Response | BaseException) -> None:
        super().__init__(self._answer)
        self.requests: list[httpx.Request] = []
        self._answers = list(answers)

    @property
    def calls(self) -> list[tuple[str, dict[str, Any]]]:
        """What was called: operations and their bodies."""
        return [
            (request.headers["x-amz-target"].rpartition(".")[2], json.loads(request.content))
            for request in self.requests
        ]

    def _answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer
