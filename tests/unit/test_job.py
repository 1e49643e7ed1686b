"""What a client may ask for, and what lies in Redis afterwards."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from router_lambda.job import (
    DEFAULT_IDLE_MINUTES,
    MAX_BODY_BYTES,
    MAX_PARSED_BYTES,
    MAX_PROMPT_BYTES,
    FieldError,
    InvalidJob,
    Job,
    cancel_key,
    is_job_id,
    job_key,
    lease_key,
    new_job_id,
    parse_request,
    reply_key,
    reply_path,
)
from router_lambda.schema import MAX_REPORTED_ERRORS
from tests.router_samples import JOB, JOB_ID

MIB = 1024 * 1024
USER = {"role": "user", "content": "a"}
FREE = {"type": "json_schema", "json_schema": {"é": {"enum": [None, 1.5, True, {"": []}]}}}
INTEGERS = ("max_tokens", "top_k", "seed", "n", "logprobs")
NUMBERS = ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty")


def body(**fields: Any) -> bytes:
    """Return a request body; it has a prompt unless it has messages."""
    return json.dumps(({} if "messages" in fields else {"prompt": "a"}) | fields).encode()


def refusals(sent: bytes | str) -> list[tuple[str, str]]:
    """Return the errors that a request is refused with, as pairs of field and message."""
    with pytest.raises(InvalidJob) as refused:
        parse_request(sent)
    return [(error.field, error.message) for error in refused.value.errors]


def bad_fields(sent: bytes | str) -> list[str]:
    """Return the names of the fields that a request is refused for."""
    return [field for field, _ in refusals(sent)]


@contextmanager
def suppress_refusal() -> Iterator[list[FieldError]]:
    """Yield a list that holds the errors afterwards; it stays empty when nothing is refused."""
    errors: list[FieldError] = []
    try:
        yield errors
    except InvalidJob as invalid:
        errors += invalid.errors


# Every field and its limits


def test_what_is_left_out_gets_its_default() -> None:
    """A prompt alone is a whole request."""
    assert parse_request(b'{"prompt": "a"}') == {
        "prompt": "a",
        "messages": None,
        "raw": False,
        "params": {},
        "idle_minutes": DEFAULT_IDLE_MINUTES,
    }


def test_requests_share_no_defaults() -> None:
    """Whoever changes the parameters of one job changes no other's."""
    parse_request(body())["params"]["n"] = 8
    assert parse_request(body())["params"] == {}


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("max_tokens", [1, 2_048, 256.0], [0, 2_049, -1, 10**400]),
        ("temperature", [0, 2, 0.5, 2.0], [-0.001, 2.001, 1e308]),
        ("top_p", [5e-324, 1, 1.0], [0, 0.0, -0.1, 1.001]),
        ("top_k", [-1, 0, 2**31 - 1], [-2, 2**31]),
        ("min_p", [0, 1, 0.05], [-0.001, 1.001]),
        ("seed", [-(2**63), 0, 2**63 - 1], [-(2**63) - 1, 2**63]),
        ("stop", ["a", [], ["a"], ["a", "b", "c", "d"], ["😀" * 1_000]], ["", ["a", "b", "c", "d", "e"]]),
        ("presence_penalty", [-2, 0.5, 2], [-2.001, 2.001]),
        ("frequency_penalty", [-2, 0.5, 2], [-2.001, 2.001]),
        ("n", [1, 8], [0, 9]),
        ("logprobs", [0, 20], [-1, 21]),
        ("response_format", [{"type": "text"}, {"type": "json_object"}], []),
    ],
)
def test_a_parameter_is_accepted_up_to_its_limits(field: str, good: list[Any], bad: list[Any]) -> None:
    """Both edges belong to the range, and the next value beyond each does not."""
    for value in good:
        assert parse_request(body(params={field: value}))["params"] == {field: value}
    for value in bad:
        assert bad_fields(body(params={field: value})) == [f"params.{field}"]


@pytest.mark.parametrize("minutes", [1, 30, 7.0])
def test_idle_minutes_up_to_the_limits_are_accepted(minutes: float) -> None:
    """From one minute to half an hour."""
    assert parse_request(body(idle_minutes=minutes))["idle_minutes"] == minutes


