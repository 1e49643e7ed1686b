"""Checks JSON from outside against the part of JSON Schema that a job needs, naming every bad field at once.

The usual validators either stop at the first error or cost a Lambda more to import than the rest of the
router; see docs/adr/ADR-2026-11-23-own-schema-check.md.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

MAX_NESTING: Final = 64
"""Deepest nesting of arrays and objects."""

MAX_REPORTED_ERRORS: Final = 100
"""Errors named in one answer; the last entry says that there are more. None is looked for beyond them."""


@dataclass(frozen=True, slots=True)
class FieldError:
    """One bad field: its path (`params.stop[2]`, `body` for the whole) and what to do about it."""

    field: str
    message: str


class InvalidJob(ValueError):
    """A job that can never run. `errors` names every bad field; no message repeats what the field held."""

    def __init__(self, errors: list[FieldError]) -> None:
        self.errors = errors
        super().__init__("; ".join(f"{e.field} {e.message}" for e in errors))


def read_json(body: bytes | str) -> object:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, bounded nesting.

    Raises:
        InvalidJob: it is none.
    """
    try:
        text = body.decode("utf-8") if isinstance(body, bytes) else body
        parsed: object = _decoder.decode(text)
        depth = _depth(parsed)
    except UnicodeDecodeError as error:
        raise InvalidJob([FieldError("body", f"is not UTF-8: bad byte at offset {error.start}")]) from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidJob([FieldError("body", f"is not JSON: {error.msg.removesuffix(' at')} at {where}")]) from None
    except RecursionError:
        depth = MAX_NESTING + 1
    except ValueError:  # from the two functions below, and from int() beyond 4,300 digits
        raise InvalidJob([FieldError("body", "holds NaN, Infinity or a number too large to read")]) from None
    if depth > MAX_NESTING:
        raise InvalidJob([FieldError("body", f"is nested too deeply; use at most {MAX_NESTING} levels")])
    return parsed


def _refuse_constant(name: str) -> object:
    raise ValueError(name)


def _number(literal: str) -> int | float:
    """Read `5.0` and `5e0` as the integer that JSON Schema takes them for."""
    number = float(literal)
    if math.isinf(number):  # would leave here as Infinity, which nobody reads back
        raise ValueError("out of range")
    return int(number) if number.is_integer() else number


_decoder: Final = json.JSONDecoder(parse_constant=_refuse_constant, parse_float=_number)
"""Made once, as that takes longer than reading a job."""


def _depth(value: object) -> int:
    """Levels of arrays and objects, counted without recursion; stops counting above the limit."""
    level, depth = [value], 0
    while depth <= MAX_NESTING and (parents := [item for item in level if isinstance(item, dict | list)]):
        level = [child for parent in parents for child in (parent.values() if isinstance(parent, dict) else parent)]
        depth += 1
    return depth


def check(value: object, schema: dict[str, Any], path: str, errors: list[FieldError]) -> None:
    """Hold `value` against the keywords of JSON Schema that this module uses, collecting every error.

    It stops one error above `MAX_REPORTED_ERRORS`: millions of them would cost more memory than a Lambda has.
    """
    kind = schema["type"]
    if not (_is_type(value, kind) if isinstance(kind, str) else any(_is_type(value, name) for name in kind)):
        wanted = [kind] if isinstance(kind, str) else kind
        errors.append(FieldError(path or "body", f"must be {' or '.join(map(_with_article, wanted))}"))
    elif isinstance(value, dict):
        _check_object(value, schema, path, errors)
    elif isinstance(value, list):
        _check_array(value, schema, path, errors)
    elif isinstance(value, str):
        if problem := _string_problem(value, schema):
            errors.append(FieldError(path, problem))
    elif isinstance(value, int | float) and (problem := _range_problem(value, schema)):
        errors.append(FieldError(path, problem))


