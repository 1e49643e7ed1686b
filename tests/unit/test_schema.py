"""Reading JSON from outside, and holding it against a schema."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from router_lambda.job import SCHEMA
from router_lambda.schema import (
    MAX_NESTING,
    MAX_REPORTED_ERRORS,
    FieldError,
    InvalidJob,
    check,
    raise_any,
    read_json,
)


def refusal(body: bytes | str) -> str:
    """Return the one error that `read_json` raises for a body."""
    with pytest.raises(InvalidJob) as refused:
        read_json(body)
    (error,) = refused.value.errors
    assert error.field == "body"
    return error.message


def problems(value: object, schema: dict[str, Any]) -> list[tuple[str, str]]:
    """Return the errors that `check` finds, as pairs of field and message."""
    errors: list[FieldError] = []
    check(value, schema, "", errors)
    return [(error.field, error.message) for error in errors]


def arrays(levels: int, inside: str = "") -> str:
    """Return that many arrays within each other."""
    return "[" * levels + inside + "]" * levels


def objects(levels: int, inside: str = "{}") -> str:
    """Return that many objects around `inside`."""
    return '{"a":' * levels + inside + "}" * levels


# Reading


@pytest.mark.parametrize("body", [' {"a": [1, 2.5, "é", true, null]}\r\n', "[]", '"x"', "null", "-3"])
def test_json_is_read_as_text_and_as_bytes(body: str) -> None:
    """Any JSON value is read, whatever it is encoded as."""
    assert read_json(body) == read_json(body.encode()) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        *("", " ", "{", "}", "hello", "{'a': 1}", '{"a": 1,}', '{"a": 1} x', '{"a"}', '"open', "[1 2]"),
        *(
            "01",
            "+1",
            ".5",
            "1.",
            "0x1",
            "nan",
            "True",
            "// no\n{}",
            '"\\x"',
            '"\\u12"',
            '"\x01"',
            "\ufeff{}",
        ),
    ],
)
def test_what_is_not_json_is_refused_with_the_place(body: str) -> None:
    """A body that is not JSON is refused, and the message says where it stops being JSON."""
    assert refusal(body).startswith("is not JSON: ")
    assert " at line " in refusal(body.encode())


@pytest.mark.parametrize(
    ("body", "offset"),
    [
        (b'"\xff"', 1),
        (b'{"prompt": "ab\xc3"}', 14),
        (b'"\xe2\x82', 1),
        (b'"\xc0\xaf"', 1),
        (b'"\xed\xa0\x80"', 1),
        ('{"é": 1}'.encode("utf-16"), 0),
    ],
    ids=["stray", "cut", "at-the-end", "overlong", "surrogate", "utf-16"],
)
def test_what_is_not_utf8_is_refused_with_the_offset(body: bytes, offset: int) -> None:
    """A body in another encoding, or in broken UTF-8, is refused."""
    assert refusal(body) == f"is not UTF-8: bad byte at offset {offset}"


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1" * 4_301, "-" + "1" * 5_000])
def test_numbers_that_could_not_be_written_again_are_refused(number: str) -> None:
    """What JSON has no word for, and what Python cannot hold, is refused wherever it stands."""
    for body in (number, f'[{{"a": {number}}}]'):
        assert refusal(body) == "holds NaN, Infinity or a number too large to read"


@pytest.mark.parametrize("number", ["1" * 4_300, "-1.7976931348623157e308", "5e-324", "1e-999"])
def test_numbers_at_the_edge_survive_a_round_trip(number: str) -> None:
    """The largest and smallest numbers that are read can be written and read again."""
    value = read_json(number)
    assert read_json(json.dumps(value)) == value


@pytest.mark.parametrize(("literal", "value"), [("5.0", 5), ("50e-1", 5), ("-0.0", 0), ("1E2", 100)])
def test_a_float_without_a_fraction_is_an_integer(literal: str, value: int) -> None:
    """`5.0` is an integer, as in JSON Schema."""
    read = read_json(literal)
    assert isinstance(read, int)
    assert read == value


@pytest.mark.parametrize("body", [arrays(64), arrays(64, "1"), objects(63), objects(64, "1")])
def test_nesting_up_to_the_limit_is_read(body: str) -> None:
    """Sixty-four levels are read, whether or not the innermost is empty."""
    assert read_json(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        *(arrays(65), arrays(65, "1"), objects(64), objects(65, "1")),
        *(arrays(1, objects(63)), '{"a": [1, ' + arrays(63) + "]}"),
        *(arrays(10_000), objects(10_000), "[" * 3_000_000, '{"a":' * 500_000),
    ],
    ids=["[]", "[1]", "{}", '{"a":1}', "[{}]", "{[]}", "10k-[]", "10k-{}", "3M-[", "500k-{"],
)
def test_nesting_beyond_the_limit_is_refused(body: str) -> None:
    """Whatever is deeper is refused, however deep; no depth exhausts the stack."""
    assert refusal(body) == f"is nested too deeply; use at most {MAX_NESTING} levels"


# Checking

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "good", "bad", "message"),
    [
        ({"type": "object"}, {}, [], "must be an object"),
        ({"type": "array", "items": {"type": "integer"}}, [], {}, "must be an array"),
        ({"type": "string"}, "", None, "must be a string"),
        ({"type": "boolean"}, False, 0, "must be a boolean"),
        ({"type": "integer"}, 0, False, "must be an integer"),
        ({"type": "integer"}, -1, 1.5, "must be an integer"),
        ({"type": "number"}, 1.5, True, "must be a number"),
        ({"type": "number"}, 10**400, "1", "must be a number"),
        ({"type": ["string", "array"], "items": STRING}, ["a"], 1, "must be a string or an array"),
        ({"type": "integer", "minimum": 1}, 1, 0, "must be at least 1"),
        ({"type": "number", "minimum": -2}, -2, -2.0000001, "must be at least -2"),
        ({"type": "number", "exclusiveMinimum": 0}, 5e-324, 0, "must be greater than 0"),
        ({"type": "number", "maximum": 2}, 2.0, 2.0000001, "must be at most 2"),
        ({"type": "number", "maximum": 2}, 2, 10**400, "must be at most 2"),
        ({"type": "string", "minLength": 1}, " ", "", "must not be empty"),
        ({"type": "string", "enum": ["a", "b"]}, "b", "c", "must be one of a, b"),
        ({"type": "string", "x-maxBytes": 4}, "éé", "ééa", "is 5 bytes long in UTF-8; at most 4"),
        ({"type": "string"}, "😀", "a\ud83d", "must not contain lone surrogates"),
        ({"type": "array", "minItems": 1, "items": STRING}, ["a"], [], "must not be empty"),
        (
            {"type": "array", "maxItems": 2, "items": STRING},
            ["a"] * 2,
            ["a"] * 3,
            "must have at most 2 items",
        ),
        ({"type": "object"}, {"any": [None]}, {"a": [{"\udc00": 1}]}, "must not contain lone surrogates"),
        ({"type": "object"}, {"😀": "é"}, {"a": ["\ud800"]}, "must not contain lone surrogates"),
    ],
)
def test_a_keyword_accepts_its_edge_and_refuses_what_lies_beyond(
    schema: dict[str, Any], good: object, bad: object, message: str
) -> None:
    """Each keyword draws its line exactly, and its message says what would be right."""
    around = {"type": "object", "properties": {"field": schema}}
    assert problems({"field": good}, around) == []
    assert problems({"field": bad}, around) == [("field", message)]


def test_every_bad_field_is_named_by_its_path() -> None:
    """Errors come all at once, each with the way to its field."""
    item = {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}
    schema = {"type": "object", "required": ["n"], "properties": {"list": {"type": "array", "items": item}}}
    assert problems({"list": [{"id": 1}, {}, 3, {"id": "x", "no": 1}], "other": 1}, schema) == [
        ("n", "is missing"),
        ("list[1].id", "is missing"),
        ("list[2]", "must be an object"),
        ("list[3].id", "must be an integer"),
        ("list[3].no", "is unknown; known are id"),
        ("other", "is unknown; known are list"),
    ]


def test_a_value_that_is_wrong_as_a_whole_is_the_body() -> None:
    """An error without a path is one of the body."""
    assert problems([], {"type": "object", "properties": {}}) == [("body", "must be an object")]


@pytest.mark.parametrize(("name", "shown"), [("\ud800x", "?x"), ("é" * 65, "é" * 64), ("", "")])
def test_the_name_of_an_unknown_field_can_always_be_sent_back(name: str, shown: str) -> None:
    """Names are cut, and what UTF-8 cannot carry is replaced, so that the answer can be encoded."""
    assert problems({name: 1}, {"type": "object", "properties": {"a": {}}}) == [(shown, "is unknown; known are a")]


@pytest.mark.parametrize("count", [1, MAX_REPORTED_ERRORS])
def test_errors_up_to_the_limit_are_all_raised(count: int) -> None:
    """A hundred errors are all named."""
    errors = [FieldError(f"f{index}", "is wrong") for index in range(count)]
    with pytest.raises(InvalidJob) as refused:
        raise_any(errors)
    assert refused.value.errors == errors
    assert str(refused.value).startswith("f0 is wrong")


def test_errors_beyond_the_limit_are_summed_up() -> None:
    """One more than a hundred, and the last entry stands for those that are left out."""
    errors = [FieldError(f"f{index}", "is wrong") for index in range(MAX_REPORTED_ERRORS + 1)]
    with pytest.raises(InvalidJob) as refused:
        raise_any(errors)
    assert len(refused.value.errors) == MAX_REPORTED_ERRORS
    assert refused.value.errors[:-1] == errors[: MAX_REPORTED_ERRORS - 1]
    assert refused.value.errors[-1] == FieldError("body", "has more bad fields than these")


def test_no_errors_raise_nothing() -> None:
    """Without errors there is nothing to raise."""
    raise_any([])


@pytest.mark.parametrize("value", [[0] * 1_000_000, dict.fromkeys(map(str, range(200_000)))], ids=type)
def test_the_search_for_errors_is_bounded(value: object) -> None:
    """A body of nothing but errors costs no more memory than its first hundred."""
    schema = {"type": ["object", "array"], "properties": {}, "items": STRING}
    assert len(problems(value, schema)) == MAX_REPORTED_ERRORS + 1


# The schema of a job, held against the library that defines what JSON Schema means

REFERENCE = Draft202012Validator(SCHEMA)

FULL: dict[str, Any] = {
    "prompt": "a",
    "messages": [{"role": "user", "content": "a"}, {"role": "system", "content": ""}],
    "raw": True,
    "idle_minutes": 5,
    "params": {
        "max_tokens": 1,
        "temperature": 0.5,
        "top_p": 0.5,
        "top_k": -1,
        "min_p": 0.5,
        "seed": 1,
        "stop": ["a", "b"],
        "presence_penalty": -0.5,
        "frequency_penalty": 0.5,
        "n": 1,
        "logprobs": 0,
        "response_format": {"type": "json_schema", "json_schema": {"a": [{"b": 1}]}},
    },
}
"""Every field that there is; what the schema cannot say is not asked here."""


def within(schema: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the schemas of fields and items."""
    return [*schema.get("properties", {}).values(), *([schema["items"]] if "items" in schema else [])]


