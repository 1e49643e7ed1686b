"""The API's description as tests use it: read, with every reference followed, and held against answers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml
from jsonschema import Draft202012Validator

FILE: Final = Path(__file__).parents[1] / "router_lambda" / "openapi.yaml"

PROBLEM: Final = "application/problem+json"

METHODS: Final = ("GET", "POST", "OPTIONS")

CORS: Final = frozenset({"access-control-allow-origin", "access-control-expose-headers", "vary"})
"""Headers that an answer has if, and only if, the request came from an allowed origin."""


def read() -> Any:
    """Return the document as it is written."""
    return yaml.safe_load(FILE.read_text(encoding="utf-8"))


@cache
def document() -> Any:
    """Return the document with the thing itself in place of every reference; nobody may change it."""
    written = read()
    return _followed(written, written)


def _followed(node: Any, root: Any) -> Any:
    if isinstance(node, list):
        return [_followed(item, root) for item in node]
    if not isinstance(node, dict):
        return node
    beside = {name: _followed(item, root) for name, item in node.items() if name != "$ref"}
    if "$ref" not in node:
        return beside
    target = root
    for step in node["$ref"].removeprefix("#/").split("/"):
        target = target[step]
    target = _followed(target, root)
    return {"allOf": [target], **beside} if beside else target


def schema(name: str) -> Any:
    """Return one of the schemas among the components."""
    return document()["components"]["schemas"][name]


def operations() -> Iterator[tuple[str, str, Any]]:
    """Yield method, path and description of every operation."""
    for path, item in document()["paths"].items():
        for method in METHODS:
            if method.lower() in item:
                yield method, path, item[method.lower()]


def responses() -> Iterator[tuple[str, str, int, Any]]:
    """Yield method, path, status and description of every response; the method `*` stands for all others."""
    for method, path, operation in operations():
        for status, response in operation["responses"].items():
            yield method, path, int(status), response
    for path, item in document()["paths"].items():
        yield "*", path, HTTPStatus.METHOD_NOT_ALLOWED, item["x-other-methods"]


def response(method: str, path: str, status: int) -> Any:
    """Return the description of an answer, `None` if there is none."""
    item = document()["paths"].get(path)
    if method == "OPTIONS" and item is None:  # a preflight is answered before anybody looks for the path
        item = document()["paths"]["/ping"]
    if item is None:
        return document()["x-other-paths"] if status == HTTPStatus.NOT_FOUND else None
    if method.lower() not in item:
        return item["x-other-methods"] if status == HTTPStatus.METHOD_NOT_ALLOWED else None
    return item[method.lower()]["responses"].get(str(status))


def validator(of: Any) -> Draft202012Validator:
    """Return what judges values by a schema, after a look at the schema itself."""
    Draft202012Validator.check_schema(of)
    return Draft202012Validator(of)


def faults(
    method: str, path: str, status: int, headers: Mapping[str, str], body: str, *, is_local_page: bool
) -> list[str]:
    """Say what in an answer is not as described; nothing when all is.

    `is_local_page` tells whether the request had an `Origin` that may call.
    """
    described = response(method, path, status)
    if described is None:
        return [f"{status} is not described"]
    found = _header_faults(described.get("headers", {}), headers, is_local_page=is_local_page)
    media_type = headers.get("content-type")
    if media_type is None or "content" not in described:
        return found + ([] if body == "" and media_type is None and "content" not in described else ["wrong body"])
    if media_type not in described["content"]:
        return [*found, f"{media_type} is not described"]
    content = json.loads(body)
    found += [error.message for error in validator(described["content"][media_type]["schema"]).iter_errors(content)]
    if media_type == PROBLEM and (content["status"], content["title"]) != (status, HTTPStatus(status).phrase):
        found.append("the problem tells another status")
    return found


def _header_faults(described: Mapping[str, Any], headers: Mapping[str, str], *, is_local_page: bool) -> list[str]:
    known = {name.lower(): header for name, header in described.items()}
    found = [f"{name} is not described" for name in headers if name not in {*known, "content-type"}]
    for name, header in known.items():
        is_wanted = header["required"] or header.get("x-required-with") == headers.get("content-type", "")
        if name in CORS:
            is_wanted = is_local_page
            if name in headers and not is_local_page:
                found.append(f"{name} is for local pages only")
        if name in headers:
            value = read_header(headers[name], header["schema"])
            found += [f"{name}: {error.message}" for error in validator(header["schema"]).iter_errors(value)]
        elif is_wanted:
            found.append(f"{name} is missing")
    return found


def read_header(value: str, of: Any) -> object:
    """Return a header's value as its schema sees it."""
    return int(value) if of["type"] == "integer" and value.isdecimal() else value