@pytest.mark.parametrize("minutes", [0, 31, -5])
def test_idle_minutes_beyond_the_limits_are_refused(minutes: int) -> None:
    """Neither zero nor more than half an hour."""
    assert bad_fields(body(idle_minutes=minutes)) == ["idle_minutes"]


@pytest.mark.parametrize(
    ("wanted", "bad", "fields"),
    [
        ("a string", [True, 1, [], {}], ["prompt"]),
        ("an array", [True, 1, "a", {}], ["messages"]),
        ("a boolean", [0, 1, "true", []], ["raw"]),
        ("an object", [True, 1, "{}", []], ["params", "params.response_format"]),
        ("a string or an array", [True, 1, {}], ["params.stop"]),
        (
            "an integer",
            [True, False, 1.5, "1", [1]],
            ["idle_minutes", *(f"params.{name}" for name in INTEGERS)],
        ),
        ("a number", [True, False, "1", [1]], [f"params.{name}" for name in NUMBERS]),
    ],
)
def test_a_field_of_another_type_is_refused(wanted: str, bad: list[Any], fields: list[str]) -> None:
    """No type stands in for another: no boolean for a number, no null for what is left out."""
    for field in fields:
        top, _, name = field.partition(".")
        for value in [None, *bad]:
            sent = body(**{top: {name: value} if name else value})
            assert (field, f"must be {wanted}") in refusals(sent), (field, value)


def test_an_integer_may_be_written_with_a_point() -> None:
    """`5.0` is five, and is one afterwards; `5.5` is not."""
    fields = parse_request('{"prompt": "a", "idle_minutes": 5.0, "params": {"max_tokens": 2.0, "seed": 1e3}}')
    numbers = [fields["idle_minutes"], *fields["params"].values()]
    assert [(type(number), number) for number in numbers] == [(int, 5), (int, 2), (int, 1_000)]
    assert refusals(body(idle_minutes=5.5)) == [("idle_minutes", "must be an integer")]