def keywords(schema: dict[str, Any]) -> Iterator[str]:
    """Yield every keyword of a schema and of what is in it."""
    yield from schema
    for inner in within(schema):
        yield from keywords(inner)


def limits(schema: dict[str, Any]) -> Iterator[float]:
    """Yield every number that a schema draws a line at."""
    yield from (value for name, value in schema.items() if "imum" in name.lower())
    for inner in within(schema):
        yield from limits(inner)


EDGES = sorted({limit + step for limit in limits(SCHEMA) for step in (-1, -0.001, 0, 0.001, 1)})
ODD: list[Any] = [
    *(
        None,
        True,
        False,
        5.0,
        2.0,
        -0.0,
        1e300,
        -(10**30),
        10**400,
        "",
        "a",
        "user",
        "json_object",
        "é" * 3_000,
    ),
    *([], {}, [[]], [""], ["a"] * 4, ["a"] * 5, [1], [None], {"": None}, {"x": 1}, {"role": "user"}),
    *([{"role": "user", "content": "a", "name": "b"}], {"type": "text"}, {"json_schema": {}, "type": "xml"}),
]


def ours(value: object) -> set[str]:
    """Return the fields that our check finds bad."""
    errors: list[FieldError] = []
    check(read_json(json.dumps(value)), SCHEMA, "", errors)
    return {error.field for error in errors}


