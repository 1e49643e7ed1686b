"""Where the service is and what the client may use there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from client.errors import InvalidSettings

DEFAULT_DEADLINE_SECONDS: Final = 600.0
"""A job waits at most 300 s in the queue; the other half is for a long answer."""

LOOPBACK_HOSTS: Final = ("localhost", "127.0.0.1", "::1")

_TOKEN = re.compile(r"[!-~]+")
"""RFC 6750 allows less; what matters here is that no character can end the header line."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Checked when built.

    Attributes:
        url: base URL of the gateway, a stage path included.
        token: sent as `Authorization: Bearer`, to the gateway only.
        deadline_seconds: longest time from a POST to its final reply.

    Raises:
        InvalidSettings: naming everything that is wrong at once.
    """

    url: str
    token: str = field(repr=False)
    deadline_seconds: float = DEFAULT_DEADLINE_SECONDS

    def __post_init__(self) -> None:
        problems = [*service_url_problems(self.url), *_token_problems(self.token)]
        if not 0 < self.deadline_seconds < math.inf:
            problems.append("the deadline must be a number of seconds above 0")
        if problems:
            raise InvalidSettings(problems)

    @classmethod
    def read(
        cls,
        url: str | None,
        token: str | None,
        deadline_seconds: float,
        environment: Mapping[str, str],
        stored_token: Callable[[str], str],
    ) -> Settings:
        """Take what the command line gives and the rest from `TLFIF_URL` and `TLFIF_TOKEN`.

        `stored_token` is asked for a token for the URL when neither names one, and returns "" if it has none.

        Raises:
            ClientError: what `stored_token` raises, besides what is wrong with the settings.
        """
        url = given(url, "TLFIF_URL", environment)
        if token is None:
            token = environment.get("TLFIF_TOKEN") or ("" if service_url_problems(url) else stored_token(url))
        return cls(url=url, token=token, deadline_seconds=deadline_seconds)

    def endpoint(self, route: str) -> str:
        """Return the address of a route such as `/infer`."""
        return self.url.rstrip("/") + route


def given(option: str | None, variable: str, environment: Mapping[str, str]) -> str:
    """Return the option of the command line, or the variable, or nothing."""
    return environment.get(variable, "") if option is None else option


def service_url_problems(url: str) -> list[str]:
    """Say what is wrong with the base URL of the gateway."""
    return url_problems(url, "the service's URL", "give --url or set TLFIF_URL", "https://host/stage")


def url_problems(url: str, name: str, how: str, example: str) -> list[str]:
    """Say what is wrong with a URL that secrets are sent to; `how` tells where it comes from."""
    if not url:
        return [f"{name} is missing; {how}"]
    try:
        parts = urlsplit(url)
        _ = parts.port  # parsed, and refused, only when read
    except ValueError:
        return [f"{name} cannot be parsed; give one like {example}"]
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or "@" in url:
        return [f"{name} must be https://host with at most a port and a path"]
    if parts.scheme == "http" and parts.hostname not in LOOPBACK_HOSTS:
        return [f"{name} must be https, or secrets travel in the clear; http is for loopback only"]
    return []


def _token_problems(token: str) -> list[str]:
    if not token:
        return ["the token is missing; log in with `tlfif login`, or set TLFIF_TOKEN or give --token"]
    if not _TOKEN.fullmatch(token):
        return ["the token has spaces or characters outside ASCII; copy it again, without line breaks"]
    return []
