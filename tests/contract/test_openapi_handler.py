"""The router, and the edge before it, against the API's description: every answer that it lists, and no other."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final

import fakeredis
import httpx
import pytest
from botocore.exceptions import EndpointConnectionError

from local.gateway import MAX_BODY_BYTES, Gateway
from router_lambda.budget import Budget
from router_lambda.infer import _IDEMPOTENCY_KEY
from router_lambda.job import GPU_BOOTING, QUEUE_OPEN, QUEUE_READY, booting_note, job_key
from router_lambda.throttle import BURST
from tests.budget_world import CAP, Guarded
from tests.openapi import METHODS, PROBLEM, document, faults, responses, validator
from tests.router_samples import JOB, JOB_ID, event
from tests.router_world import NOW, Clock, FakeEc2, beat, make_router

LOCAL: Final = "http://localhost:5173"
FOREIGN: Final = "https://localhost.example.org"
PROMPT: Final = '{"prompt": "a"}'
CANCEL: Final = json.dumps({"id": JOB_ID})
POSTED: Final = ("/infer", "/stop")
READ: Final = ("/status", "/ping", "/queue-health")
PATHS: Final = (*POSTED, *READ)
GUARDED: Final = (*(("POST", path) for path in POSTED), ("GET", "/status"))
"""Routes behind the authorizer."""

SIGNS_WITH: Final = {
    "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_REGION": "eu-central-1",
}

EDGE_ONLY: Final = {
    *((method, path, 403) for method, path in GUARDED),
    *(("POST", path, 413) for path in POSTED),
    *((method, path, 500) for path in PATHS for method in ("OPTIONS", "POST" if path in POSTED else "GET")),
}
"""What the router itself never answers: API Gateway does, in front of it or in place of it."""


class World:
    """A router and all that is behind it. The GPU sleeps, nothing waits, and most of the budget is left."""

    def __init__(self) -> None:
        self.server = fakeredis.FakeServer(version=(6, 2))
        self.redis = fakeredis.FakeRedis(server=self.server)
        self.ec2 = FakeEc2(Clock())
        self.guarded = Guarded()
        self.guarded.spend(CAP / 4)
        check = Budget(CAP, self.guarded.read, self.ec2.clock)
        self.app = make_router(self.redis, self.ec2, self.ec2.clock, check=check)

    def wake(self) -> None:
        """Let a worker be alive."""
        beat(self.redis)

    def overspend(self) -> None:
        """Let the budget be used up."""
        self.guarded.spend(CAP + 0.13)

    def forget_spend(self) -> None:
        """Let nobody know what was spent."""
        self.guarded.objects.clear()

    def break_redis(self) -> None:
        """Take Redis away."""
        self.server.connected = False

    def fill(self) -> None:
        """Let more jobs wait than can be run."""
        self.redis.rpush(QUEUE_READY, *range(10_000))

    def hold_job(self) -> None:
        """Let a job of `user-1` wait, and a GPU run."""
        self.redis.set(job_key(JOB_ID), JOB.to_json())
        self.redis.zadd(QUEUE_OPEN, {JOB_ID: NOW})
        self.ec2.state = "running"

    def lose_instance(self) -> None:
        """Let no instance have the tag."""
        self.ec2.state = None

    def boot(self) -> None:
        """Let a worker load its model while a job waits."""
        self.hold_job()
        self.redis.rpush(QUEUE_READY, JOB_ID)
        self.redis.set(GPU_BOOTING, booting_note("engine", NOW))

    def close(self) -> None:
        """Let a worker be about to stop its instance."""
        self.ec2.state = "running"
        beat(self.redis, state="draining")

    def hide_ec2(self) -> None:
        """Let EC2 answer nobody."""
        self.ec2.failures["describe_instances"] = EndpointConnectionError(endpoint_url="https://ec2.test")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Return a world whose router signs with made-up credentials."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    for name, value in SIGNS_WITH.items():
        monkeypatch.setenv(name, value)
    return World()


@dataclass(frozen=True)
class Case:
    """A request, what is the matter when it comes, and the status that it gets."""

    method: str
    path: str
    status: int
    body: str | None = None
    given: Callable[[World], None] | None = None
    times: int = 1
    changes: dict[str, Any] = field(default_factory=dict)
    content: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        matter = self.given.__name__ if self.given else next(iter(self.changes), "")
        return f"{self.method} {self.path} {self.status} {matter} {self.body or ''}".strip()


NOBODY: Final[dict[str, Any]] = {"authorizer": {}}
EXPIRED: Final = {"authorizer": {"lambda": {"sub": "user-1", "exp": NOW - 60}}}
ELSEWHERE: Final = {"source": "203.0.113.9"}
OFTEN: Final = BURST + 1

CASES: Final = [
    Case("POST", "/infer", 202, PROMPT, World.wake, content={"status": "queued"}),
    Case("POST", "/infer", 202, PROMPT, content={"status": "starting"}),
    Case("POST", "/infer", 400),
    Case("POST", "/infer", 400, '{"prompt": "", "params": {"n": 9}, "x": 1}'),
    Case("POST", "/infer", 400, PROMPT, changes={"headers": {"Idempotency-Key": "é"}}),
    Case("POST", "/infer", 400, "=", changes={"isBase64Encoded": True}),
    Case("POST", "/infer", 401, PROMPT, changes=NOBODY),
    Case("POST", "/infer", 401, PROMPT, changes=EXPIRED),
    Case("POST", "/infer", 402, PROMPT, World.overspend, 2),
    Case("POST", "/infer", 429, PROMPT, World.wake, OFTEN),
    Case("POST", "/infer", 503, PROMPT, World.break_redis),
    Case("POST", "/infer", 503, PROMPT, World.lose_instance),
    Case("POST", "/infer", 503, PROMPT, World.forget_spend),
    Case("POST", "/infer", 503, PROMPT, World.fill),
    Case("POST", "/stop", 202, CANCEL, World.hold_job, content={"status": "cancelling"}),
    Case("POST", "/stop", 202, None, World.hold_job, content={"status": "stopping"}),
    Case("POST", "/stop", 202, None, content={"status": "stopped"}),
    Case("POST", "/stop", 400, "{}"),
    Case("POST", "/stop", 400, '{"id": "x"}'),
    Case("POST", "/stop", 401, changes=NOBODY),
    Case("POST", "/stop", 404, CANCEL),
    Case("POST", "/stop", 429, None, None, OFTEN),
    Case("POST", "/stop", 503, CANCEL, World.break_redis),
    Case("GET", "/status", 200, None, World.wake, content={"state": "ready", "eta": None}),
    Case("GET", "/status", 200, None, World.boot, content={"state": "booting", "phase": "engine", "waiting": 1}),
    Case("GET", "/status", 200, None, World.hold_job, content={"state": "starting", "phase": "instance"}),
    Case("GET", "/status", 200, None, World.close, content={"state": "stopping", "eta": None}),
    Case("GET", "/status", 200, content={"state": "stopped", "problem": None}),
    Case("GET", "/status", 200, None, World.lose_instance, content={"state": "stopped"}),
    Case("GET", "/status", 200, None, World.overspend, content={"state": "stopped"}),
    Case("GET", "/status", 401, changes=NOBODY),
    Case("GET", "/status", 429, None, World.wake, OFTEN),
    Case("GET", "/status", 503, None, World.break_redis),
    Case("GET", "/status", 503, None, World.hide_ec2),
    Case("GET", "/ping", 200),
    Case("GET", "/ping", 403, changes=ELSEWHERE),
    Case("GET", "/queue-health", 200),
    Case("GET", "/queue-health", 403, changes=ELSEWHERE),
    Case("GET", "/queue-health", 503, None, World.break_redis),
    Case("GET", "/", 404),
    Case("POST", "/ping/", 404),
    *(Case("OPTIONS", path, 204) for path in (*PATHS, "/elsewhere")),
    *(Case(method, path, 405) for path in PATHS for method in ("PUT", "HEAD", "DELETE", "PATCH")),
    *(Case("GET", path, 405) for path in POSTED),
    *(Case("POST", path, 405) for path in READ),
]


def ask(world: World, case: Case, origin: str | None) -> dict[str, Any]:
    """Send a case's request as often as it says, holding every answer against the description; return the last."""
    changes = dict(case.changes)
    source = changes.pop("source", None)
    if origin is not None:
        changes["headers"] = changes.get("headers", {}) | {"Origin": origin}
    sent = event(case.method, case.path, case.body, **changes)
    if source is not None:
        sent["requestContext"]["http"]["sourceIp"] = source
    if case.given is not None:
        case.given(world)
    for _ in range(case.times):
        answer = world.app(sent)
        described = (case.method, case.path, answer["statusCode"], answer["headers"], answer["body"])
        assert faults(*described, is_local_page=origin == LOCAL) == []
    return answer


