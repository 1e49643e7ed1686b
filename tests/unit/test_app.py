"""One request through a Lambda: routing, problems, the access line, and the event's forms."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from router_lambda.app import App
from router_lambda.http import Problem, Request, answer
from router_lambda.job import FieldError, InvalidJob
from tests.router_samples import event
from tests.router_world import content, problem

ORIGIN = {"origin": "http://localhost:3000"}


class Sounds:
    """Routes that show what they were given, and fail in the ways that routes fail."""

    def __init__(self) -> None:
        self.requests: list[Request] = []

    def show(self, request: Request) -> dict[str, Any]:
        """Answer with the body."""
        self.requests.append(request)
        return answer(200, {"body": request.body.decode()})

    def queue(self, _request: Request) -> dict[str, Any]:
        """Answer as `/infer` does."""
        return answer(202, {"status": "queued"}, {"x-request-id": "job-1", "location": "https://signed?secret"})

    def refuse(self, _request: Request) -> dict[str, Any]:
        """Find two bad fields."""
        raise InvalidJob([FieldError("prompt", "is missing"), FieldError("raw", "is no boolean")])

    def delay(self, _request: Request) -> dict[str, Any]:
        """Ask for patience."""
        raise Problem.try_later("send the request again", 5)

    def fail(self, _request: Request) -> dict[str, Any]:
        """Fail as no route should."""
        raise RuntimeError("hunter2")


@pytest.fixture
def routes() -> Sounds:
    """Return the routes."""
    return Sounds()


@pytest.fixture
def app(routes: Sounds) -> App:
    """Return an app of them."""
    return App(
        {
            "/show": {"GET": routes.show, "POST": routes.show},
            "/queue": {"POST": routes.queue},
            "/refuse": {"POST": routes.refuse},
            "/delay": {"GET": routes.delay},
            "/fail": {"POST": routes.fail},
        }
    )


def access_line(capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return the only line that was written, after a look at the one field that is never the same."""
    (line,) = capsys.readouterr().out.splitlines()
    said: dict[str, Any] = json.loads(line)
    latency = said.pop("latencyMs")
    assert isinstance(latency, float)
    assert 0 <= latency < 60_000
    return said


def in_stage(stage: str, raw_path: str) -> dict[str, Any]:
    """Return an event of a stage that is not the default one."""
    sent = event("GET", raw_path)
    sent["requestContext"]["stage"] = stage
    return sent


# Routes


def test_a_route_answers(app: App) -> None:
    """What it returns is what is sent."""
    sent = app(event("POST", "/show", "é"))
    assert (sent["statusCode"], content(sent), sent["headers"]) == (
        200,
        {"body": "é"},
        {"content-type": "application/json"},
    )


@pytest.mark.parametrize(
    "path", ["/", "", "/show/", "/Show", "/show/x", "//show", "/show%2f", "/hunter2", "show", "/😀"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
def test_an_unknown_path_is_not_found(app: App, routes: Sounds, method: str, path: str) -> None:
    """404 with the known routes, and without the path, which may hold anything."""
    sent = app(event(method, path))

    assert sent["statusCode"] == 404
    assert problem(sent)["title"] == "Not Found"
    assert "/show, /queue, /refuse" in problem(sent)["detail"]
    assert "hunter2" not in json.dumps(sent)
    assert routes.requests == []


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        *(("HEAD", "/show", "GET, POST, OPTIONS"), ("PUT", "/show", "GET, POST, OPTIONS")),
        *(("GET", "/queue", "POST, OPTIONS"), ("HEAD", "/delay", "GET, OPTIONS"), ("TRACE", "/delay", "GET, OPTIONS")),
    ],
)
def test_a_method_that_a_route_lacks_is_not_allowed(
    app: App, routes: Sounds, method: str, path: str, allowed: str
) -> None:
    """405 with those that there are; `HEAD` is one that there is not."""
    sent = app(event(method, path))

    assert sent["statusCode"] == 405
    assert sent["headers"]["allow"] == allowed
    assert allowed in problem(sent)["detail"]
    assert routes.requests == []


@pytest.mark.parametrize("path", ["/show", "/other"])
def test_options_is_answered_for_every_path(app: App, routes: Sounds, path: str) -> None:
    """By the router itself; no route sees it."""
    assert app(event("OPTIONS", path, headers=ORIGIN))["statusCode"] == 204
    assert app(event("OPTIONS", path))["statusCode"] == 403
    assert routes.requests == []


def test_bad_fields_are_all_named(app: App) -> None:
    """400 with each, and what to do."""
    sent = app(event("POST", "/refuse"))

    assert sent["statusCode"] == 400
    assert problem(sent)["errors"] == [
        {"field": "prompt", "message": "is missing"},
        {"field": "raw", "message": "is no boolean"},
    ]
    assert "send the request again" in problem(sent)["detail"]


def test_a_problem_keeps_its_headers(app: App) -> None:
    """`Retry-After`, and none of the fields of a 400."""
    sent = app(event("GET", "/delay", headers=ORIGIN))

    assert sent["statusCode"] == 503
    assert sent["headers"]["retry-after"] == "5"
    assert sent["headers"]["access-control-allow-origin"] == ORIGIN["origin"]
    assert problem(sent).keys() == {"type", "title", "status", "detail", "request_id"}


# The event's forms


