"""What the smoke test is told: options, and the rest by the environment, where no process list shows it."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from client.errors import InvalidSettings
from client.settings import given, service_url_problems, url_problems
from tests.e2e.verdict import DEADLINE_SECONDS, UNSTABLE_SECONDS, Limits

PROMPT: Final = "Name three fruits."
"""Short, and any model has an answer."""

_EXITS: Final = """environment:
  TLFIF_URL                base URL of the gateway, unless --url gives it
  TLFIF_TOKEN              an access token; without one, the smoke test signs in with
  TLFIF_COGNITO_URL        Cognito's endpoint, like https://cognito-idp.eu-central-1.amazonaws.com
  TLFIF_COGNITO_CLIENT_ID  the user pool's app client
  TLFIF_USERNAME           its user
  TLFIF_PASSWORD           and the password

exit codes:
  0    passed, or unstable: late, or refused because the month's budget is used up
  1    failed
  2    wrong options or settings
  130  interrupted; so does 143
"""


@dataclass(frozen=True, slots=True)
class SignIn:
    """Who signs in where."""

    cognito_url: str
    client_id: str
    username: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Options:
    """Where to ask, as whom and what; `sign_in` only without a token."""

    url: str
    token: str = field(repr=False)
    sign_in: SignIn | None
    prompt: str
    limits: Limits
    artifacts: Path | None
    summary: Path | None

    @classmethod
    def read(cls, argv: Sequence[str] | None, environment: Mapping[str, str]) -> Options:
        """Read the command line, and the environment for the rest. Variables that are empty count as unset.

        Raises:
            InvalidSettings: naming everything that is wrong at once.
        """
        arguments = _parser().parse_args(argv)
        url = given(arguments.url, "TLFIF_URL", environment)
        limits = Limits(arguments.unstable_seconds, arguments.deadline_seconds)
        problems = service_url_problems(url)
        if not 0 < limits.unstable_seconds <= limits.deadline_seconds < math.inf:
            problems.append("--unstable-seconds must be above 0 and at most --deadline-seconds")
        if not arguments.prompt.strip():
            problems.append("--prompt is empty; give some text or leave it out")
        token = environment.get("TLFIF_TOKEN", "")
        sign_in = None if token else _sign_in(environment, problems)
        if problems:
            raise InvalidSettings(problems)
        return cls(url, token, sign_in, arguments.prompt, limits, arguments.artifacts, arguments.summary)


def _sign_in(environment: Mapping[str, str], problems: list[str]) -> SignIn:
    """Read who signs in, and add what is wrong with it to `problems`."""
    cognito_url, client_id, username, password = (
        environment.get(f"TLFIF_{name}", "") for name in ("COGNITO_URL", "COGNITO_CLIENT_ID", "USERNAME", "PASSWORD")
    )
    how = "set TLFIF_COGNITO_URL, or TLFIF_TOKEN to an access token"
    problems += url_problems(cognito_url, "Cognito's URL", how, "https://cognito-idp.eu-central-1.amazonaws.com")
    wanted = {"TLFIF_COGNITO_CLIENT_ID": client_id, "TLFIF_USERNAME": username, "TLFIF_PASSWORD": password}
    problems += [f"there is no token; set {name} to sign in for one" for name, value in wanted.items() if not value]
    return SignIn(cognito_url, client_id, username, password)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tests.e2e.smoke",
        description="Sends a prompt to a deployed system and waits for the whole reply, as a user would.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--url", help="base URL of the gateway (default: TLFIF_URL)")
    parser.add_argument("--prompt", default=PROMPT, help="what to ask (default: %(default)s)")
    parser.add_argument(
        "--unstable-seconds",
        type=float,
        default=UNSTABLE_SECONDS,
        metavar="N",
        help="a reply that takes longer is a warning (default %(default)g)",
    )
    parser.add_argument(
        "--deadline-seconds",
        type=float,
        default=DEADLINE_SECONDS,
        metavar="N",
        help="a reply that takes longer is a failure (default %(default)g)",
    )
    parser.add_argument(
        "--artifacts", type=Path, metavar="FOLDER", help="write log.txt, result.json and reply.json there"
    )
    parser.add_argument("--summary", type=Path, metavar="FILE", help="write what came of it there, as Markdown")
    return parser
