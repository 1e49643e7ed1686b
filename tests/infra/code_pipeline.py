"""CodePipeline, CodeBuild's projects and connections to GitHub as far as Terraform asks for them.

moto knows no trigger, refuses a project that a pipeline feeds, and has no connections. This keeps what it is given and
runs nothing. The rules of the real ones are kept that a pipeline can break: two of one name, a source that is not at
the beginning, an artifact that no stage before hands on, a trigger of an action that is not there.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final

from tests.infra.repeated_calls import Wsgi

_Body = dict[str, Any]

_SCOPE: Final = re.compile(r"/(?P<region>[a-z0-9-]+)/(?P<service>codebuild|codeconnections|codepipeline)/aws4_request")
_ACCOUNT: Final = "123456789012"


class Refused(Exception):
    """An error of a service: its name, and what it says."""


def _tagged(tags: list[_Body], new: Iterable[_Body], key: str) -> list[_Body]:
    """Return tags with new ones, or new values, whose key has this name."""
    merged = {each[key]: each for each in tags} | {each[key]: each for each in new}
    return list(merged.values())


class CodePipeline:
    """Pipelines, by ARN."""

    def __init__(self) -> None:
        self._made: dict[str, _Body] = {}
        self._tags: dict[str, list[_Body]] = {}

    def answer(self, region: str, call: str, body: _Body) -> _Body:
        """Answer a call.

        Raises:
            Refused: as the service would.
        """
        if call == "ListPipelines":
            return {"pipelines": [{"name": each["name"]} for each in self._made.values()]}
        name = body["pipeline"]["name"] if "pipeline" in body else body.get("name", "")
        arn = body.get("resourceArn", f"arn:aws:codepipeline:{region}:{_ACCOUNT}:{name}")
        if call == "CreatePipeline":
            if arn in self._made:
                raise Refused("PipelineNameInUseException", f"there is a pipeline {name} already")
            self._tags[arn] = body.get("tags", [])
        elif call == "DeletePipeline":  # of one that is not there, too
            self._made.pop(arn, None)
            return {}
        elif arn not in self._made:
            raise Refused("PipelineNotFoundException", f"there is no {arn}")
        if call in {"CreatePipeline", "UpdatePipeline"}:
            _check(body["pipeline"])
            version = self._made.get(arn, {"version": 0})["version"] + 1
            self._made[arn] = _filled(region, body["pipeline"]) | {"version": version}
            return {"pipeline": self._made[arn], "tags": self._tags[arn]}
        if call == "GetPipeline":
            return {"pipeline": self._made[arn], "metadata": {"pipelineArn": arn}}
        if call == "ListTagsForResource":
            return {"tags": self._tags[arn]}
        if call == "TagResource":
            self._tags[arn] = _tagged(self._tags[arn], body["tags"], "key")
            return {}
        raise Refused("InvalidActionException", f"{call} is not emulated; add it to {__name__}")


def _filled(region: str, pipeline: _Body) -> _Body:
    """Return a pipeline as the service tells of it: an action has a region, an order and a namespace's absence."""
    stages = [
        stage | {"actions": [{"runOrder": 1, "region": region} | each for each in stage["actions"]]}
        for stage in pipeline["stages"]
    ]
    return pipeline | {"stages": stages}


def _check(pipeline: _Body) -> None:
    """Refuse what the service refuses.

    Raises:
        Refused: with the reason.
    """
    stages = pipeline["stages"]
    if len({stage["name"] for stage in stages}) < len(stages):
        raise Refused("InvalidStageDeclarationException", "two stages have one name")
    handed_on: set[str] = set()
    for number, stage in enumerate(stages):
        for action in stage["actions"]:
            is_source = action["actionTypeId"]["category"] == "Source"
            if is_source != (number == 0):
                raise Refused("InvalidStructureException", "sources, and nothing else, are in the first stage")
            missing = {each["name"] for each in action.get("inputArtifacts", [])} - handed_on
            if missing:
                raise Refused("InvalidActionDeclarationException", f"no stage before hands on {missing}")
        handed_on |= {each["name"] for action in stage["actions"] for each in action.get("outputArtifacts", [])}
    sources = {action["name"] for action in stages[0]["actions"]}
    for trigger in pipeline.get("triggers", []):
        if pipeline.get("pipelineType") != "V2":
            raise Refused("InvalidStructureException", "triggers are of V2")
        if trigger["gitConfiguration"]["sourceActionName"] not in sources:
            raise Refused("InvalidStructureException", "a trigger names no source")


