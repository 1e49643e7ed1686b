"""The part of `benchmarks.router` that runs inside Lambda's Python, with the unpacked package on its path.

Reads a JSON object from standard input: `calls`, `rounds`, `redis`. Writes one to standard output: for every route the
seconds of each call of the handler, and the seconds of each pass through the same Redis commands without it.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import count
from typing import Any

import redis

from router_lambda.handler import handler
from router_lambda.job import ENQUEUE_LUA, GPU_CLOSING, QUEUE_OPEN, QUEUE_READY, cancel_key, job_key, worker_key
from router_lambda.queue import CANCEL_LUA
from router_lambda.throttle import BURST, INTERVAL_SECONDS, TAKE_LUA, rate_key

WORKER = worker_key("bench")
HEARTBEAT = json.dumps({"slots": 64, "job_seconds": 0.1})
"""Of a worker so fast that nothing of what is queued here, and never run, makes the queue full."""
PAYLOAD = json.dumps({"sub": "user-0", "prompt": "Why is the sky blue? " * 20})
_ARGUMENTS = (INTERVAL_SECONDS * 1_000_000, INTERVAL_SECONDS * 1_000_000 * (BURST - 1))

Call = Callable[[], Any]


def event(method: str, path: str, sub: str, body: str | None = None) -> dict[str, Any]:
    """Return what API Gateway sends for a user whom the authorizer let in."""
    context = {
        "http": {"method": method, "path": path, "sourceIp": "127.0.0.1"},
        "authorizer": {"lambda": {"sub": sub, "exp": 2**33}},
        "requestId": "bench",
        "stage": "$default",
    }
    sent = {
        "version": "2.0",
        "rawPath": path,
        "headers": {"content-type": "application/json"},
        "requestContext": context,
    }
    return sent if body is None else sent | {"body": body}


def uuids() -> Iterator[str]:
    """Yield job ids, each once."""
    for number in count():
        yield f"{number:08x}-0000-4000-8000-000000000000"


def routes(client: redis.Redis) -> dict[str, tuple[Call, Call | None]]:
    """Return each route's call of the handler and its floor, if it uses Redis; every call is a user's first."""
    subs = (f"user-{number}" for number in count(1))
    prompt = json.dumps({"prompt": "Why is the sky blue? " * 20, "params": {"max_tokens": 64}})
    take, cancel = client.register_script(TAKE_LUA), client.register_script(CANCEL_LUA)
    ids = uuids()
    known = next(ids)
    client.set(job_key(known), PAYLOAD)

    def infer_floor() -> None:
        job = next(ids)
        take(keys=[rate_key(next(subs))], args=_ARGUMENTS)
        pipeline = client.pipeline(transaction=False)
        pipeline.eval(ENQUEUE_LUA, 3, job_key(job), QUEUE_OPEN, QUEUE_READY, job, PAYLOAD, 1.5, 300, 100_000)
        pipeline.pttl(GPU_CLOSING)
        pipeline.get(WORKER)
        pipeline.execute()

    def cancel_floor() -> None:
        take(keys=[rate_key(next(subs), "stop")], args=_ARGUMENTS)
        cancel(keys=[job_key(known), cancel_key(known)], args=["user-0", 300])

    def stop() -> None:
        client.delete(rate_key("user-0", "stop"))  # the job's owner is one user, and he may not call so often
        began.append(time.perf_counter())
        answer = handler(event("POST", "/stop", "user-0", json.dumps({"id": known})), None)
        assert answer["statusCode"] == 202, answer

    def infer() -> None:
        began.append(time.perf_counter())
        answer = handler(event("POST", "/infer", next(subs), prompt), None)
        assert json.loads(answer["body"])["status"] == "queued", answer

    def get(path: str) -> Call:
        def call() -> None:
            began.append(time.perf_counter())
            assert handler(event("GET", path, "nobody"), None)["statusCode"] == 200

        return call

    return {
        "POST /infer": (infer, infer_floor),
        "POST /stop": (stop, cancel_floor),
        "GET /queue-health": (get("/queue-health"), client.ping),
        "GET /ping": (get("/ping"), None),
    }


began: list[float] = []
"""When the handler was called last: what a call prepares before that is not measured."""


def measure(calls: int, call: Call, client: redis.Redis) -> list[float]:
    """Return the seconds of each of so many calls."""
    taken = []
    for number in range(calls):
        if number % 100 == 0:  # what was queued is of no use any more, and a queue that is full takes nothing
            client.delete(QUEUE_READY, QUEUE_OPEN)
        began[:] = [time.perf_counter()]
        call()
        taken.append(time.perf_counter() - began[-1])
    return taken


def main() -> None:
    """Measure the routes and their floors in turns, so that both meet the same noise."""
    wish = json.load(sys.stdin)
    client = redis.Redis.from_url(wish["redis"], socket_timeout=5)
    client.set(WORKER, HEARTBEAT)
    found: dict[str, dict[str, list[float]]] = {}
    with redirect_stdout(io.StringIO()):  # the access lines
        for _ in range(wish["rounds"]):
            for name, (call, floor) in routes(client).items():
                measure(10, call, client)
                of_route = found.setdefault(name, {"handler": [], "floor": []})
                of_route["handler"] += measure(wish["calls"], call, client)
                of_route["floor"] += measure(wish["calls"], floor, client) if floor else []
    json.dump({"python": sys.version.split()[0], "redis": redis.__version__, "routes": found}, sys.stdout)


if __name__ == "__main__":
    main()
