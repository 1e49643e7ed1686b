"""`tlfif login`: exchanges a password for tokens, and keeps them fresh for the other commands."""

from __future__ import annotations

import argparse
import asyncio
import re
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TextIO, TypeVar

from client.errors import InvalidSettings
from client.exits import ExitCode
from client.password import Passwords
from client.settings import given, service_url_problems, url_problems
from client.tokens import Login, TokenFile, Tokens, fresh_token, service_key

if TYPE_CHECKING:
    from client.cognito import Cognito

T = TypeVar("T")

_CLIENT_ID: Final = re.compile(r"[\w+]{1,128}", re.ASCII)
"""As the API reference of Cognito has it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `tlfif login` takes."""
    parser.add_argument("--url", help="base URL of the gateway that the tokens are for (default: TLFIF_URL)")
    parser.add_argument("--username", metavar="NAME", help="the user in the pool (default: TLFIF_USERNAME)")
    cognito = parser.add_argument_group("the user pool")
    cognito.add_argument("--client-id", metavar="ID", help="its app client (default: TLFIF_COGNITO_CLIENT_ID)")
    cognito.add_argument(
        "--cognito-url",
        metavar="URL",
        help="Cognito's endpoint, like https://cognito-idp.eu-central-1.amazonaws.com (default: TLFIF_COGNITO_URL)",
    )
    parser.add_argument("--print", action="store_true", help="print the access token and store nothing; needs no --url")


@dataclass(frozen=True, slots=True)
class LogIn:
    """Who signs in where; `service` is the URL that the tokens are stored for, `None` to print them."""

    username: str
    client_id: str
    cognito_url: str
    service: str | None

    @classmethod
    def read(cls, arguments: argparse.Namespace, environment: Mapping[str, str]) -> LogIn:
        """Take the options, and the rest from the environment.

        Raises:
            InvalidSettings: naming everything that is wrong at once.
        """
        username = given(arguments.username, "TLFIF_USERNAME", environment)
        client_id = given(arguments.client_id, "TLFIF_COGNITO_CLIENT_ID", environment)
        cognito_url = given(arguments.cognito_url, "TLFIF_COGNITO_URL", environment)
        service = None if arguments.print else given(arguments.url, "TLFIF_URL", environment)
        problems = [] if service is None else service_url_problems(service)
        problems += url_problems(
            cognito_url,
            "Cognito's URL",
            "give --cognito-url or set TLFIF_COGNITO_URL",
            "https://cognito-idp.eu-central-1.amazonaws.com",
        )
        if not username:
            problems.append("the user name is missing; give --username or set TLFIF_USERNAME")
        if not _CLIENT_ID.fullmatch(client_id):
            problems.append(
                "the app client's id is missing or malformed; give --client-id or set TLFIF_COGNITO_CLIENT_ID"
            )
        if problems:
            raise InvalidSettings(problems)
        return cls(username, client_id, cognito_url, service)

    def run(
        self, file: TokenFile, passwords: Passwords, clock: Callable[[], float], out: TextIO, err: TextIO
    ) -> ExitCode:
        """Sign in, then store the tokens in `file` or print the access token on `out`. `clock` tells Unix seconds.

        Raises:
            ClientError: nobody is signed in, or nothing is stored.
        """
        if self.service is not None:
            file.read()  # what is wrong with it should be known before a password is typed
        tokens = self._sign_in(passwords)
        if self.service is None:
            print(tokens.access_token, file=out)
            return ExitCode.DONE
        login = Login(
            access_token=tokens.access_token,
            refresh_token=tokens.refresh_token,
            expires_at=clock() + tokens.lifetime_seconds,
            cognito_url=self.cognito_url,
            client_id=self.client_id,
            username=self.username,
        )
        file.store(service_key(self.service), login)
        print(f"tlfif: {self.username} is logged in at {self.service}; the tokens are in {file.path}", file=err)
        return ExitCode.DONE

    def _sign_in(self, passwords: Passwords) -> Tokens:
        # One loop for each call, none around the prompts: inside of a loop, Ctrl-C would not end them.
        password = passwords.current(self.username)
        answer = _ask(self.cognito_url, self.client_id, lambda cognito: cognito.sign_in(self.username, password))
        if isinstance(answer, Tokens):
            return answer
        required, new = answer, passwords.new()
        return _ask(self.cognito_url, self.client_id, lambda cognito: cognito.set_password(required, new))


def stored_token(url: str, environment: Mapping[str, str]) -> str:
    """Return the user's access token for the service at this URL, refreshed if need be, "" if there is none.

    Raises:
        ClientError: the tokens cannot be read, or not be refreshed.
    """

    def refresh(login: Login) -> Tokens:
        return _ask(login.cognito_url, login.client_id, lambda cognito: cognito.refresh(login.refresh_token))

    return fresh_token(TokenFile.at_home(environment), url, time.time, refresh)


def _ask(url: str, client_id: str, question: Callable[[Cognito], Awaitable[T]]) -> T:
    from client.cognito import Cognito  # noqa: PLC0415 - imports httpx, which `--help` need not wait for

    async def ask() -> T:
        async with Cognito(url, client_id) as cognito:
            return await question(cognito)

    return asyncio.run(ask())