class CodeBuild:
    """Projects, by region and name."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, str], _Body] = {}

    def answer(self, region: str, call: str, body: _Body) -> _Body:
        """Answer a call.

        Raises:
            Refused: as the service would.
        """
        if call == "ListProjects":
            return {"projects": [name for place, name in self._made if place == region]}
        if call == "BatchGetProjects":
            # Names may be ARNs.
            names = [each.rpartition("/")[2] for each in body["names"]]
            return {"projects": [self._made[region, name] for name in names if (region, name) in self._made]}
        key = region, body["name"].rpartition("/")[2]
        if call == "DeleteProject":
            self._made.pop(key, None)
            return {}
        if call == "CreateProject":
            if key in self._made:
                raise Refused("ResourceAlreadyExistsException", f"there is a project {key[1]} already")
            arn = f"arn:aws:codebuild:{region}:{_ACCOUNT}:project/{key[1]}"
            # As the service fills them in.
            self._made[key] = {
                "arn": arn,
                "badge": {"badgeEnabled": False},
                "cache": {"type": "NO_CACHE"},
                "encryptionKey": f"arn:aws:kms:{region}:{_ACCOUNT}:alias/aws/s3",
                "projectVisibility": "PRIVATE",
                "queuedTimeoutInMinutes": 480,
                "timeoutInMinutes": 60,
            }
        elif call != "UpdateProject" or key not in self._made:
            raise Refused("InvalidInputException", f"{call} of {key[1]} is not emulated; add it to {__name__}")
        if body["artifacts"]["type"] != body["source"]["type"]:
            raise Refused("InvalidInputException", "CODEPIPELINE is the type of both, source and artifacts, or of none")
        self._made[key] |= body
        # Of variables and images the service tells what nobody said.
        environment = self._made[key]["environment"]
        environment.setdefault("imagePullCredentialsType", "CODEBUILD")
        for variable in environment.get("environmentVariables", []):
            variable.setdefault("type", "PLAINTEXT")
        return {"project": self._made[key]}


class Connections:
    """Connections to GitHub, by ARN; all are pending, for nobody confirms one."""

    def __init__(self) -> None:
        self._made: dict[str, _Body] = {}

    def answer(self, region: str, call: str, body: _Body) -> _Body:
        """Answer a call.

        Raises:
            Refused: as the service would.
        """
        if call == "ListConnections":
            return {"Connections": [{"ConnectionArn": arn} for arn in self._made]}
        if call == "CreateConnection":
            arn = f"arn:aws:codeconnections:{region}:{_ACCOUNT}:connection/{uuid.uuid4()}"
            kept = {"ConnectionArn": arn, "ConnectionStatus": "PENDING", "OwnerAccountId": _ACCOUNT, "Tags": []}
            self._made[arn] = kept | body
            return {"ConnectionArn": arn}
        arn = body.get("ConnectionArn") or body["ResourceArn"]
        if arn not in self._made:
            raise Refused("ResourceNotFoundException", f"there is no {arn}")
        if call == "GetConnection":
            return {"Connection": {key: value for key, value in self._made[arn].items() if key != "Tags"}}
        if call == "DeleteConnection":
            del self._made[arn]
            return {}
        if call == "ListTagsForResource":
            return {"Tags": self._made[arn]["Tags"]}
        if call == "TagResource":
            self._made[arn]["Tags"] = _tagged(self._made[arn]["Tags"], body["Tags"], "Key")
            return {}
        raise Refused("InvalidInputException", f"{call} is not emulated; add it to {__name__}")


def with_code_pipeline(others: Wsgi) -> Wsgi:
    """Answer calls of the three services, and leave those of all others to `others`."""
    services: dict[str, Callable[[str, str, _Body], _Body]] = {
        "codebuild": CodeBuild().answer,
        "codeconnections": Connections().answer,
        "codepipeline": CodePipeline().answer,
    }

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope is None:
            return others(environ, start_response)
        body = json.loads(environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0)) or b"{}")
        call = environ["HTTP_X_AMZ_TARGET"].rpartition(".")[2]
        try:
            answer = services[scope["service"]](scope["region"], call, body)
            status = "200 OK"
        except Refused as refused:
            error, message = refused.args
            answer, status = {"__type": error, "message": message}, "400 Bad Request"
        start_response(status, [("Content-Type", "application/x-amz-json-1.1")])
        return [json.dumps(answer).encode()]

    return app
