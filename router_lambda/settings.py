"""The settings of the Lambdas, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Final
from urllib.parse import urlsplit

DEFAULT_GPU_TAG: Final = "env=tinyllama"

DEFAULT_PING_CIDRS: Final = "10.20.0.0/22"
"""The VPC that `terraform/` makes."""

_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_JWT_NAMES: Final = ("TLFIF_JWKS_URL", "TLFIF_JWT_ISSUER", "TLFIF_JWT_AUDIENCE")


class RouterConfigError(Exception):
    """The function's environment is incomplete or wrong; the message names every variable that is."""


@dataclass(frozen=True, slots=True)
class JwtSettings:
    """Whose tokens are let in.

    Attributes:
        jwks_url: where the issuer publishes its keys; `https`, or `http` on loopback.
        issuer: what `iss` must be.
        audience: the app client's id: `client_id` of an access token, `aud` of an id token.
        disabled: every token is let in, as the user `local`; for the local stack alone.
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
        if environment.get("TL_DISABLE_JWT", "0") == "1":
            if not _is_local(environment):
                raise RouterConfigError(
                    "unset TL_DISABLE_JWT: it lets everybody in and is for the local stack alone, where"
                    " AWS_ENDPOINT_URL_S3 leads to this machine and no Lambda runs"
                )
            return cls("", "", "", disabled=True)
        problems = _missing(environment, _JWT_NAMES)
        if (url := environment.get("TLFIF_JWKS_URL")) and not _is_private_url(url):
            problems.append("make TLFIF_JWKS_URL an https address: whoever changes the keys on their way gets in")
        _raise_any(problems)
        return cls(*(environment[name] for name in _JWT_NAMES))


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router needs to know. AWS endpoints, region and credentials come by the SDK's own variables.

    Attributes:
        gpu_tag: name and value of the EC2 tag that marks the GPU's instance.
        ping_cidrs: source addresses that may ask for health.
        jwt: how to verify a token when no authorizer did; `None` when no request comes that way.
    """

    redis_url: str
    bucket: str
    gpu_tag: tuple[str, str] = ("env", "tinyllama")
    ping_cidrs: tuple[IPv4Network | IPv6Network, ...] = ()
    jwt: JwtSettings | None = None

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RouterSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        problems = _missing(environment, ("TLFIF_REDIS_URL", "TLFIF_BUCKET"))
        name, equals, value = (environment.get("TLFIF_GPU_TAG") or DEFAULT_GPU_TAG).partition("=")
        if not (name and equals and value):
            problems.append(f"write TLFIF_GPU_TAG as name=value, like {DEFAULT_GPU_TAG}")
        cidrs = read_cidrs(environment, problems)
        jwt = None
        if any(environment.get(name) for name in (*_JWT_NAMES, "TL_DISABLE_JWT")):
            try:
                jwt = JwtSettings.from_environment(environment)
            except RouterConfigError as error:
                problems.append(str(error))
        _raise_any(problems)
        return cls(environment["TLFIF_REDIS_URL"], environment["TLFIF_BUCKET"], (name, value), cidrs, jwt)


def read_cidrs(environment: Mapping[str, str], problems: list[str]) -> tuple[IPv4Network | IPv6Network, ...]:
    """Read `TLFIF_PING_CIDRS`, IPv4 and IPv6 networks between commas; what is wrong is added to `problems`."""
    found = []
    for text in (environment.get("TLFIF_PING_CIDRS") or DEFAULT_PING_CIDRS).split(","):
        try:
            found.append(ip_network(text.strip()))
        except ValueError as error:
            problems.append(f"mend TLFIF_PING_CIDRS: {error}")
    return tuple(found)


def _missing(environment: Mapping[str, str], names: tuple[str, ...]) -> list[str]:
    return [f"set {name}" for name in names if not environment.get(name)]


def _raise_any(problems: list[str]) -> None:
    if problems:
        raise RouterConfigError(f"in the function's environment: {'; '.join(problems)}")


def _is_private_url(url: str) -> bool:
    """Tell whether nobody on the way can read or change what comes from there."""
    parts = urlsplit(url)
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _is_local(environment: Mapping[str, str]) -> bool:
    endpoint = environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    return "AWS_LAMBDA_FUNCTION_NAME" not in environment and urlsplit(endpoint).hostname in _LOOPBACK
