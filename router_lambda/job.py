"""The one definition of a job: its schema, its keys in Redis and the script that queues it.

Router, worker and client read it from here; nothing in it does I/O.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any, Final, TypeGuard
from urllib.parse import quote
from uuid import UUID

from router_lambda.schema import FieldError as FieldError
from router_lambda.schema import InvalidJob as InvalidJob
from router_lambda.schema import check, quick, raise_any, read_json, utf8_length

JOB_TTL_SECONDS: Final = 300
"""Life of a job key from the moment it is queued; a worker renews it while the job runs."""

CLOSING_SECONDS: Final = 180
"""Life of `gpu:closing`: longer than an instance takes to stop."""

MAX_PROMPT_BYTES: Final = 6_144
"""Longest prompt, or all contents of `messages` together, in bytes of UTF-8."""

MAX_BODY_BYTES: Final = 65_536
"""Longest request body. It bounds what the contract leaves open, such as a JSON schema or stop strings."""

MAX_PARSED_BYTES: Final = 6 * 1024 * 1024
"""Longest body that is parsed at all, which is what Lambda accepts: up to it, every bad field is named."""

QUEUE_READY: Final = "queue:ready"
QUEUE_OPEN: Final = "queue:open"
QUEUE_ATTEMPTS: Final = "queue:attempts"
GPU_CLOSING: Final = "gpu:closing"
GPU_BOOTS: Final = "gpu:boots"
GPU_WAKING: Final = "gpu:waking"
GPU_STOP: Final = "gpu:stop"
GPU_BOOTING: Final = "gpu:booting"
GPU_PHASES: Final = "gpu:phases"
GPU_REFUSED: Final = "gpu:refused"
GPU_FLEET: Final = "gpu:fleet"
GPU_UNSEEN: Final = "gpu:unseen"

FINAL_STATUSES: Final = frozenset({"done", "failed", "cancelled", "expired"})
"""Statuses of a reply that never change again; the only other one is `streaming`."""

_UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

TRACEPARENT: Final = re.compile(r"00-(?!0{32})(?P<trace_id>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00, as a whole string; ids of nothing but zeros are invalid there."""

ENQUEUE_LUA: Final = """
-- Queues a job: payload, open set and ready list change together or not at all, so that a router that dies
-- half-way leaves nothing behind. Refuses a key that is not `job:` and a lower-case UUID v4.
-- KEYS: job:{id}, queue:open, queue:ready, and idem:{sub}:{key} if the request has an Idempotency-Key.
-- ARGV: id, payload, enqueued_at (Unix seconds), TTL (seconds), and the most ids that may wait if that matters.
-- Returns OK; or {id, 1 if it is not acknowledged yet, else 0} of the job that the Idempotency-Key stands for;
-- or, if too many ids wait, how many do. Only OK changes anything.
local x = '[0-9a-f]'
local uuid4 = x:rep(8)..'%-'..x:rep(4)..'%-4'..x:rep(3)..'%-[89ab]'..x:rep(3)..'%-'..x:rep(12)
if not KEYS[1]:find('^job:'..uuid4..'$') or KEYS[1] ~= 'job:'..ARGV[1] then
  return redis.error_reply('TLFIF job keys are job: and a lower-case UUID v4, got '..KEYS[1])
end
if KEYS[4] then
  local earlier = redis.call('GET', KEYS[4])
  if earlier then
    return {earlier, redis.call('ZSCORE', KEYS[2], earlier) and 1 or 0}
  end
end
local waiting = redis.call('LLEN', KEYS[3])
if ARGV[5] and waiting >= tonumber(ARGV[5]) then
  return waiting
end
redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
redis.call('RPUSH', KEYS[3], ARGV[1])
if KEYS[4] then
  redis.call('SET', KEYS[4], ARGV[1], 'EX', ARGV[4])
end
return 'OK'
"""

_NUMBER: dict[str, Any] = {"type": "number"}

SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "prompt": {"type": "string", "minLength": 1, "x-maxBytes": MAX_PROMPT_BYTES},
        "messages": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["role", "content"],
                "properties": {
                    "role": {"type": "string", "enum": ["system", "user", "assistant"]},
                    "content": {"type": "string"},
                },
            },
        },
        "raw": {"type": "boolean"},
        "idle_minutes": {"type": "integer", "minimum": 1, "maximum": 30},
        "params": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "max_tokens": {"type": "integer", "minimum": 1, "maximum": 2_048},
                "temperature": _NUMBER | {"minimum": 0, "maximum": 2},
                "top_p": _NUMBER | {"exclusiveMinimum": 0, "maximum": 1},
                "top_k": {"type": "integer", "minimum": -1, "maximum": 2**31 - 1},
                "min_p": _NUMBER | {"minimum": 0, "maximum": 1},
                "seed": {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1},
                "stop": {
                    "type": ["string", "array"],
                    "minLength": 1,
                    "maxItems": 4,
                    "items": {"type": "string", "minLength": 1},
                },
                "presence_penalty": _NUMBER | {"minimum": -2, "maximum": 2},
                "frequency_penalty": _NUMBER | {"minimum": -2, "maximum": 2},
                "n": {"type": "integer", "minimum": 1, "maximum": 8},
                "logprobs": {"type": "integer", "minimum": 0, "maximum": 20},
                "response_format": {
                    "type": "object",
                    "additionalProperties": False,
                    "required": ["type"],
                    "properties": {
                        "type": {"type": "string", "enum": ["text", "json_object", "json_schema"]},
                        "json_schema": {"type": "object"},
                    },
                },
            },
        },
    },
}
"""Body of `POST /infer` as JSON Schema. What it cannot say is checked in `_check_across_fields`."""

_ASKED: Final = SCHEMA["properties"]

DEFAULT_IDLE_MINUTES: Final = 5
DEFAULT_MAX_TOKENS: Final = 256


@dataclass(frozen=True, slots=True)
class Job:
    """A job as it lies under `job:{id}`; exactly one of `prompt` and `messages` is set."""

    id: str
    sub: str
    prompt: str | None
    messages: list[dict[str, str]] | None
    raw: bool
    params: dict[str, Any]
    idle_minutes: int
    reply_path: str
    enqueued_at: float
    traceparent: str | None = None

    def to_json(self) -> str:
        """Return the payload for Redis: JSON without the fields that are unset."""
        return _encoder.encode({name: value for name in _FIELDS if (value := getattr(self, name)) is not None})

    @classmethod
    def from_json(cls, payload: str | bytes) -> Job:
        """Read a payload back, checking it as strictly as a request.

        Raises:
            InvalidJob: it is not JSON, or a field is missing, unknown or wrong.
        """
        stored = read_json(payload)
        if not isinstance(stored, dict):
            raise InvalidJob([FieldError("body", "must be a JSON object")])
        errors: list[FieldError] = []
        stored = {k: v for k, v in stored.items() if v is not None}
        asked: dict[str, Any] = {}
        envelope: dict[str, Any] = {}
        for name, value in stored.items():
            (asked if name in _ASKED else envelope)[name] = value
        if not _fits_schema(asked):
            check(asked, SCHEMA, "", errors)
        _check_across_fields(asked, errors)
        if not _fits_envelope(envelope):
            check(envelope, _ENVELOPE, "", errors)
        if not errors and not is_job_id(stored["id"]):
            errors.append(FieldError("id", "must be a lower-case UUID v4"))
        raise_any(errors)
        return cls(**_defaults() | stored)


_FIELDS: Final = tuple(each.name for each in fields(Job))
_encoder: Final = json.JSONEncoder(separators=(",", ":"))

_ENVELOPE: dict[str, Any] = {
    "type": "object",
    "additionalProperties": False,
    "required": ["id", "sub", "reply_path", "enqueued_at"],
    "properties": {
        "id": {"type": "string"},
        "sub": {"type": "string"},
        "reply_path": {"type": "string"},
        "enqueued_at": {"type": "number", "minimum": 0},
        "traceparent": {"type": "string"},
    },
}


_fits_schema: Final = quick(SCHEMA)
_fits_envelope: Final = quick(_ENVELOPE)


