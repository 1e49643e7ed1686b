"""A fake of Lambda with the functions of a system, their versions and aliases.

It keeps to Lambda's rules that moto does not know: an alias changes only for who names its revision, a version is
published only of the code that the caller means, once, and under a number of its own.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from tests.fake_deploy_aws import NAME, Calls, FakeClient, refusal

KINDS: Final = ("authorizer", "queue-health", "router", "waker")
OLD: Final = b"the code of 0.8.0"
NEW: Final = b"the code of 0.9.0"
TRACE: Final = "1-67891233-abcdef012345678912345678"


def sha(content: bytes) -> str:
    """Return a SHA-256 as Lambda writes it."""
    return base64.b64encode(hashlib.sha256(content).digest()).decode()


def answer(kind: str, event: Mapping[str, Any]) -> Any:
    """Answer as the functions do."""
    if kind == "authorizer":
        return {"isAuthorized": False}
    if event["requestContext"]["http"]["method"] == "OPTIONS":
        return {"statusCode": 204, "body": ""}
    body = {"status": "ok"} if kind == "router" else {"redis": "ok", "latencyMs": 0.3}
    return {"statusCode": 200, "body": json.dumps(body)}


@dataclass
class _Code:
    sha: str
    content: bytes
    description: str
    environment: dict[str, str]


@dataclass
class _FakeFunction:
    kind: str
    latest: _Code
    versions: dict[str, _Code] = field(default_factory=dict)
    alias: dict[str, Any] | None = None
    count: int = 0
    update: list[str] = field(default_factory=list)
    """What LastUpdateStatus says for the next questions."""


class FakeLambda(FakeClient):
    """Lambda with the functions of a system."""

    def __init__(self, calls: Calls) -> None:
        super().__init__(calls)
        self.made: dict[str, _FakeFunction] = {}
        self.answers: dict[bytes, Callable[[str, Mapping[str, Any]], Any]] = {}
        self.revisions = 0
        for kind in KINDS:
            self.add(kind)

    def add(self, kind: str) -> None:
        """Make a function of the old code, at version 7 of seven."""
        environment = {"TLFIF_PING_CIDRS": "10.20.0.0/22,2001:db8::/56", "TLFIF_GPU_TAG": "env=tinyllama"}
        made = _FakeFunction(kind, _Code("", b"", "what it does", environment))
        self.made[f"{NAME}-{kind}"] = made
        for number in range(1, 8):
            made.latest.content, made.latest.sha = (OLD, sha(OLD)) if number == 7 else (b"%d" % number, str(number))
            made.count = number
            made.versions[str(number)] = _Code(made.latest.sha, made.latest.content, f"0.{number + 1}.0 c{number}", {})
            made.versions[str(number)].environment = environment
        made.alias = {"FunctionVersion": "7", "RoutingConfig": None, "RevisionId": self._revision()}

    def _revision(self) -> str:
        self.revisions += 1
        return f"revision-{self.revisions}"

    def _function(self, name: str) -> _FakeFunction:
        if name not in self.made:
            raise refusal("ResourceNotFoundException", f"Function not found: {name}")
        return self.made[name]

    def leads(self) -> dict[str, str]:
        """Return where each alias leads, in words."""
        found = {}
        for name, each in self.made.items():
            assert each.alias is not None
            weights = (each.alias["RoutingConfig"] or {}).get("AdditionalVersionWeights") or {}
            found[name.removeprefix(f"{NAME}-")] = each.alias["FunctionVersion"] + "".join(
                f"+{version}:{share:g}" for version, share in weights.items()
            )
        return found

    def by_hand(self, name: str, version: str) -> None:
        """Lead an alias elsewhere, as somebody else would."""
        self.made[name].alias = {"FunctionVersion": version, "RoutingConfig": None, "RevisionId": self._revision()}

    def on_list_functions(self) -> Any:
        """See Lambda's API."""
        listed = []
        for name, each in self.made.items():
            module = "handler" if each.kind == "router" else each.kind.replace("-", "_")
            listed.append(
                {
                    "FunctionName": name,
                    "Handler": f"router_lambda.{module}.handler",
                    "Architectures": ["arm64"],
                    "Environment": {"Variables": dict(each.latest.environment)},
                }
            )
        return {"Functions": listed}

    def on_get_alias(self, FunctionName: str, Name: str) -> Any:  # noqa: N803 - the API's names, here and below
        """See Lambda's API."""
        assert Name == "prod"
        alias = self._function(FunctionName).alias
        if alias is None:
            raise refusal("ResourceNotFoundException", "Cannot find alias")
        return dict(alias)

    def on_list_aliases(self, FunctionName: str) -> Any:  # noqa: N803
        """See Lambda's API."""
        alias = self._function(FunctionName).alias
        return {"Aliases": [] if alias is None else [{k: v for k, v in alias.items() if v is not None}]}

    def on_update_alias(
        self,
        FunctionName: str,  # noqa: N803
        Name: str,  # noqa: N803
        FunctionVersion: str,  # noqa: N803
        RoutingConfig: Any,  # noqa: N803
        RevisionId: str,  # noqa: N803
    ) -> Any:
        """See Lambda's API."""
        found = self._function(FunctionName)
        alias = self.on_get_alias(FunctionName, Name)
        if RevisionId != alias["RevisionId"]:
            raise refusal("PreconditionFailedException", "The Revision Id provided does not match")
        for version in (FunctionVersion, *RoutingConfig["AdditionalVersionWeights"]):
            if version not in found.versions:
                raise refusal("ResourceNotFoundException", f"Function not found: {FunctionName}:{version}")
        found.alias = {
            "FunctionVersion": FunctionVersion,
            "RoutingConfig": RoutingConfig,
            "RevisionId": self._revision(),
        }
        return dict(found.alias)

    def on_list_versions_by_function(self, FunctionName: str) -> Any:  # noqa: N803
        """See Lambda's API."""
        found = self._function(FunctionName)
        listed = [{"Version": number, "Description": each.description} for number, each in found.versions.items()]
        return {"Versions": [{"Version": "$LATEST", "Description": "what it does"}, *listed]}

    def on_get_function_configuration(self, FunctionName: str, Qualifier: str | None = None) -> Any:  # noqa: N803
        """See Lambda's API."""
        found = self._function(FunctionName)
        code = found.latest if Qualifier is None else found.versions.get(Qualifier)
        if code is None:
            raise refusal("ResourceNotFoundException", f"Function not found: {FunctionName}:{Qualifier}")
        status = found.update.pop(0) if found.update and Qualifier is None else "Successful"
        return {
            "CodeSha256": code.sha,
            "State": "Active",
            "LastUpdateStatus": status,
            "LastUpdateStatusReason": "the zip is too large" if status == "Failed" else None,
            "Environment": {"Variables": dict(code.environment)},
        }

    def on_update_function_code(self, FunctionName: str, ZipFile: bytes, Publish: bool) -> Any:  # noqa: FBT001, N803
        """See Lambda's API."""
        assert not Publish
        latest = self._function(FunctionName).latest
        latest.content, latest.sha = ZipFile, sha(ZipFile)
        return {}

    def on_publish_version(self, FunctionName: str, CodeSha256: str, Description: str) -> Any:  # noqa: N803
        """See Lambda's API."""
        found = self._function(FunctionName)
        if found.latest.sha != CodeSha256:
            raise refusal("InvalidParameterValueException", "CodeSHA256 is different from current CodeSHA256")
        newest = found.versions.get(str(found.count))
        if newest is None or (newest.sha, newest.environment) != (found.latest.sha, found.latest.environment):
            found.count += 1
            found.versions[str(found.count)] = _Code(
                found.latest.sha, found.latest.content, Description, found.latest.environment
            )
        return {"Version": str(found.count)}

    def on_invoke(self, FunctionName: str, Qualifier: str, Payload: bytes) -> Any:  # noqa: N803
        """See Lambda's API."""
        found = self._function(FunctionName)
        behave = self.answers.get(found.versions[Qualifier].content, answer)
        headers = {"x-amzn-trace-id": f"Root={TRACE};Parent=abcdef0123456789;Sampled=1"}
        try:
            said = behave(found.kind, json.loads(Payload))
        except Exception as error:  # noqa: BLE001 - whatever a function raises
            said = {"errorMessage": str(error), "errorType": type(error).__name__}
            return {"FunctionError": "Unhandled", "Payload": io.BytesIO(json.dumps(said).encode())}
        text = said.encode() if isinstance(said, str) else json.dumps(said).encode()
        return {"Payload": io.BytesIO(text), "ResponseMetadata": {"HTTPHeaders": headers}}

    def on_delete_function(self, FunctionName: str, Qualifier: str) -> Any:  # noqa: N803
        """See Lambda's API."""
        found = self._function(FunctionName)
        assert Qualifier != (found.alias or {}).get("FunctionVersion"), "Lambda refuses: an alias leads there"
        if found.versions.pop(Qualifier, None) is None:
            raise refusal("ResourceNotFoundException", f"Function not found: {FunctionName}:{Qualifier}")
        return {}