@pytest.mark.parametrize("character", ["a", "é", "€", "😀"])
def test_a_prompt_is_measured_in_bytes(character: str) -> None:
    """6,144 bytes of UTF-8 are accepted and 6,145 are not, whatever the characters, escaped or not."""
    prompt = character * (MAX_PROMPT_BYTES // len(character.encode()))
    for escaped in (True, False):
        assert parse_request(json.dumps({"prompt": prompt}, ensure_ascii=escaped))["prompt"] == prompt
        longer = json.dumps({"prompt": prompt + "a"}, ensure_ascii=escaped)
        assert refusals(longer) == [("prompt", "is 6145 bytes long in UTF-8; at most 6144")]


def test_the_contents_of_messages_are_measured_together() -> None:
    """Half from each of two messages is accepted; one byte more is not."""
    halves = [{"role": "system", "content": "é" * 1_536}, {"role": "user", "content": "€" * 1_024}]
    assert parse_request(body(messages=halves))["messages"] == halves
    halves[1]["content"] += "a"
    assert refusals(body(messages=halves)) == [("messages", "hold 6145 bytes; at most 6144 together")]


@pytest.mark.parametrize(
    ("messages", "errors"),
    [
        ([], [("messages", "must not be empty")]),
        ([USER | {"content": ""}], [("messages", "must not all be empty")]),
        ([{}], [("messages[0].role", "is missing"), ("messages[0].content", "is missing")]),
        ([USER, "a"], [("messages[1]", "must be an object")]),
        ([USER | {"role": "tool"}], [("messages[0].role", "must be one of system, user, assistant")]),
        ([USER | {"role": 1}], [("messages[0].role", "must be a string")]),
        ([USER | {"content": None}], [("messages[0].content", "must be a string")]),
        ([USER | {"content": [{"type": "text"}]}], [("messages[0].content", "must be a string")]),
        ([USER | {"name": "x"}], [("messages[0].name", "is unknown; known are role, content")]),
        ([USER | {"content": "\ud800"}], [("messages[0].content", "must not contain lone surrogates")]),
    ],
)
def test_messages_that_are_no_conversation_are_refused(messages: object, errors: list[tuple[str, str]]) -> None:
    """Each message has a known role and a text, nothing else, and one of them says something."""
    assert refusals(body(messages=messages)) == errors


def test_messages_are_accepted_in_any_order_of_roles() -> None:
    """Which orders make sense is for the model's chat template to say."""
    messages = [{"role": role, "content": ""} for role in ("assistant", "system", "user")] + [USER]
    assert parse_request(body(messages=messages))["messages"] == messages


@pytest.mark.parametrize(
    ("sent", "errors"),
    [
        (b"{}", [("prompt", "is missing; send prompt or messages")]),
        (
            body(prompt="a", messages=[USER]),
            [("messages", "must not stand beside prompt; send one of the two")],
        ),
        (body(prompt=""), [("prompt", "must not be empty")]),
        (
            body(messages=[USER], raw=True),
            [("raw", "goes with prompt only; messages always use the chat template")],
        ),
    ],
)
def test_exactly_one_of_prompt_and_messages_is_sent(sent: bytes, errors: list[tuple[str, str]]) -> None:
    """Neither none nor both, and `raw` only with a prompt."""
    assert refusals(sent) == errors


def test_raw_is_accepted_with_a_prompt_and_may_be_false_with_messages() -> None:
    """What `raw` asks for is possible in both cases."""
    assert parse_request(body(raw=True))["raw"] is True
    assert parse_request(body(messages=[USER], raw=False))["raw"] is False


@pytest.mark.parametrize(
    ("wanted", "errors"),
    [
        ({}, [(".type", "is missing")]),
        ({"type": "xml"}, [(".type", "must be one of text, json_object, json_schema")]),
        ({"type": "json_schema"}, [(".json_schema", 'goes with "type": "json_schema", and only there')]),
        (
            {"type": "text", "json_schema": {}},
            [(".json_schema", 'goes with "type": "json_schema", and only there')],
        ),
        ({"type": "json_schema", "json_schema": "{}"}, [(".json_schema", "must be an object")]),
        ({"type": "text", "strict": True}, [(".strict", "is unknown; known are type, json_schema")]),
    ],
)
def test_a_response_format_that_says_nothing_is_refused(wanted: object, errors: list[tuple[str, str]]) -> None:
    """The type is known, and a schema comes with the type that needs one."""
    expected = [(f"params.response_format{field}", message) for field, message in errors]
    assert refusals(body(params={"response_format": wanted})) == expected


def test_a_json_schema_may_hold_anything() -> None:
    """What lies in the schema for the answer is kept as it is."""
    assert parse_request(body(params={"response_format": FREE}))["params"]["response_format"] == FREE


# Bodies as a whole


def test_every_bad_field_is_named_at_once() -> None:
    """One answer is enough to correct the whole request."""
    sent = body(
        prompt="",
        messages=[{"role": "robot"}],
        raw=1,
        idle_minutes=31,
        params={"n": True, "top_p": 0, "stop": ["", 1], "best_of": 2, "response_format": {"json_schema": {}}},
        model="x",
    )
    assert refusals(sent) == [
        ("prompt", "must not be empty"),
        ("messages[0].content", "is missing"),
        ("messages[0].role", "must be one of system, user, assistant"),
        ("raw", "must be a boolean"),
        ("idle_minutes", "must be at most 30"),
        ("params.n", "must be an integer"),
        ("params.top_p", "must be greater than 0"),
        ("params.stop[0]", "must not be empty"),
        ("params.stop[1]", "must be a string"),
        ("params.best_of", refusals(body(params={"best_of": 2}))[0][1]),
        ("params.response_format.type", "is missing"),
        ("model", "is unknown; known are prompt, messages, raw, idle_minutes, params"),
        ("messages", "must not stand beside prompt; send one of the two"),
        ("params.response_format.json_schema", 'goes with "type": "json_schema", and only there'),
    ]


@pytest.mark.parametrize("sent", [b"[]", b"null", b"1", b'"prompt"', b"true"])
def test_a_body_that_is_no_object_is_refused(sent: bytes) -> None:
    """JSON of another kind is no request."""
    assert refusals(sent) == [("body", "must be an object")]


@pytest.mark.parametrize("sent", [b"", b"prompt=a", b'{"prompt": NaN}', b'{"prompt": "\xff"}', b"[" * 10_000])
def test_a_body_that_cannot_be_read_is_refused(sent: bytes) -> None:
    """Empty, not JSON, not UTF-8 or nested without end."""
    assert bad_fields(sent) == ["body"]


@pytest.mark.parametrize(
    ("sent", "field"),
    [
        (r'{"prompt": "a\ud800"}', "prompt"),
        (r'{"prompt": "\udc00\ud800"}', "prompt"),
        ('{"prompt": "\ud800"}', "prompt"),
        (r'{"prompt": "a", "\ud800": 1}', "?"),
        (r'{"prompt": "a", "params": {"n\udfff": 1}}', "params.n?"),
        (r'{"prompt": "a", "params": {"stop": "\ud800"}}', "params.stop"),
        (r'{"prompt": "a", "params": {"stop": ["b", "\ud800"]}}', "params.stop[1]"),
    ],
)
def test_lone_surrogates_are_refused_where_they_stand(sent: str, field: str) -> None:
    """Half a character is not text; no UTF-8 can carry it to the model or back."""
    assert bad_fields(sent) == [field]


@pytest.mark.parametrize("half", [r'"\ud800"', r'{"\udc00": 1}', r'[[{"a": [null, "\ud83d"]}]]'])
def test_lone_surrogates_deep_in_a_json_schema_are_refused(half: str) -> None:
    """Nor does one hide in what is otherwise free of rules."""
    schema = f'{{"type": "json_schema", "json_schema": {{"x": {half}}}}}'
    sent = f'{{"prompt": "a", "params": {{"response_format": {schema}}}}}'
    assert refusals(sent) == [("params.response_format.json_schema", "must not contain lone surrogates")]


def test_a_pair_of_surrogates_is_one_character() -> None:
    """An escaped pair is text."""
    assert parse_request(r'{"prompt": "\ud83d\ude00"}')["prompt"] == "😀"


def test_a_body_up_to_the_limit_is_accepted() -> None:
    """65,536 bytes are accepted and 65,537 are not, whether they come as bytes or as text."""
    fill = body().decode().ljust(MAX_BODY_BYTES)
    assert parse_request(fill) == parse_request(fill.encode())
    error = ("body", f"is {MAX_BODY_BYTES + 1} bytes long; send at most {MAX_BODY_BYTES}")
    assert refusals(fill + " ") == refusals(fill.encode() + b" ") == [error]
    assert bad_fields('{"prompt": "é"}' + " " * (MAX_BODY_BYTES - 15)) == ["body"]


def test_a_body_of_a_megabyte_still_names_its_bad_fields() -> None:
    """The body is too long, and so is what it holds."""
    sent = body(prompt="a" * MIB, idle_minutes=0, params={"n": 9}, extra=[0] * 1_000)
    assert bad_fields(sent) == ["body", "prompt", "idle_minutes", "params.n", "extra"]


def test_a_body_that_no_lambda_receives_is_not_even_parsed() -> None:
    """Up to 6 MiB every bad field is named; beyond that, only the body."""
    fill = body(prompt="").ljust(MAX_PARSED_BYTES)
    assert bad_fields(fill) == ["body", "prompt"]
    assert bad_fields(fill + b" ") == ["body"]


@pytest.mark.parametrize(
    "sent",
    [
        body(**{f"x{index}": 1 for index in range(150)}),
        body(messages=[0] * 101),
        body(params={"stop": [0] * 1_000_000}),
        body(messages=[{}] * 500_000),
    ],
    ids=["names", "messages", "stops", "megabytes"],
)
def test_more_errors_than_anybody_reads_are_summed_up(sent: bytes) -> None:
    """A hundred entries at most, the last of which says that there are more."""
    errors = refusals(sent)
    assert len(errors) == MAX_REPORTED_ERRORS
    assert errors[-1] == ("body", "has more bad fields than these")


MARKER = "hunter2-€"
PLACES = [
    *("prompt", "messages", "raw", "idle_minutes", "params", "unknown", "params.unknown", "messages.0"),
    *("messages.0.role", "messages.0.content", "messages.0.unknown"),
    *(f"params.{name}" for name in ("n", "top_p", "stop", "seed", "response_format", "response_format.type")),
]
SHAPES = [
    *(MARKER, MARKER + "\ud800", MARKER * 1_000, [MARKER], {MARKER: MARKER}),
    *([{"role": MARKER, "content": MARKER}], {"type": MARKER, "json_schema": MARKER}),
]


@pytest.mark.parametrize("shape", SHAPES, ids=["text", "half", "long", "array", "object", "message", "format"])
@pytest.mark.parametrize("place", PLACES)
def test_no_message_repeats_what_a_field_held(place: str, shape: object) -> None:
    """Messages go into answers and logs; what a user wrote does not."""
    value: Any = shape
    for name in reversed(place.split(".")):
        value = [value] if name == "0" else {name: value}
    for sent in ({"idle_minutes": 0} | value, {"messages": 1} | value):
        assert all("hunter2" not in message for _, message in refusals(json.dumps(sent)))


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    cut=st.integers(0, 40),
    length=st.integers(0, 3),
    put=st.binary(max_size=2) | st.sampled_from([b"NaN", b"\\", b'"', b"9e999"]),
)
def test_no_message_repeats_any_of_a_broken_body(cut: int, length: int, put: bytes) -> None:
    """A body that is broken at any place is refused or read, and quoted in neither case."""
    sent = f'{{"raw": false, "prompt": "{MARKER}"}}'.encode()
    with suppress_refusal() as errors:
        parse_request(sent[:cut] + put + sent[cut + length :])
    assert all("hunter2" not in error.message for error in errors)


