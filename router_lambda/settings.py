"""The settings of the Lambdas, read once from the environment."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final, TypeVar
from urllib.parse import urlsplit

DEFAULT_GPU_TAG: Final = "env=tinyllama"

DEFAULT_PING_CIDRS: Final = "10.20.0.0/22"
"""The VPC that `terraform/` makes."""

DEFAULT_MAX_SESSION_MINUTES: Final = 240
"""How long the GPU may run without a break, in minutes."""

MAX_SESSION_MINUTES: Final = range(10, 1_441)
"""What the longest session may be set to, in minutes: more than a boot takes, a day at most."""

DEFAULT_MAX_GPUS: Final = 1
"""How many GPUs may run at a time: each costs as much as the first."""

MAX_GPUS: Final = range(1, 17)
"""What that may be set to."""

MAX_BUDGET_EUR: Final = 10_000.0
"""What a month's budget may be set to at most, in EUR: more is a slip of the pen."""

LEEWAY_SECONDS: Final = 10
"""How far the issuer's clock and ours may be apart: a token lives so much longer, and is valid so much sooner."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_WHOLE_NUMBER: Final = re.compile(r"[0-9]{1,9}")
_DECIMAL: Final = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?")
_JWT_NAMES: Final = ("TLFIF_JWKS_URL", "TLFIF_JWT_ISSUER", "TLFIF_JWT_AUDIENCE")


Networks = tuple[IPv4Network | IPv6Network, ...]


class RouterConfigError(Exception):
    """The function's environment is incomplete or wrong; `problems` says what to do about each variable."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(f"in the function's environment: {'; '.join(problems)}")
        self.problems = problems


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Whose tokens are let in.

    Attributes:
        jwks_url: where the issuer publishes its keys; `https`, or `http` on loopback.
        issuer: what `iss` must be, character for character.
        audience: the app client's id: `client_id` of an access token, `aud` of an id token.
        disabled: with `1` every token is let in, as the user `local`; for the local stack alone, and refused where a
            Lambda runs or S3 is not on this machine.
    """

    jwks_url: str
    issuer: str
    audience: str
    disabled: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> JwtSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        if _is_disabled(environment):
            if not _is_local(environment):
                problem = (
                    "unset TL_DISABLE_JWT: it lets everybody in and is for the local stack alone, where"
                    " AWS_ENDPOINT_URL_S3 leads to this machine and no Lambda runs"
                )
                raise RouterConfigError([problem])
            return cls("", "", "", disabled=True)
        problems = missing(environment, _JWT_NAMES)
        if (url := environment.get("TLFIF_JWKS_URL")) and not is_private(url):
            problems.append("make TLFIF_JWKS_URL an https address: whoever changes the keys on their way gets in")
        raise_any(problems)
        url, issuer, audience = (environment[name] for name in _JWT_NAMES)
        return cls(url, issuer, audience)


@dataclass(frozen=True, slots=True)
class HealthSettings:
    """What a look at the queue's health takes.

    Attributes:
        redis_url: `redis://` or `rediss://` address of the queue.
        ping_cidrs: networks whose addresses may ask `/ping` and `/queue-health`, IPv4 and IPv6, separated by commas.
    """

    redis_url: str
    ping_cidrs: Networks = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> HealthSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems: list[str] = []
        url = read_redis_url(environment, problems)
        networks = []
        for text in (environment.get("TLFIF_PING_CIDRS") or DEFAULT_PING_CIDRS).split(","):
            try:
                networks.append(ip_network(text.strip()))
            except ValueError as error:
                problems.append(f"mend TLFIF_PING_CIDRS: {error}")
        raise_any(problems)
        return cls(url, tuple(networks))


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router needs to know. AWS endpoints, region and credentials come by the SDK's own variables.

    Attributes:
        bucket: the bucket of the replies.
        gpu_tag: name and value of the EC2 tag that marks the GPU's instance.
        jwt: how to verify a token when no authorizer did; `None` when no request comes that way.
        max_gpus: how many instances may run at a time.
        budget_eur: the month's cap in EUR, from which on no instance is started; unset: no limit.
    """

    health: HealthSettings
    bucket: str
    gpu_tag: tuple[str, str]
    jwt: JwtSettings | None = None
    max_gpus: int = DEFAULT_MAX_GPUS
    budget_eur: float | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RouterSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems = missing(environment, ("TLFIF_BUCKET",))
        gpu_tag = read_gpu_tag(environment, problems)
        max_gpus = read_number(environment, "TLFIF_MAX_GPUS", DEFAULT_MAX_GPUS, MAX_GPUS, problems)
        budget = read_budget(environment, problems) if environment.get("TLFIF_BUDGET_EUR") else None
        health = _collected(HealthSettings, environment, problems)
        has_jwt = _is_disabled(environment) or any(environment.get(name) for name in _JWT_NAMES)
        jwt = _collected(JwtSettings, environment, problems) if has_jwt else None
        raise_any(problems)
        assert health is not None
        return cls(health, environment["TLFIF_BUCKET"], gpu_tag, jwt, max_gpus, budget)