@pytest.mark.parametrize("origin", [None, LOCAL, FOREIGN])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_answer_is_as_described(world: World, case: Case, origin: str | None) -> None:
    """Status, media type, body and every header; those for browsers if, and only if, the page is local."""
    answer = ask(world, case, origin)

    is_refused = case.method == "OPTIONS" and origin != LOCAL
    assert answer["statusCode"] == (403 if is_refused else case.status)
    content = json.loads(answer["body"] or "{}")
    assert case.content.items() <= content.items()
    if case.path == "/infer" and "eta" in content:
        assert answer["headers"]["retry-after"] == str(content["eta"])


def test_every_described_answer_was_provoked() -> None:
    """By the cases above, and what is left over can only come from the edge."""
    provoked = {(case.method if case.status != 405 else "*", case.path, case.status) for case in CASES}
    provoked |= {("OPTIONS", path, 403) for path in PATHS}
    described = {(method, path, status) for method, path, status, _ in responses()}

    assert described - provoked == EDGE_ONLY
    assert provoked - described == {("GET", "/", 404), ("POST", "/ping/", 404), ("OPTIONS", "/elsewhere", 204)}


@pytest.mark.parametrize("key", ["a", "a b", "!" * 64, "~", "é", "a\t", "a" * 65, "\x7f"])
def test_idempotency_keys_are_the_router_s(key: str) -> None:
    """Except for spaces at the ends, which no header keeps on its way."""
    (described,) = [it for it in document()["paths"]["/infer"]["post"]["parameters"] if it["name"] == "Idempotency-Key"]

    assert validator(described["schema"]).is_valid(key) == (_IDEMPOTENCY_KEY.fullmatch(key) is not None)


