"""The alias `prod` of a function: where it leads, and how it is moved without undoing what somebody else has done.

Callers know the alias alone. It leads to one version, and during a canary sends a share of the calls to another.
Every change carries the revision that was read before it, so that of two who change an alias at once one is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from botocore.exceptions import BotoCoreError, ClientError

ALIAS: Final = "prod"

TRIES: Final = 3
"""How often an alias is put back that somebody else moves at the same time."""


class DeployError(Exception):
    """A deployment or a rollback cannot go on; the message says what to do next."""


class MovedMeanwhile(DeployError):
    """Somebody else has moved an alias, or deploys at the same time."""


@dataclass(frozen=True, slots=True)
class Alias:
    """Where one function's alias leads.

    Attributes:
        function: the function's name.
        version: the version that it leads to.
        weights: shares of the calls, 0 to 1, that go to other versions.
        revision: what Lambda calls this state of the alias.
    """

    function: str
    version: str
    weights: Mapping[str, float] = field(default_factory=dict)
    revision: str = ""

    def leads_to(self, version: str) -> bool:
        """Tell whether any calls go to a version."""
        return version == self.version or version in self.weights

    def __str__(self) -> str:
        shares = "".join(f", {share:.0%} of the calls to {version}" for version, share in self.weights.items())
        return f"{self.version}{shares}"


@dataclass(frozen=True, slots=True)
class Change:
    """What a deployment does to one function: from the version `before` to the version `now`."""

    now: str
    before: str


def code_of(error: ClientError) -> str:
    """Return AWS's name of an error."""
    return str(error.response.get("Error", {}).get("Code", ""))


def _alias(function: str, answer: Mapping[str, Any]) -> Alias:
    weights = (answer.get("RoutingConfig") or {}).get("AdditionalVersionWeights") or {}
    return Alias(function, answer["FunctionVersion"], dict(weights), answer["RevisionId"])


def read(client: Any, function: str) -> Alias | None:
    """Return a function's alias, `None` where it has none.

    Raises:
        botocore.exceptions.ClientError: AWS refuses.
    """
    try:
        return _alias(function, client.get_alias(FunctionName=function, Name=ALIAS))
    except ClientError as error:
        if code_of(error) == "ResourceNotFoundException":
            return None
        raise


def move(client: Any, alias: Alias, version: str, weights: Mapping[str, float] | None = None) -> Alias:
    """Let an alias lead to a version, with shares for others; return what it is now.

    Raises:
        MovedMeanwhile: it is not what was read any more.
        botocore.exceptions.ClientError: AWS refuses.
    """
    wanted = dict(weights or {})
    try:
        answer = client.update_alias(
            FunctionName=alias.function,
            Name=ALIAS,
            FunctionVersion=version,
            RoutingConfig={"AdditionalVersionWeights": wanted},
            RevisionId=alias.revision,
        )
    except ClientError as error:
        if code_of(error) != "PreconditionFailedException":
            raise
        found = read(client, alias.function)
        # A change whose answer was lost is sent again by the SDK, and refused for having been made.
        if found is not None and (found.version, found.weights) == (version, wanted):
            return found
        raise MovedMeanwhile(
            f"somebody else has moved the alias {ALIAS} of {alias.function}, which leads to {found or 'nothing'} now;"
            " see who deploys or rolls back, and run this again when that has ended"
        ) from None
    return _alias(alias.function, answer)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one function's alias; `text` says it in words."""

    text: str
    has_moved: bool = False
    is_well: bool = True

    def __str__(self) -> str:
        return self.text


def put_back(client: Any, function: str, target: str, only_from: str | None = None) -> Outcome:
    """Let a function's alias lead to the version `target`, if it still leads to `only_from`, or in any case.

    It does not raise: whoever puts back one function goes on with the next.
    """
    reason = "somebody else moves it all the time; run this again"
    for _ in range(TRIES):
        try:
            return _put_back(client, function, target, only_from)
        except MovedMeanwhile:
            continue
        except (BotoCoreError, ClientError) as error:
            is_gone = isinstance(error, ClientError) and code_of(error) == "ResourceNotFoundException"
            reason = gone(function, target) if is_gone else f"{error}; run this again"
            break
    return Outcome(f"{function} cannot go back to {target}: {reason}", is_well=False)


def _put_back(client: Any, function: str, target: str, only_from: str | None) -> Outcome:
    found = read(client, function)
    if found is None:
        return Outcome(f"{function} has no alias {ALIAS}; run terraform apply, which makes it", is_well=False)
    if (found.version, found.weights) == (target, {}):
        return Outcome(f"{function} is at {target} already")
    if only_from is not None and not found.leads_to(only_from):
        return Outcome(f"{function} is at {found}, where somebody else has moved it: left alone")
    move(client, found, target)
    return Outcome(f"{function}: {found} → {target}", has_moved=True)


def gone(function: str, version: str) -> str:
    """Say what to do when a version is not there any more."""
    return (
        f"the version {version} of {function} is gone, for only the newest are kept; check out the release that you"
        " want, and run make lambda-package and make deploy there"
    )
