"""Builds the bodies of `POST /infer` and `POST /stop`. Whether fields are right is the service's to say."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from client.errors import InvalidSettings
from router_lambda.job import is_job_id


def encode_body(
    *,
    prompt: str | None = None,
    messages: Sequence[Mapping[str, str]] | None = None,
    raw: bool = False,
    idle_minutes: int | None = None,
    params: Mapping[str, Any] | None = None,
) -> bytes:
    """Return the body as JSON in UTF-8, without the fields that were left out.

    Raises:
        InvalidSettings: a text is no Unicode, or a number is not finite, neither of which JSON can carry.
    """
    body: dict[str, Any] = {}
    if prompt is not None:
        body["prompt"] = prompt
    if messages is not None:
        body["messages"] = [dict(message) for message in messages]
    if raw:
        body["raw"] = True
    if idle_minutes is not None:
        body["idle_minutes"] = idle_minutes
    if params:
        body["params"] = dict(params)
    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False).encode()
    except UnicodeEncodeError:
        # Without the original, which repeats the text.
        raise InvalidSettings(["the prompt or another text is not valid Unicode; send UTF-8"]) from None
    except ValueError:
        raise InvalidSettings(["a number is infinite or not a number; send finite ones"]) from None


def encode_cancel(job_id: str) -> bytes:
    """Return the body of `POST /stop` that cancels a job.

    Raises:
        InvalidSettings: that is no id of a job.
    """
    if not is_job_id(job_id):
        raise InvalidSettings(["the id of a job is a UUID in lower case; `tlfif infer` prints it as it starts"])
    return json.dumps({"id": job_id}).encode()


def text_messages(system: str, prompt: str) -> list[dict[str, str]]:
    """Return the chat of one system message and one user message."""
    return [{"role": "system", "content": system}, {"role": "user", "content": prompt}]


def json_schema_format(schema: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `response_format` for a JSON Schema, in the shape of the OpenAI chat API."""
    return {"type": "json_schema", "json_schema": {"name": "reply", "schema": dict(schema)}}
