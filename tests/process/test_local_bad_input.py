"""Bad requests over real HTTP through gateway, authorizer, router and Redis: each is answered, none is queued."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import redis

from tests.process.local_world import LocalProcess, forget_calls

BAD: dict[str, tuple[bytes, set[str]]] = {
    "unknown fields": (b'{"prompt": "x", "colour": 1, "params": {"tempo": 2}}', {"colour", "params.tempo"}),
    "wrong types": (
        b'{"prompt": 5, "raw": "yes", "idle_minutes": true, "params": {"stop": [1], "n": "2"}}',
        {"prompt", "raw", "idle_minutes", "params.stop[0]", "params.n"},
    ),
    "empty body": (b"", {"body"}),
    "empty object": (b"{}", {"prompt"}),
    "empty prompt": (b'{"prompt": ""}', {"prompt"}),
    "no object": (b"[]", {"body"}),
    "6,145 bytes": (json.dumps({"prompt": "x" * 6_145}).encode(), {"prompt"}),
    "6,145 bytes in 3,073 characters": (
        json.dumps({"prompt": "ü" * 3_072 + "x"}, ensure_ascii=False).encode(),
        {"prompt"},
    ),
    "lone surrogates": (b'{"prompt": "\\ud800"}', {"prompt"}),
    "invalid UTF-8": (b'{"prompt": "\xff\xfe"}', {"body"}),
    "arrays nested 10,000 deep": (b"[" * 10_000 + b"]" * 10_000, {"body"}),
    "objects nested 10,000 deep": (b'{"a":' * 10_000 + b"1" + b"}" * 10_000, {"body"}),
    "1 MB": (json.dumps({"prompt": "x" * 1_000_000, "raw": 1}).encode(), {"body", "prompt", "raw"}),
}

NO_JOBS = (b"rate:", b"worker:")
"""Keys of the throttle and of the worker's heartbeat."""


@pytest.fixture(scope="module")
def addresses(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """Yield the addresses of a system whose worker takes no jobs."""
    with LocalProcess.with_stand_in(tmp_path_factory.mktemp("local")) as local:
        yield local.ready()


@pytest.mark.parametrize("case", BAD)
def test_it_is_refused_and_nothing_is_queued(addresses: dict[str, Any], case: str) -> None:
    """400 as a problem document that names every bad field, and Redis stays empty."""
    body, fields = BAD[case]
    forget_calls(addresses)
    headers = {"authorization": f"Bearer {addresses['token']}", "content-type": "application/json"}
    answer = httpx.post(f"{addresses['gateway']}/infer", content=body, headers=headers)
    assert answer.status_code == 400
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert {"type", "title", "status", "detail", "request_id", "errors"} == problem.keys()
    assert {error["field"] for error in problem["errors"]} == fields
    with redis.Redis.from_url(addresses["redis"]) as queue:
        assert {key for key in queue.scan_iter() if not key.startswith(NO_JOBS)} == set()