def parse_request(body: bytes | str, earlier: Iterable[FieldError] = ()) -> dict[str, Any]:
    """Check the body of `POST /infer` and return its fields with the defaults filled in.

    Keys of the result: `prompt`, `messages`, `raw`, `params`, `idle_minutes`, ready for `Job(**fields, …)`.
    `earlier` are errors that were found outside the body; they are raised together with those in it.

    Raises:
        InvalidJob: naming every bad field at once.
    """
    errors = list(earlier)
    size = len(body) if isinstance(body, bytes) else len(body.encode("utf-8", "surrogatepass"))
    if size > MAX_BODY_BYTES:
        errors.append(FieldError("body", f"is {size} bytes long; send at most {MAX_BODY_BYTES}"))
    if size > MAX_PARSED_BYTES:
        raise InvalidJob(errors)
    try:
        request = read_json(body)
    except InvalidJob as error:
        raise InvalidJob([*errors, *error.errors]) from None
    check(request, SCHEMA, "", errors)
    if isinstance(request, dict):
        _check_across_fields(request, errors)
    raise_any(errors)
    assert isinstance(request, dict)
    return _defaults() | request


def _defaults() -> dict[str, Any]:
    return {
        "prompt": None,
        "messages": None,
        "raw": False,
        "params": {},
        "idle_minutes": DEFAULT_IDLE_MINUTES,
    }


def is_job_id(value: object) -> TypeGuard[str]:
    """Tell whether `value` is a lower-case UUID v4 in its hyphenated form."""
    return isinstance(value, str) and _UUID4.fullmatch(value) is not None


def new_job_id(random_bytes: bytes) -> str:
    """Make a job id, a UUID v4, out of 16 random bytes."""
    return str(UUID(bytes=random_bytes, version=4))


def job_key(job_id: str) -> str:
    """Key of the payload."""
    return f"job:{job_id}"


def booting_note(phase: str, at: float) -> str:
    """Return what `gpu:booting` holds while a worker loads: as JSON, the phase and since when, in Unix seconds."""
    return json.dumps({"phase": phase, "at": round(at, 3)})


def lease_key(job_id: str) -> str:
    """Key that holds the id of the worker that runs the job."""
    return f"lease:{job_id}"


def cancel_key(job_id: str) -> str:
    """Key that `POST /stop` sets."""
    return f"cancel:{job_id}"


def worker_key(worker_id: str) -> str:
    """Key of a worker's heartbeat."""
    return f"worker:{worker_id}"


def idempotency_key(sub: str, key: str) -> str:
    """Key of the job that an `Idempotency-Key` stands for."""
    return f"idem:{user_in_key(sub)}:{key}"


def user_in_key(sub: str) -> str:
    """Return a user's name as keys hold it: percent-encoded, so that no name leads to another user's keys."""
    return quote(sub, safe="@", errors="surrogatepass")  # JSON can name a user by half a surrogate pair


def reply_key(job_id: str) -> str:
    """Key of the reply object inside its bucket."""
    return f"replies/{job_id}.json"


def reply_path(bucket: str, job_id: str) -> str:
    """Full address of the reply object."""
    return f"s3://{bucket}/{reply_key(job_id)}"


def _check_across_fields(request: dict[str, Any], errors: list[FieldError]) -> None:
    """Check the rules that span fields; a field that is wrong by itself is left to `check`."""
    if "prompt" in request and "messages" in request:
        errors.append(FieldError("messages", "must not stand beside prompt; send one of the two"))
    if "prompt" not in request and "messages" not in request:
        errors.append(FieldError("prompt", "is missing; send prompt or messages"))
    if request.get("raw") is True and "messages" in request:
        errors.append(FieldError("raw", "goes with prompt only; messages always use the chat template"))
    messages = request.get("messages")
    if isinstance(messages, list) and messages:
        contents = [m.get("content") for m in messages if isinstance(m, dict)]
        size = sum(utf8_length(content) for content in contents if isinstance(content, str))
        if size > MAX_PROMPT_BYTES:
            errors.append(FieldError("messages", f"hold {size} bytes; at most {MAX_PROMPT_BYTES} together"))
        if size == 0 and all(isinstance(content, str) for content in contents):
            errors.append(FieldError("messages", "must not all be empty"))
    params = request.get("params")
    answer = params.get("response_format") if isinstance(params, dict) else None
    if isinstance(answer, dict) and (answer.get("type") == "json_schema") != ("json_schema" in answer):
        errors.append(
            FieldError("params.response_format.json_schema", 'goes with "type": "json_schema", and only there')
        )