# The job in Redis


@pytest.mark.parametrize(
    "job",
    [
        JOB,
        replace(JOB, traceparent=None, params={}),
        replace(JOB, prompt=None, messages=[USER, {"role": "system", "content": "é😀\x00\u2028"}]),
        replace(JOB, raw=True, enqueued_at=0.1 + 0.2, idle_minutes=30),
        replace(JOB, params={"seed": 2**63 - 1, "top_p": 5e-324, "response_format": FREE}),
    ],
    ids=["prompt", "unset", "messages", "raw", "params"],
)
def test_a_job_comes_back_as_it_was_stored(job: Job) -> None:
    """Text or bytes, the payload is the whole job."""
    assert Job.from_json(job.to_json()) == Job.from_json(job.to_json().encode()) == job


def test_a_request_makes_a_job_that_can_be_stored() -> None:
    """What was accepted at the door is accepted by the worker, numbers of any size included."""
    wanted = FREE | {"json_schema": {"a": 10**4_299, "b": 1e308, "c": 5e-324}}
    fields = parse_request(body(params={"response_format": wanted, "max_tokens": 5.0}))
    job = Job(id=JOB_ID, sub="user-1", reply_path="s3://b/k", enqueued_at=1.0, **fields)
    assert Job.from_json(job.to_json()) == job


