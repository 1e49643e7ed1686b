"""The HTTP API in words, out of its description by OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any, Final

from pages.markdown import code, sentence, table

_CORS: Final = ("Access-Control-Allow-Origin", "Access-Control-Expose-Headers", "Vary")
"""Headers of every answer to a page from `http://localhost`; said once instead of in each row."""

_LIMITS: Final = {
    "minimum": "at least {:,}",
    "exclusiveMinimum": "more than {:,}",
    "maximum": "at most {:,}",
    "minLength": "at least {:,} long",
    "minItems": "at least {:,} in it",
    "maxItems": "at most {:,} in it",
}
"""What bounds a value; a length at most is counted in bytes, which the meaning says."""

_NARROW: Final = 100
"""How wide an example may be on one line."""


class Api:
    """A description and what can be written of it."""

    def __init__(self, document: Any) -> None:
        self._document = document
        self._linked: set[str] = set()

    def introduction(self) -> str:
        """Return what is said of the whole, without what is meant for programs."""
        paragraphs = self._document["info"]["description"].split("\n\n")
        return "\n\n".join(" ".join(each.split()) for each in paragraphs if "`x-" not in each)

    def routes(self) -> str:
        """Return a part for each route that is no preflight."""
        return "\n\n".join(
            self._route(f"{method.upper()} {path}", item[method])
            for path, item in self._document["paths"].items()
            for method in ("get", "post", "put", "patch", "delete")
            if method in item
        )

    def preflights(self) -> str:
        """Return what a browser's preflight is answered, which is the same for every route."""
        (item, *_) = self._document["paths"].values()
        operation = item["options"]
        said = "Before it calls any of the routes, a browser asks whether the page may."
        return "\n\n".join([said, self._parameters(operation), self._answers(operation)])

    def answers(self) -> str:
        """Return the examples of each answer that has some."""
        parts = []
        for response in self._document["components"]["responses"].values():
            contents = response.get("content", {})
            if contents:
                parts.append(f"**{sentence(response['description'].partition('. ')[0])}**")
            for media, content in contents.items():
                for example in content["examples"].values():
                    title = f"{sentence(example['summary'])} " if "summary" in example else ""
                    parts.append(f"{title}`{media}`:\n\n{_json(example['value'])}")
        return "\n\n".join(parts)

    def schemas(self) -> str:
        """Return a part for each schema that something else on the page links to."""
        written = {}
        for name, schema in self._document["components"]["schemas"].items():
            limits = f" {_limits(schema)}" if schema.get("type") == "string" else ""
            said = sentence(schema.get("description", "")) + limits
            rows = table(("field", "type", "limits", "meaning"), self._fields(schema))
            written[name] = "\n\n".join(each for each in (f"### {name}", said, rows) if each)
        return "\n\n".join(part for name, part in written.items() if name in self._linked)

    def headers(self) -> str:
        """Return the table of the answers' headers."""
        named: dict[str, str] = {}
        for response in self._document["components"]["responses"].values():
            named |= {each["$ref"]: name for name, each in response.get("headers", {}).items()}
        rows = [
            (code(name), self._meaning(header), code(str(header["example"])))
            for reference, name in named.items()
            for header in (self._follow({"$ref": reference}),)
        ]
        return table(("header", "meaning", "example"), rows)

    def _meaning(self, header: Any) -> str:
        leads = f" Its body: {self._named(header['x-leads-to'])}." if "x-leads-to" in header else ""
        return sentence(header["description"]) + leads

    def edges(self) -> str:
        """Return what other paths and methods are answered."""
        (item, *_) = self._document["paths"].values()
        rows = [
            (what, *self._headers_and_bodies(self._follow(answer)))
            for what, answer in (
                ("404, any other path", self._document["x-other-paths"]),
                ("405, any other method on a known path", item["x-other-methods"]),
            )
        ]
        return table(("answer", "headers", "body"), rows)

    # Parts of a route

    def _route(self, title: str, operation: Any) -> str:
        who = "Needs a token." if operation["security"] else "Needs no token."
        parts = [
            f"### {title}",
            f"{sentence(operation['summary'])} {who}",
            sentence(operation["description"]),
            self._parameters(operation),
            self._body(operation),
            self._answers(operation),
        ]
        return "\n\n".join(part for part in parts if part)

    def _parameters(self, operation: Any) -> str:
        rows = []
        for reference in operation.get("parameters", []):
            each = self._follow(reference)
            example = next(iter(each["examples"].values()))["value"]
            needed = "yes" if each["required"] else ""
            rows.append((code(each["name"]), needed, sentence(each["description"]), code(example)))
        return table(("request header", "needed", "meaning", "example"), rows)

    def _body(self, operation: Any) -> str:
        body = operation.get("requestBody")
        if not body:
            return ""
        (content,) = body["content"].values()
        examples = [f"{sentence(each['summary'])}\n\n{_json(each['value'])}" for each in content["examples"].values()]
        return "\n\n".join(
            [f"The body is {self._named(content['schema'])}. {sentence(body['description'])}", *examples]
        )

    def _answers(self, operation: Any) -> str:
        rows = []
        for status, reference in operation["responses"].items():
            each = self._follow(reference)
            name = f"{status} {HTTPStatus(int(status)).phrase}"
            rows.append((name, sentence(each["description"]), *self._headers_and_bodies(each)))
        return table(("answer", "when", "headers", "body"), rows)

    def _headers_and_bodies(self, answer: Any) -> tuple[str, str]:
        headers = ", ".join(code(name) for name in answer.get("headers", {}) if name not in _CORS)
        return headers, ", ".join(self._named(content["schema"]) for content in answer.get("content", {}).values())

    def _named(self, schema: Any) -> str:
        """Return a link to a schema, or to each of those that it may be."""
        if "oneOf" in schema:
            return " or ".join(self._named(each) for each in schema["oneOf"])
        if "$ref" in schema:
            name = schema["$ref"].rpartition("/")[2]
            self._linked.add(name)
            return f"[{name}](#{name.lower()})"
        return code(json.dumps({name: self._shown(part) for name, part in schema["properties"].items()}))

    @staticmethod
    def _shown(schema: Any) -> str:
        return str(schema["const"]) if "const" in schema else f"<{schema['type']}>"

    # Schemas

    def _fields(self, schema: Any, prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
        """Yield name, type, limits and meaning of each field, those inside it after it."""
        schema = self._follow(schema)
        needed = set(schema.get("required", []))
        for name, written in schema.get("properties", {}).items():
            if written is False:
                continue
            part = self._follow(written)
            kind = self._named(written) if "$ref" in written else _kind(part)
            limits = ["required" if name in needed else "", "" if "$ref" in written else _limits(part)]
            limits.append(f"default `{json.dumps(part['default'])}`" if "default" in part else "")
            said = sentence(part.get("description", ""))
            inner = part["items"] if part.get("type") == "array" else part
            if inner is not part and "$ref" in inner:
                kind = f"array of {self._named(inner)}"
            yield code(prefix + name), kind, ", ".join(filter(None, limits)), said
            if "$ref" not in written and "$ref" not in inner:
                yield from self._fields(inner, f"{prefix}{name}{'[]' if inner is not part else ''}.")

    def _follow(self, node: Any) -> Any:
        if "$ref" not in node:
            return node
        target = self._document
        for step in node["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        beside = {name: part for name, part in node.items() if name != "$ref"}
        target = self._follow(target)
        both = {**target, **beside}
        for name in ("properties", "required"):
            if name in target and name in beside:
                both[name] = target[name] | beside[name] if name == "properties" else target[name] + beside[name]
        return both


def _kind(part: Any) -> str:
    if "const" in part:
        return code(json.dumps(part["const"]))
    if "enum" in part:
        return ", ".join(code(json.dumps(each)) for each in part["enum"])
    kind = part.get("type", "")
    return " or ".join(kind) if isinstance(kind, list) else str(kind)


def _limits(part: Any) -> str:
    said = [words.format(part[name]) for name, words in _LIMITS.items() if name in part]
    said.append(code(part.get("pattern", "")))
    return ", ".join(filter(None, said)).replace("at least 1 long", "not empty")


def _json(value: Any) -> str:
    short = json.dumps(value, ensure_ascii=False)
    if len(short) <= _NARROW:
        return f"```json\n{short}\n```"
    return f"```json\n{json.dumps(value, indent=2, ensure_ascii=False)}\n```"
