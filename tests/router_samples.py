"""Jobs and API Gateway events that the tests of the router start from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from router_lambda.job import Job

JOB_ID: Final = "5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f"

JOB: Final = Job(
    id=JOB_ID,
    sub="user-1",
    prompt="Where is Zürich? 😀",
    messages=None,
    raw=False,
    params={"max_tokens": 16, "temperature": 0.5, "stop": ["\n", "é"]},
    idle_minutes=5,
    reply_path=f"s3://tl-fif/replies/{JOB_ID}.json",
    enqueued_at=1_790_000_000.123456,
    traceparent="00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)


def numbered_job(number: int) -> Job:
    """Return a job like `JOB` with an id of its own."""
    return replace(JOB, id=f"{number:08x}{JOB_ID[8:]}", enqueued_at=JOB.enqueued_at + number)


def event(method: str, path: str, body: str | None = None, **changes: Any) -> dict[str, Any]:
    """Build an event of payload format 2.0 of a user that the authorizer let through.

    `changes` go into the event; `authorizer`, which lies deeper, is named without its path.
    """
    context = {
        "accountId": "000000000000",
        "apiId": "test",
        "authorizer": changes.pop("authorizer", {"lambda": {"sub": "user-1"}}),
        "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": "127.0.0.1"},
        "requestId": "request-1",
        "stage": "$default",
    }
    sent = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": path,
        "rawQueryString": "",
        "headers": {"authorization": "Bearer a-token", "content-type": "application/json"},
        "requestContext": context,
        "isBase64Encoded": False,
    }
    return sent | ({} if body is None else {"body": body}) | changes