def test_the_payload_is_ascii_without_what_is_unset() -> None:
    """The payload has the names of the contract and no nulls."""
    payload = replace(JOB, traceparent=None).to_json()
    assert payload.isascii()
    names = {"id", "sub", "prompt", "raw", "params", "idle_minutes", "reply_path", "enqueued_at"}
    assert json.loads(payload).keys() == names


def stored(**changes: Any) -> str:
    """Return a payload that differs from a good one."""
    return json.dumps(asdict(JOB) | changes)


def without(*names: str) -> str:
    """Return a payload that lacks fields of a good one."""
    return json.dumps({name: value for name, value in asdict(JOB).items() if name not in names})


@pytest.mark.parametrize(
    ("payload", "fields"),
    [
        ("", ["body"]),
        (b"\x80\x04K\x01.", ["body"]),
        (JOB.to_json()[:-1], ["body"]),
        ("[]", ["body"]),
        ("null", ["body"]),
        ("[" * 10_000, ["body"]),
        (stored(enqueued_at=float("inf")), ["body"]),
        ("{}", ["prompt", "id", "sub", "reply_path", "enqueued_at"]),
        (without("id"), ["id"]),
        (without("sub", "enqueued_at"), ["sub", "enqueued_at"]),
        (without("prompt"), ["prompt"]),
        (stored(id=None), ["id"]),
        (stored(prompt=None), ["prompt"]),
        (stored(reply_path=None), ["reply_path"]),
        (stored(model="x"), ["model"]),
        (stored(id="x"), ["id"]),
        (stored(id=JOB_ID.upper()), ["id"]),
        (stored(id=1), ["id"]),
        (stored(sub=["user-1"]), ["sub"]),
        (stored(sub="\ud800"), ["sub"]),
        (stored(reply_path=1), ["reply_path"]),
        (stored(enqueued_at="now"), ["enqueued_at"]),
        (stored(enqueued_at=True), ["enqueued_at"]),
        (stored(enqueued_at=-0.1), ["enqueued_at"]),
        (stored(traceparent=1), ["traceparent"]),
        (stored(messages=[USER]), ["messages"]),
        (stored(prompt="é" * 3_073, params={"n": 9}, id=1), ["prompt", "params.n", "id"]),
        (stored(params=[]), ["params"]),
        (stored(raw=None, idle_minutes=None, params=None, sub=None), ["sub"]),
    ],
)
def test_a_payload_that_is_no_job_is_refused(payload: str | bytes, fields: list[str]) -> None:
    """Whatever lies in Redis is checked as strictly as a request, with every bad field named."""
    with pytest.raises(InvalidJob) as refused:
        Job.from_json(payload)
    assert [error.field for error in refused.value.errors] == fields
    assert "Zürich" not in str(refused.value)


