"""The functions of the system: which there are, and how code becomes a version of one, which nobody is led to yet."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from botocore.exceptions import ClientError

from terraform.aliases import DeployError, code_of

READY_SECONDS: Final = 120.0
"""Longest that Lambda may take to make new code ready: a few seconds, and more where it has to make an interface."""

ASK_SECONDS: Final = 1.0

Pause = Callable[[float], None]
"""Waits for so many seconds; raises what ends the deployment when it is told to stop meanwhile."""


@dataclass(frozen=True, slots=True)
class Function:
    """A function of the system.

    Attributes:
        name: its whole name.
        kind: the name without that of the system, as terraform/modules has it: `router`, `queue-health`.
        architecture: what it runs on.
        environment: its settings, as the next version of it will have them.
    """

    name: str
    kind: str
    architecture: str
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Package:
    """A zip of `make lambda-package`, and the SHA-256 of it as Lambda writes it."""

    content: bytes
    sha256: str

    @classmethod
    def of(cls, content: bytes) -> Package:
        """Take the bytes of a zip."""
        return cls(content, base64.b64encode(hashlib.sha256(content).digest()).decode())


def kind_of(system: str, name: str, handler: str) -> str | None:
    """Return which function of a system this is, `None` for one that is not of it.

    The name alone does not tell, for those of a system `tl-fif-test` begin like those of `tl-fif`; the handler does.
    """
    kind = name.removeprefix(f"{system}-")
    module = "handler" if kind == "router" else kind.replace("-", "_")
    return kind if kind != name and handler == f"router_lambda.{module}.handler" else None


def find(client: Any, system: str) -> list[Function]:
    """Return the functions of a system in the order of their names.

    Raises:
        botocore.exceptions.ClientError: AWS refuses.
    """
    found = []
    for page in client.get_paginator("list_functions").paginate():
        for each in page["Functions"]:
            kind = kind_of(system, each["FunctionName"], each.get("Handler", ""))
            if kind is not None:
                architecture = (each.get("Architectures") or ["x86_64"])[0]
                environment = each.get("Environment", {}).get("Variables", {})
                found.append(Function(each["FunctionName"], kind, architecture, environment))
    return sorted(found, key=lambda function: function.name)


def packages(functions: list[Function], folder: Path, named: Path | None = None) -> dict[str, Package]:
    """Read the zip of each architecture that a function runs on: `named`, or those of `make lambda-package`.

    Raises:
        DeployError: it is not there, or functions of two architectures are to get one zip.
    """
    wanted = sorted({function.architecture for function in functions})
    if named is not None and len(wanted) > 1:
        raise DeployError(f"the functions run on {' and '.join(wanted)}, and --package names one zip; leave it out")
    found = {}
    for architecture in wanted:
        path = named or folder / f"tl-fif-router-{architecture}.zip"
        try:
            found[architecture] = Package.of(path.read_bytes())
        except OSError as error:
            raise DeployError(f"there is no package: {error}; run make lambda-package") from None
    return found


def versions(client: Any, function: str) -> Iterator[Mapping[str, Any]]:
    """Yield the configurations of a function's versions, `$LATEST` among them.

    Raises:
        botocore.exceptions.ClientError: AWS refuses.
    """
    for page in client.get_paginator("list_versions_by_function").paginate(FunctionName=function):
        yield from page["Versions"]


def publish(client: Any, function: Function, package: Package, description: str, pause: Pause) -> str:
    """Make a version of a function out of a package and its configuration; return the version.

    Lambda makes none where neither differs from the newest, and returns that one.

    Raises:
        DeployError: Lambda cannot take the code, or somebody else changes it at the same time.
        botocore.exceptions.ClientError: AWS refuses.
    """
    if configuration(client, function.name, pause)["CodeSha256"] != package.sha256:
        client.update_function_code(FunctionName=function.name, ZipFile=package.content, Publish=False)
        configuration(client, function.name, pause)
    try:
        made = client.publish_version(
            FunctionName=function.name, CodeSha256=package.sha256, Description=description[:256]
        )
    except ClientError as error:
        if code_of(error) != "InvalidParameterValueException":
            raise
        raise DeployError(
            f"the code of {function.name} is not what was uploaded, so somebody else changes it at the same time;"
            f" run this again when that has ended ({error})"
        ) from None
    return str(made["Version"])


def configuration(client: Any, function: str, pause: Pause, version: str | None = None) -> dict[str, Any]:
    """Wait until Lambda has made a function, or a version of it, ready; return its configuration.

    Raises:
        DeployError: it takes too long, or fails.
        botocore.exceptions.ClientError: AWS refuses, or there is no such version.
    """
    which = {"FunctionName": function} | ({} if version is None else {"Qualifier": version})
    waited = 0.0
    while True:
        found: dict[str, Any] = client.get_function_configuration(**which)
        state, update = found.get("State", "Active"), found.get("LastUpdateStatus", "Successful")
        if "Failed" in {state, update}:
            reason = found.get("LastUpdateStatusReason") or found.get("StateReason") or "it gives no reason"
            raise DeployError(f"Lambda cannot make {function} ready: {reason}; mend that, and deploy again")
        if state != "Pending" and update != "InProgress":
            return found
        if waited >= READY_SECONDS:
            raise DeployError(f"Lambda has not made {function} ready in {READY_SECONDS:.0f} s; deploy again later")
        pause(ASK_SECONDS)
        waited += ASK_SECONDS
