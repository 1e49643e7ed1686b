"""EC2 Image Builder as far as Terraform asks for it: moto has none. It keeps what it is given, and bakes nothing.

Two rules of the real one are kept, for they decide in which order things can be replaced: what another resource names
cannot be deleted, and what is there cannot be made a second time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Final
from urllib.parse import parse_qs, unquote

from tests.infra.repeated_calls import Wsgi

_Body = dict[str, Any]

_SCOPE: Final = re.compile(r"/(?P<region>[a-z0-9-]+)/imagebuilder/aws4_request")
_CALL: Final = re.compile(r"/(?P<verb>Create|Get|Update|Delete)(?P<kind>\w+)")
_KINDS: Final = {
    "Component": "component",
    "ImageRecipe": "image-recipe",
    "InfrastructureConfiguration": "infrastructure-configuration",
    "DistributionConfiguration": "distribution-configuration",
    "ImagePipeline": "image-pipeline",
    "LifecyclePolicy": "lifecycle-policy",
}
_ACCOUNT: Final = "123456789012"


class Refused(Exception):
    """An error of the service: its name, and what it says."""


class ImageBuilder:
    """What was made, by ARN."""

    def __init__(self) -> None:
        self._made: dict[str, _Body] = {}

    def answer(self, region: str, method: str, path: str, query: dict[str, list[str]], body: _Body) -> _Body:
        """Answer a call.

        Raises:
            Refused: as the service would.
        """
        if path.startswith("/tags/"):
            return self._tags(unquote(path.removeprefix("/tags/")), method, query, body)
        call = _CALL.fullmatch(path)
        if call is None or call["kind"] not in _KINDS:
            raise Refused("InvalidRequestException", f"{method} {path} is not emulated; add it to {__name__}")
        name = call["kind"][0].lower() + call["kind"][1:]
        # Components alone are named by the ARN of a build of them.
        key = f"{name}BuildVersionArn" if name == "component" else f"{name}Arn"
        if call["verb"] == "Create":
            return {key: self._create(region, call["kind"], body)}
        arn = body[key] if call["verb"] == "Update" else query[key][0]
        kept = self._find(arn)
        if call["verb"] == "Get":
            return {name: kept}
        if call["verb"] == "Update":
            kept |= body
        else:
            self._delete(arn)
        return {key: arn}

    def _find(self, arn: str) -> _Body:
        if arn not in self._made:
            raise Refused("ResourceNotFoundException", f"there is no {arn}")
        return self._made[arn]

    def _create(self, region: str, kind: str, body: _Body) -> str:
        version = f"/{body['semanticVersion']}" if "semanticVersion" in body else ""
        build = "/1" if kind == "Component" else ""
        arn = f"arn:aws:imagebuilder:{region}:{_ACCOUNT}:{_KINDS[kind]}/{body['name'].lower()}{version}{build}"
        if arn in self._made:
            raise Refused("ResourceAlreadyExistsException", f"{arn} is there already")
        for named in _named(body):
            self._find(named)
        # As the service fills them in.
        filled = {"arn": arn, "tags": {}, "status": "ENABLED", "owner": _ACCOUNT, "type": "BUILD", "encrypted": True}
        self._made[arn] = filled | body | {"version": body.get("semanticVersion")}
        return arn

    def _delete(self, arn: str) -> None:
        users = [other for other, body in self._made.items() if other != arn and arn in _named(body)]
        if users:
            raise Refused("ResourceDependencyException", f"{arn} has other resources depended on it: {users}")
        del self._made[arn]

    def _tags(self, arn: str, method: str, query: dict[str, list[str]], body: _Body) -> _Body:
        tags = self._find(arn)["tags"]
        if method == "POST":
            tags |= body["tags"]
        elif method == "DELETE":
            for key in query["tagKeys"]:
                tags.pop(key, None)
        return {"tags": tags}


def _named(body: _Body) -> set[str]:
    """Return the ARNs of our own resources that one names; a parent image is AWS's."""
    text = json.dumps({key: value for key, value in body.items() if key != "arn"})
    return set(re.findall(rf'"(arn:aws:imagebuilder:[a-z0-9-]+:{_ACCOUNT}:[^"]+)"', text))


def with_image_builder(others: Wsgi) -> Wsgi:
    """Answer calls of Image Builder, and leave those of all other services to `others`."""
    builder = ImageBuilder()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        scope = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
        if scope is None:
            return others(environ, start_response)
        text = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        query = parse_qs(environ.get("QUERY_STRING", ""))
        headers = [("Content-Type", "application/json")]
        try:
            answer = builder.answer(
                scope["region"], environ["REQUEST_METHOD"], environ["PATH_INFO"], query, json.loads(text or b"{}")
            )
            status = "200 OK"
        except Refused as refused:
            error, message = refused.args
            headers.append(("x-amzn-ErrorType", error))
            answer, status = {"message": message}, "400 Bad Request"
        start_response(status, headers)
        return [json.dumps(answer).encode()]

    return app