def test_fields_that_a_payload_lacks_get_their_default() -> None:
    """Null or missing, what has a default is optional in Redis too, and no two jobs share it."""
    jobs = [
        Job.from_json(without("raw", "params", "idle_minutes")),
        Job.from_json(stored(raw=None, params=None)),
    ]
    for job in jobs:
        assert (job.raw, job.params, job.idle_minutes) == (False, {}, DEFAULT_IDLE_MINUTES)
    assert jobs[0].params is not jobs[1].params


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@settings(max_examples=300, derandomize=True, database=None, deadline=None)
@given(
    st.binary(max_size=20)
    | st.dictionaries(st.sampled_from([*asdict(JOB), "x"]), JSON).map(lambda changes: stored(**changes))
)
def test_any_payload_is_a_job_or_is_refused(payload: str | bytes) -> None:
    """Nothing that lies in Redis raises anything else, and what is read can be stored again."""
    with suppress_refusal() as errors:
        job = Job.from_json(payload)
    assert errors or Job.from_json(job.to_json()) == job


# Names


@pytest.mark.parametrize("random_bytes", [bytes(16), b"\xff" * 16, bytes(range(16))])
def test_a_new_id_is_a_uuid_of_version_4(random_bytes: bytes) -> None:
    """Whatever the bytes, the id is a UUID v4 in lower case, and the bytes decide it."""
    job_id = new_job_id(random_bytes)
    assert is_job_id(job_id)
    assert UUID(job_id).version == 4
    assert new_job_id(random_bytes) == job_id


@pytest.mark.parametrize("random_bytes", [b"", bytes(15), bytes(17)])
def test_an_id_needs_sixteen_bytes(random_bytes: bytes) -> None:
    """Fewer would make ids that can be guessed."""
    with pytest.raises(ValueError, match="16"):
        new_job_id(random_bytes)


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            JOB_ID[:-1],
            JOB_ID + "0",
            JOB_ID + "\n",
            " " + JOB_ID,
            JOB_ID.upper(),
            JOB_ID.replace("-", ""),
        ),
        *(f"{{{JOB_ID}}}", f"urn:uuid:{JOB_ID}", JOB_ID.replace("-4", "-1"), JOB_ID.replace("-9b", "-cb")),
        *(JOB_ID.replace("0", "g"), JOB_ID.replace("0", "\uff10"), None, 4, JOB_ID.encode(), UUID(JOB_ID)),
    ],
)
def test_nothing_else_is_an_id(value: object) -> None:
    """Only the form that the keys in Redis have is one."""
    assert not is_job_id(value)
    assert is_job_id(JOB_ID)


def test_the_names_are_those_of_the_contract() -> None:
    """Router, worker and client find each other by these names."""
    assert job_key(JOB_ID) == f"job:{JOB_ID}"
    assert lease_key(JOB_ID) == f"lease:{JOB_ID}"
    assert cancel_key(JOB_ID) == f"cancel:{JOB_ID}"
    assert reply_key(JOB_ID) == f"replies/{JOB_ID}.json"
    assert reply_path("bucket", JOB_ID) == f"s3://bucket/replies/{JOB_ID}.json"
