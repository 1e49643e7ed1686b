"""Schemathesis makes requests out of the API's description, good and bad ones, and judges the answers by it.

Every check that it has is on. Nothing is asked of S3 or EC2, whose stand-ins are those of `api_world`.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import pytest

from local.gateway import Handler
from tests.integration.api_world import ENVIRONMENT, TOKEN, api, letting_in
from tests.openapi import FILE

PROGRAM: Final = Path(sys.executable).with_name("schemathesis")
FAILED: Final = 1

Answer = dict[str, Any]


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set what the router signs with."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)


def run(url: str, folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """Run schemathesis against a URL: the same requests in the same order each time."""
    command: list[str | Path] = [
        PROGRAM,
        "run",
        FILE,
        "--url",
        url,
        "-H",
        f"Authorization: Bearer {TOKEN}",
        "--no-color",
    ]
    steady = ["--seed", "1", "--generation-database", "none", "--phases", "examples,coverage,fuzzing"]
    environment = os.environ | {"PYTHONHASHSEED": "0", "NO_PROXY": "127.0.0.1"}
    return subprocess.run(
        [*command, *steady, *options], check=False, cwd=folder, env=environment, capture_output=True, text=True
    )


def counting(seen: Counter[str]) -> Callable[[Handler], Handler]:
    """Return what counts a router's answers by method, path and status."""

    def wrap(router: Handler) -> Handler:
        def counted(event: dict[str, Any], context: object) -> Answer:
            answer = router(event, context)
            seen[f"{event['requestContext']['http']['method']} {event['rawPath']} {answer['statusCode']}"] += 1
            return answer

        return counted

    return wrap


def test_thousands_of_requests_are_answered_as_described(
    redis_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No 5xx, nothing undocumented, bad requests refused and good ones accepted; each by a user of its own."""
    seen: Counter[str] = Counter()
    with api(redis_url, letting_in(lambda: str(uuid4())), counting(seen)) as url:
        found = run(url, tmp_path, "--checks", "all", "--max-examples", "400")
    assert found.returncode == 0, found.stdout
    generated = re.search(r"(\d+) generated, (\d+) passed", found.stdout)
    assert generated is not None
    with capsys.disabled():
        print(f" {generated[1]} cases, {seen.total()} requests to the router ", end="")  # noqa: T201 - worth knowing

    assert generated[1] == generated[2]
    assert int(generated[1]) >= 2_000
    assert seen.total() >= 2_000
    assert seen.keys() >= {
        *("POST /infer 202", "POST /infer 400", "POST /stop 202", "POST /stop 400", "POST /stop 404"),
        *("GET /status 200", "GET /ping 200", "GET /queue-health 200"),
        *("OPTIONS /infer 204", "OPTIONS /infer 403", "PUT /infer 405"),
    }


def test_one_user_is_throttled_as_described(redis_url: str, tmp_path: Path) -> None:
    """Nearly everything is 429, and that is documented too."""
    seen: Counter[str] = Counter()
    with api(redis_url, letting_in(lambda: "user-1"), counting(seen)) as url:
        found = run(url, tmp_path, "--checks", "all", "--max-examples", "20", "--include-method", "POST")

    assert found.returncode == 0, found.stdout
    assert seen["POST /infer 429"] > seen["POST /infer 202"] > 0
    assert seen["POST /stop 429"] > 0


def _other_status(answer: Answer) -> Answer:
    return answer | {"statusCode": 201} if answer["statusCode"] == 202 else answer


def _failure(answer: Answer) -> Answer:
    if '"n"' in answer["body"] or "params.n" in answer["body"]:
        raise RuntimeError("planted")
    return answer


def _other_media_type(answer: Answer) -> Answer:
    return answer | {"headers": answer["headers"] | {"content-type": "text/plain"}}


def _other_body(answer: Answer) -> Answer:
    return answer | {"body": answer["body"].replace('"id"', '"ID"')}


def _lost_header(answer: Answer) -> Answer:
    return answer | {"headers": {name: it for name, it in answer["headers"].items() if name != "x-request-id"}}


def _refused(answer: Answer) -> Answer:
    problem = {"statusCode": 400, "headers": {"content-type": "application/problem+json"}, "body": "{}"}
    return problem if answer["statusCode"] == 202 else answer


def _accepted(answer: Answer) -> Answer:
    return answer | {"statusCode": 202} if answer["statusCode"] == 400 else answer


def _other_method(answer: Answer) -> Answer:
    return answer | {"statusCode": 200} if answer["statusCode"] == 405 else answer


@pytest.mark.parametrize(
    ("check", "plant"),
    [
        ("status_code_conformance", _other_status),
        ("not_a_server_error", _failure),
        ("content_type_conformance", _other_media_type),
        ("response_schema_conformance", _other_body),
        ("response_headers_conformance", _lost_header),
        ("positive_data_acceptance", _refused),
        ("negative_data_rejection", _accepted),
        ("unsupported_method", _other_method),
    ],
)
def test_a_planted_fault_is_found(
    redis_url: str, tmp_path: Path, check: str, plant: Callable[[Answer], Answer]
) -> None:
    """By the one check that is there for it."""

    def wrap(router: Handler) -> Handler:
        return lambda event, context: plant(router(event, context))

    with api(redis_url, letting_in(lambda: str(uuid4())), wrap) as url:
        short = ("--max-examples", "20", "--max-failures", "1", "--no-shrink", "--include-path", "/infer")
        found = run(url, tmp_path, "--checks", check, *short)

    assert found.returncode == FAILED, found.stdout + found.stderr


def test_an_open_door_is_found(redis_url: str, tmp_path: Path) -> None:
    """An authorizer that lets everybody in."""

    def careless(_event: dict[str, Any], _context: object) -> Answer:
        return {"isAuthorized": True, "context": {"sub": str(uuid4())}}

    with api(redis_url, careless) as url:
        found = run(url, tmp_path, "--checks", "ignored_auth", "--max-examples", "20", "--include-path", "/infer")

    assert found.returncode == FAILED, found.stdout + found.stderr