def theirs(value: object) -> set[str]:
    """Return the fields that the library finds bad."""
    bad = set()
    for error in REFERENCE.iter_errors(json.loads(json.dumps(value))):
        path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path)
        if error.validator == "required":
            names = set(error.validator_value) - error.instance.keys()
        elif error.validator == "additionalProperties":
            names = error.instance.keys() - error.schema["properties"].keys()
        else:
            names = set()
        bad |= {f"{path}.{name}".removeprefix(".") for name in names} or {path.removeprefix(".") or "body"}
    return bad


def places(value: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to everything inside a value."""
    yield way
    for step in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from places(value[step], (*way, step))


def with_replaced(value: Any, way: tuple[Any, ...], new: object) -> Any:
    """Return a copy in which `new` stands at the end of the way."""
    if not way:
        return new
    value = copy.copy(value)
    value[way[0]] = with_replaced(value[way[0]], way[1:], new)
    return value


def test_the_schema_is_one_and_every_keyword_in_it_is_checked() -> None:
    """A keyword that `check` does not know would be ignored in silence."""
    Draft202012Validator.check_schema(SCHEMA)
    assert set(keywords(SCHEMA)) == {
        *("type", "enum", "minLength", "x-maxBytes", "minimum", "exclusiveMinimum", "maximum"),
        *("items", "minItems", "maxItems", "properties", "required", "additionalProperties"),
    }


def test_every_mutation_of_a_full_body_is_judged_as_by_jsonschema() -> None:
    """Each place of a body takes each odd value and each limit: the same fields are bad for both."""
    assert ours(FULL) == theirs(FULL) == set()
    verdicts = []
    for way in places(FULL):
        for new in [*ODD, *EDGES]:
            value = with_replaced(FULL, way, new)
            assert ours(value) == theirs(value), (way, new)
            verdicts.append(not ours(value))
    assert len(verdicts) > 2_000
    assert 0.05 < sum(verdicts) / len(verdicts) < 0.95


ANYTHING = st.recursive(
    st.sampled_from([*ODD, *EDGES]) | st.text(max_size=3) | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["", "n", "role", "é"]), inner),
    max_leaves=4,
)
MUTATIONS = st.lists(st.tuples(st.sampled_from(list(places(FULL))[1:]), ANYTHING), max_size=4)


@settings(max_examples=500, derandomize=True, database=None, deadline=None)
@given(
    mutations=MUTATIONS,
    dropped=st.sets(st.sampled_from(list(FULL))),
    added=st.dictionaries(st.text(max_size=9), ANYTHING, max_size=2),
)
def test_generated_bodies_are_judged_as_by_jsonschema(
    mutations: list[tuple[tuple[Any, ...], Any]], dropped: set[str], added: dict[str, Any]
) -> None:
    """Bodies that are wrong in several places at once are bad in the same fields for both."""
    value = {name: field for name, field in FULL.items() if name not in dropped}
    for way, new in mutations:
        with suppress(LookupError, TypeError):  # the way led through what is gone by now
            value = with_replaced(value, way, new)
    value |= added
    assert ours(value) == theirs(value)