@pytest.mark.parametrize(("port", "status"), [("", 204), (":1", 204), (":65535", 204), (":0", 403), (":65536", 403)])
def test_origins_are_the_router_s(world: World, port: str, status: int) -> None:
    """The ports that a page can come from."""
    (described,) = document()["paths"]["/ping"]["options"]["parameters"]
    origin = f"http://localhost{port}"
    answer = world.app(event("OPTIONS", "/ping", headers={"origin": origin}))

    assert answer["statusCode"] == status
    assert validator(described["schema"]).is_valid(origin) == (status == 204)


# The edge


async def at_edge(method: str, path: str, headers: dict[str, str], content: bytes = b"") -> httpx.Response:
    """Ask a gateway whose router fails and whose authorizer lets the token `good` in."""

    def fail(_event: Any, _context: object) -> dict[str, Any]:
        raise RuntimeError("planted")

    def authorize(event: Any, _context: object) -> dict[str, Any]:
        return {"isAuthorized": event["headers"]["authorization"] == "Bearer good", "context": {"sub": "user-1"}}

    async def health() -> dict[str, Any]:
        return {}

    transport = httpx.ASGITransport(Gateway(fail, authorize, health))
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await client.request(method, path, headers=headers, content=content)


GOOD: Final = {"authorization": "Bearer good"}


@pytest.mark.parametrize(
    ("method", "path", "status", "headers", "size"),
    [
        *((method, path, 401, {}, 0) for method, path in GUARDED),
        *((method, path, 403, {"authorization": "Bearer bad"}, 0) for method, path in GUARDED),
        *(("POST", path, 413, GOOD, MAX_BODY_BYTES + 1) for path in POSTED),
        *((method, path, 500, GOOD, 0) for method, path, status in sorted(EDGE_ONLY) if status == 500),
    ],
)
async def test_edge_answers_as_described(
    method: str, path: str, status: int, headers: dict[str, str], size: int
) -> None:
    """All that API Gateway answers in the router's place, as the local gateway does it."""
    answer = await at_edge(method, path, headers, bytes(size))

    shown = {"content-type": answer.headers["content-type"]}
    assert answer.status_code == status
    assert faults(method, path, status, shown, answer.text, is_local_page=False) == []


# The judge


ANSWER: Final = {"x-request-id": JOB_ID, "location": "https://x", "content-type": "application/json"}
BODY: Final = json.dumps({"status": "queued", "id": JOB_ID})


def refusal(status: int, told: int) -> tuple[int, dict[str, str], str]:
    """Return an answer whose body tells a status that may be another one."""
    members = {
        "type": "about:blank",
        "title": HTTPStatus(told).phrase,
        "status": told,
        "detail": "x",
        "request_id": "1",
    }
    return status, {"content-type": PROBLEM}, json.dumps(members)


def test_the_judge_lets_pass() -> None:
    """What the next tests spoil is as described."""
    assert faults("POST", "/infer", 202, ANSWER, BODY, is_local_page=False) == []
    assert faults("GET", "/none", *refusal(404, 404), is_local_page=False) == []


@pytest.mark.parametrize(
    ("status", "headers", "body"),
    [
        (204, ANSWER, BODY),
        (202, ANSWER | {"x-new": "1"}, BODY),
        (202, ANSWER | {"retry-after": "soon"}, BODY),
        (202, ANSWER | {"content-type": "text/plain"}, BODY),
        (202, ANSWER | {"vary": "origin"}, BODY),
        (202, {name: ANSWER[name] for name in ("location", "content-type")}, BODY),
        (202, {name: ANSWER[name] for name in ("location", "x-request-id")}, ""),
        (202, ANSWER, '{"status": "queued"}'),
        refusal(401, 401),  # without WWW-Authenticate
        refusal(403, 403),  # the edge's alone
    ],
)
def test_the_judge_finds(status: int, headers: dict[str, str], body: str) -> None:
    """An answer to `POST /infer` that is not described has a fault."""
    assert faults("POST", "/infer", status, headers, body, is_local_page=False) != []


def test_the_judge_misses_headers_for_local_pages() -> None:
    """What a page needs has to be there if the page may call."""
    assert faults("POST", "/infer", 202, ANSWER, BODY, is_local_page=True) != []


def test_the_judge_reads_the_status_in_a_problem() -> None:
    """It has to be the answer's own."""
    assert faults("GET", "/none", *refusal(404, 403), is_local_page=False) != []


def test_the_judge_knows_every_method() -> None:
    """A method that the document uses and the judge does not would go unjudged."""
    named = {name for item in document()["paths"].values() for name in item if not name.startswith("x-")}

    assert named == {method.lower() for method in METHODS}