def _check_object(value: dict[str, object], schema: dict[str, Any], path: str, errors: list[FieldError]) -> None:
    prefix = f"{path}." if path else ""
    known = schema.get("properties")
    if known is None:  # free-form: only what JSON in UTF-8 can carry
        if not _is_unicode(json.dumps(value, ensure_ascii=False)):
            errors.append(FieldError(path, "must not contain lone surrogates"))
        return
    missing = [name for name in schema.get("required", ()) if name not in value]
    errors.extend(FieldError(prefix + name, "is missing") for name in missing)
    for name, item in value.items():
        if len(errors) > MAX_REPORTED_ERRORS:
            break
        if name in known:
            check(item, known[name], prefix + name, errors)
        else:
            printable = name.encode("utf-8", "replace").decode()[:64]
            errors.append(FieldError(prefix + printable, f"is unknown; known are {', '.join(known)}"))


def _check_array(value: list[object], schema: dict[str, Any], path: str, errors: list[FieldError]) -> None:
    if len(value) < schema.get("minItems", 0):
        errors.append(FieldError(path, "must not be empty"))
    if len(value) > schema.get("maxItems", math.inf):
        errors.append(FieldError(path, f"must have at most {schema['maxItems']} items"))
    for index, item in enumerate(value):
        if len(errors) > MAX_REPORTED_ERRORS:
            break
        check(item, schema["items"], f"{path}[{index}]", errors)


_PYTHON: Final[dict[str, type | tuple[type, ...]]] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "integer": int,
    "number": (int, float),
}


def _is_type(value: object, name: str) -> bool:
    return isinstance(value, _PYTHON[name]) and (name == "boolean" or not isinstance(value, bool))


Fits = Callable[[object], bool]


def quick(schema: dict[str, Any]) -> Fits:
    """Compile a schema into a check that is fast at saying yes; at a no, which may be wrong, `check` has the last word.

    Nearly every job is right, and each is read by every worker that meets it.
    """
    kind = schema["type"]
    if kind == "string":
        return _quick_string(schema)
    if kind == "object" and "properties" in schema:
        return _quick_object(schema)
    if kind == "boolean":
        return lambda value: value is True or value is False
    if kind in ("integer", "number"):
        types = (int,) if kind == "integer" else (int, float)
        return lambda value: type(value) in types and _range_problem(value, schema) is None  # type: ignore[arg-type]
    return lambda value: _is_right(value, schema)


def _quick_string(schema: dict[str, Any]) -> Fits:
    least, most, known = schema.get("minLength", 0), schema.get("x-maxBytes", math.inf), schema.get("enum")

    def fits(value: object) -> bool:
        right = type(value) is str and value.isascii() and least <= len(value) <= most
        return right and (known is None or value in known)

    return fits


def _quick_object(schema: dict[str, Any]) -> Fits:
    known = {name: quick(each) for name, each in schema["properties"].items()}
    required = schema.get("required", ())

    def fits(value: object) -> bool:
        if type(value) is not dict or any(name not in value for name in required):
            return False
        return all(name in known and known[name](item) for name, item in value.items())

    return fits


def _is_right(value: object, schema: dict[str, Any]) -> bool:
    errors: list[FieldError] = []
    check(value, schema, "", errors)
    return not errors


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aio" else f"a {name}"


def _string_problem(value: str, schema: dict[str, Any]) -> str | None:
    if len(value) < schema.get("minLength", 0):
        return "must not be empty"
    if "enum" in schema and value not in schema["enum"]:
        return f"must be one of {', '.join(schema['enum'])}"
    if not _is_unicode(value):
        return "must not contain lone surrogates"
    limit = schema.get("x-maxBytes", math.inf)
    if utf8_length(value) > limit:
        return f"is {utf8_length(value)} bytes long in UTF-8; at most {limit}"
    return None


def _range_problem(value: float, schema: dict[str, Any]) -> str | None:
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    if low is not None and value < low:
        return f"must be at least {low}"
    if above is not None and value <= above:
        return f"must be greater than {above}"
    if high is not None and value > high:
        return f"must be at most {high}"
    return None


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def utf8_length(text: str) -> int:
    """Return the bytes that `text` takes in UTF-8; a lone surrogate counts as three."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def raise_any(errors: list[FieldError]) -> None:
    """Raise what was collected, if anything was.

    Raises:
        InvalidJob: with at most `MAX_REPORTED_ERRORS` entries.
    """
    if len(errors) > MAX_REPORTED_ERRORS:
        errors = [*errors[: MAX_REPORTED_ERRORS - 1], FieldError("body", "has more bad fields than these")]
    if errors:
        raise InvalidJob(errors)