@dataclass(frozen=True, slots=True)
class ReaperSettings:
    """What the reaper needs to know.

    Attributes:
        redis_url: `redis://` or `rediss://` address of the queue.
        gpu_tag: name and value of the EC2 tag that marks the GPU's instances.
        max_session_minutes: how long an instance may run without a break, in minutes.
    """

    redis_url: str
    gpu_tag: tuple[str, str]
    max_session_minutes: int = DEFAULT_MAX_SESSION_MINUTES

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> ReaperSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems: list[str] = []
        url = read_redis_url(environment, problems)
        gpu_tag = read_gpu_tag(environment, problems)
        minutes = read_number(
            environment, "TLFIF_MAX_SESSION_MINUTES", DEFAULT_MAX_SESSION_MINUTES, MAX_SESSION_MINUTES, problems
        )
        raise_any(problems)
        return cls(url, gpu_tag, minutes)


_Part = TypeVar("_Part", HealthSettings, JwtSettings)


def _collected(part: type[_Part], environment: Mapping[str, str], problems: list[str]) -> _Part | None:
    try:
        return part.from_environment(environment)
    except RouterConfigError as error:
        problems.extend(error.problems)
        return None


def read_redis_url(environment: Mapping[str, str], problems: list[str]) -> str:
    """Return the queue's address; what is wrong with it goes to `problems`."""
    url = environment.get("TLFIF_REDIS_URL", "")
    if not url:
        problems.append("set TLFIF_REDIS_URL")
    elif not _is_redis(url):
        problems.append("write TLFIF_REDIS_URL like redis://host:6379/0")
    return url


def read_number(environment: Mapping[str, str], name: str, default: int, allowed: range, problems: list[str]) -> int:
    """Return a whole number; what is wrong with it goes to `problems`."""
    text = environment.get(name) or str(default)
    if _WHOLE_NUMBER.fullmatch(text) and int(text) in allowed:
        return int(text)
    problems.append(f"set {name} to a whole number from {allowed[0]} to {allowed[-1]}")
    return default


def read_amount(
    environment: Mapping[str, str],
    name: str,
    problems: list[str],
    most: float = math.inf,
    *,
    allows_zero: bool = False,
) -> float:
    """Return an amount that has to be given; what is wrong with it goes to `problems`."""
    text = environment.get(name, "")
    amount = float(text) if _DECIMAL.fullmatch(text) else -1.0
    if 0 < amount <= most or (allows_zero and amount == 0):
        return amount
    least = "0 or more" if allows_zero else "more than 0"
    limit = "" if math.isinf(most) else f" and at most {most:g}"
    problems.append(f"set {name} to a number that is {least}{limit}, like 12.5")
    return amount


def read_budget(environment: Mapping[str, str], problems: list[str]) -> float:
    """Return the month's cap in EUR; what is wrong with it goes to `problems`."""
    return read_amount(environment, "TLFIF_BUDGET_EUR", problems, MAX_BUDGET_EUR)


def read_gpu_tag(environment: Mapping[str, str], problems: list[str]) -> tuple[str, str]:
    """Return name and value of the tag; what is wrong with it goes to `problems`."""
    default = {"TLFIF_GPU_TAG": environment.get("TLFIF_GPU_TAG") or DEFAULT_GPU_TAG}
    return read_tag(default, "TLFIF_GPU_TAG", DEFAULT_GPU_TAG, problems) or ("", "")


def read_tag(environment: Mapping[str, str], variable: str, like: str, problems: list[str]) -> tuple[str, str] | None:
    """Return name and value of a tag, `None` if there is none; what is wrong with it goes to `problems`."""
    name, equals, value = environment.get(variable, "").partition("=")
    if name and equals and value:
        return name, value
    if environment.get(variable):
        problems.append(f"write {variable} as name=value, like {like}")
    return None


def _is_disabled(environment: Mapping[str, str]) -> bool:
    return environment.get("TL_DISABLE_JWT") == "1"


def missing(environment: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    """Return what to do about the variables that are not set, or empty."""
    return [f"set {name}" for name in names if not environment.get(name)]


def raise_any(problems: list[str]) -> None:
    """Raise `RouterConfigError` if there are problems."""
    if problems:
        raise RouterConfigError(problems)


def _place(url: str) -> tuple[str, str]:
    """Return an address's scheme and host, both empty if it is none."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "", ""
    return parts.scheme, parts.hostname or ""


def _is_redis(url: str) -> bool:
    scheme, host = _place(url)
    return scheme == "unix" or (scheme in {"redis", "rediss"} and host != "")


def is_private(url: str) -> bool:
    """Tell whether nobody on the way can change what comes from there."""
    scheme, host = _place(url)
    return host != "" and (scheme == "https" or (scheme == "http" and host in _LOOPBACK))


def _is_local(environment: Mapping[str, str]) -> bool:
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    return "AWS_LAMBDA_FUNCTION_NAME" not in environment and _place(endpoint)[1] in _LOOPBACK