@pytest.mark.parametrize(
    ("stage", "raw_path", "status"),
    [
        *(("prod", "/prod/show", 200), ("prod", "/show", 200), ("v1", "/v1/show", 200), ("$default", "/show", 200)),
        *(
            ("prod", "/prod", 404),
            ("prod", "/prod/", 404),
            ("prod", "/prod/prod/show", 404),
            ("prod", "/dev/show", 404),
        ),
        *(("prod", "/prodshow", 404), ("$default", "/$default/show", 404), ("$default", "/prod/show", 404)),
        *(("s", "/show", 200), ("sh", "/show", 200), ("s", "/s/show", 200), ("prod", "/prod-/show", 404)),
    ],
)
def test_the_stage_is_no_part_of_the_path(app: App, stage: str, raw_path: str, status: int) -> None:
    """API Gateway puts it before the path, but for the default one and under a domain of one's own."""
    assert app(in_stage(stage, raw_path))["statusCode"] == status


def test_without_a_stage_the_path_is_whole(app: App) -> None:
    """As `sam local` may send it."""
    sent = event("GET", "/show")
    del sent["requestContext"]["stage"]
    assert app(sent)["statusCode"] == 200


@pytest.mark.parametrize("method", ["post", "Post", "POST"])
def test_methods_and_header_names_have_no_case(app: App, routes: Sounds, method: str) -> None:
    """API Gateway writes the one in capitals and the other without; other senders may not."""
    app(event(method, "/show", headers={"X-Some-Name": "Some Value", "ORIGIN": "http://localhost"}))
    assert routes.requests[0].headers == {"x-some-name": "Some Value", "origin": "http://localhost"}
    assert routes.requests[0].method == "POST"


@pytest.mark.parametrize("text", ["", "a", '{"prompt": "é😀"}', "\r\n\x00"])
def test_a_body_may_come_as_base64(app: App, text: str) -> None:
    """API Gateway encodes what it takes for binary; the route sees what was sent."""
    sent = app(event("POST", "/show", base64.b64encode(text.encode()).decode(), isBase64Encoded=True))
    assert content(sent) == {"body": text}


@pytest.mark.parametrize("body", ["a", "ab=", "%%%%", '{"prompt": "a"}', "é", "YWJj\n", "YW Jj", "-_-_"])
def test_base64_that_is_none_is_refused(app: App, body: str) -> None:
    """400 for the body, also for the alphabet of URLs, which API Gateway never writes."""
    sent = app(event("POST", "/show", body, isBase64Encoded=True))
    assert sent["statusCode"] == 400
    assert problem(sent)["errors"] == [{"field": "body", "message": "is not the base64 it claims to be"}]


@pytest.mark.parametrize("left_out", ["authorizer", "requestId", "headers", "body", "isBase64Encoded"])
@pytest.mark.parametrize("form", ["absent", "null"])
def test_an_event_may_lack_what_api_gateway_leaves_out(app: App, left_out: str, form: str) -> None:
    """Absent or null: an answer and no failure."""
    sent = event("POST", "/show", "")
    for holder in (sent, sent["requestContext"]):
        if left_out in holder:
            holder[left_out] = None
        if form == "absent":
            holder.pop(left_out, None)
    assert app(sent)["statusCode"] == 200


# The access line


@pytest.mark.parametrize(
    ("method", "path", "line"),
    [
        ("GET", "/show", {"route": "GET /show", "status": 200}),
        ("POST", "/queue", {"route": "POST /queue", "status": 202, "job": "job-1"}),
        ("POST", "/refuse", {"route": "POST /refuse", "status": 400}),
        ("GET", "/delay", {"route": "GET /delay", "status": 503}),
        ("HEAD", "/show", {"route": "HEAD /show", "status": 405}),
        ("OPTIONS", "/show", {"route": "OPTIONS /show", "status": 403}),
        ("GET", "/other", {"route": "$default", "status": 404}),
        ("OPTIONS", "/other", {"route": "$default", "status": 403}),
        ("GET", "", {"route": "$default", "status": 404}),
    ],
)
def test_each_request_leaves_one_line(
    app: App, capsys: pytest.CaptureFixture[str], method: str, path: str, line: dict[str, Any]
) -> None:
    """Who, what, how it went and how long it took; with a job, which, so that the trail goes on in the worker's log."""
    app(event(method, path))
    assert access_line(capsys) == {"requestId": "request-1", "ip": "127.0.0.1"} | line


def test_the_line_has_its_fields_in_order(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """So that a column is a column for whoever reads the raw log."""
    app(event("POST", "/queue"))
    assert list(json.loads(capsys.readouterr().out)) == ["requestId", "ip", "route", "status", "latencyMs", "job"]


@pytest.mark.parametrize(
    "path", ["/hunter2", "/show/hunter2", "/show?token=hunter2", "/%68unter2/hunter2", "/\nhunter2"]
)
def test_an_unknown_path_is_not_logged(app: App, capsys: pytest.CaptureFixture[str], path: str) -> None:
    """Somebody may have pasted a token there."""
    app(event("GET", path))
    assert "hunter2" not in capsys.readouterr().out


@pytest.mark.parametrize("path", ["/show", "/queue", "/refuse", "/fail", "/other"])
def test_neither_headers_nor_body_are_logged(app: App, capsys: pytest.CaptureFixture[str], path: str) -> None:
    """No token, no prompt, no signed address, whatever becomes of the request."""
    headers = {"authorization": "Bearer hunter2", "origin": "http://hunter2", "user-agent": "hunter2"}
    sent = event("POST", path, "hunter2", headers=headers, rawQueryString="hunter2", cookies=["hunter2"])
    try:
        app(sent)
    except RuntimeError:
        assert path == "/fail"
    captured = capsys.readouterr()
    assert "hunter2" not in captured.out + captured.err
    assert "secret" not in captured.out


def test_a_failure_goes_up_and_leaves_its_line(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    """Lambda has to count it as an error; the line says that its request was answered with 500."""
    with pytest.raises(RuntimeError, match="hunter2"):
        app(event("POST", "/fail"))
    line = {"requestId": "request-1", "ip": "127.0.0.1", "route": "POST /fail", "status": 500}
    assert access_line(capsys) == line
