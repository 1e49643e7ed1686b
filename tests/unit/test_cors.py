"""Which pages may call, and what they are told."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router_lambda import cors
from router_lambda.app import App
from router_lambda.http import Problem, Request, answer
from tests.router_samples import event
from tests.router_world import problem

PORTS = [1, 80, 443, 999, 3_000, 8_080, 65_534, 65_535]
ALLOWED = ["http://localhost", *(f"http://localhost:{port}" for port in PORTS)]
REFUSED = [
    *("", " ", "null", "*", "localhost", "localhost:3000", "http://", "//localhost", "http:localhost"),
    *("https://localhost", "https://localhost:3000", "ws://localhost", "file://localhost", "HTTP://localhost"),
    *("http://Localhost", "http://LOCALHOST:3000", "http://127.0.0.1", "http://127.0.0.1:3000", "http://[::1]:3000"),
    *(
        "http://localhost.evil",
        "http://localhost.evil:3000",
        "http://evil.localhost",
        "http://evil",
        "http://localhost.",
    ),
    *(
        "http://evil/http://localhost",
        "http://localhost:3000.evil",
        "http://localhost:3000@evil",
        "http://localhost@evil",
    ),
    *("http://user@localhost", "http://user:pass@localhost:3000", "http://localhost/", "http://localhost:3000/"),
    *(
        "http://localhost?",
        "http://localhost#",
        "http://localhost:3000/page",
        "http://localhost\\",
        "http://localhost%00",
    ),
    *("http://localhost:", "http://localhost:0", "http://localhost:00000", "http://localhost:65536"),
    *("http://localhost:99999", "http://localhost:100000", "http://localhost:000080", "http://localhost:-1"),
    *(
        "http://localhost:+80",
        "http://localhost: 80",
        "http://localhost:8_0",
        "http://localhost:0x50",
        "http://localhost:a",
    ),
    *(
        "http://localhost:٣٠٠٠",
        "http://localhost:\uff13\uff10\uff10\uff10",
        "http://localhost:8²",
        "http://l\u043ecalhost",
        "http://localho\u017ft",
    ),
    *("http://localhost\n", "\nhttp://localhost", "http://localhost:3000\n", "http://localhost:3000\r\nx: y"),
    *(" http://localhost", "http://localhost ", "http://localhost\t", "http://localhost\x00"),
    *("http://localhost,http://localhost", "http://localhost, http://evil", "http://localhost http://evil"),
]


def asking(origin: str | None, method: str = "POST", name: str = "origin") -> Request:
    """Return a request of a page from there; of no page for `None`."""
    return Request.from_event(event(method, "/infer", headers={} if origin is None else {name: origin}))


@pytest.mark.parametrize("origin", ALLOWED)
def test_a_page_from_localhost_may_read_the_answer(origin: str) -> None:
    """Its origin is echoed, the headers it needs are exposed, and caches keep origins apart."""
    assert cors.headers(asking(origin)) == {
        "access-control-allow-origin": origin,
        "access-control-expose-headers": "location, retry-after, www-authenticate, x-request-id",
        "vary": "origin",
    }


@pytest.mark.parametrize("origin", [*REFUSED, None])
def test_no_other_page_is_told_anything(origin: str | None) -> None:
    """Other schemes, hosts and ports, and whatever only looks like localhost."""
    assert cors.headers(asking(origin)) == {}


@pytest.mark.parametrize("origin", [*REFUSED, None])
def test_no_other_page_may_ask(origin: str | None) -> None:
    """403, which says who may."""
    with pytest.raises(Problem, match="http://localhost:<port>") as refused:
        cors.preflight(asking(origin, "OPTIONS"))

    assert refused.value.status == 403
    assert refused.value.headers == {}


def test_a_page_from_localhost_may_send_what_the_api_takes() -> None:
    """204 without a body; methods, headers, and for how long the browser may remember."""
    allowed = "authorization, content-type, idempotency-key, traceparent, x-amzn-trace-id"
    assert cors.preflight(asking("http://localhost:3000", "OPTIONS")) == {
        "statusCode": 204,
        "headers": {
            "access-control-allow-methods": "GET, POST, OPTIONS",
            "access-control-allow-headers": allowed,
            "access-control-max-age": "600",
        },
        "body": "",
        "isBase64Encoded": False,
    }


def test_each_preflight_has_headers_of_its_own() -> None:
    """What is added to one answer does not reach the next page."""
    cors.preflight(asking("http://localhost:1", "OPTIONS"))["headers"]["access-control-allow-origin"] = "*"
    assert "access-control-allow-origin" not in cors.preflight(asking("http://localhost:2", "OPTIONS"))["headers"]


@pytest.mark.parametrize("name", ["Origin", "ORIGIN"])
def test_the_header_is_found_in_any_case(name: str) -> None:
    """As every header."""
    assert cors.headers(asking("http://localhost", name=name))["access-control-allow-origin"] == "http://localhost"


@given(st.integers(-10, 100_000))
def test_every_port_and_no_other_number(port: int) -> None:
    """1 to 65,535."""
    assert bool(cors.headers(asking(f"http://localhost:{port}"))) == (1 <= port <= 65_535)


@given(st.text(max_size=30))
def test_nothing_made_up_gets_in(end: str) -> None:
    """What follows the host is a port or nothing."""
    is_port = end.isascii() and end.startswith(":") and end[1:].isdecimal() and len(end) <= 6
    allowed = end == "" or (is_port and 1 <= int(end[1:]) <= 65_535)
    assert bool(cors.headers(asking("http://localhost" + end))) == allowed


# As a page sees it


@pytest.fixture
def app() -> App:
    """Return a router with one route, whose answer has a header of its own."""

    def infer(_request: Request) -> dict[str, Any]:
        return answer(202, {"status": "queued"}, {"x-request-id": "job-1"})

    return App({"/infer": {"POST": infer}})


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("POST", "/infer", 202), ("POST", "/other", 404), ("GET", "/infer", 405), ("HEAD", "/infer", 405)],
)
def test_answers_and_problems_alike_may_be_read(app: App, method: str, path: str, status: int) -> None:
    """A page that cannot read an error cannot mend anything; the answer's own headers stay."""
    sent = app(event(method, path, headers={"origin": "http://localhost:3000"}))

    assert sent["statusCode"] == status
    assert sent["headers"]["access-control-allow-origin"] == "http://localhost:3000"
    assert sent["headers"]["vary"] == "origin"
    assert sent["headers"]["content-type"].startswith("application/")
    assert ("x-request-id" in sent["headers"]) == (status == 202)


@pytest.mark.parametrize("path", ["/infer", "/other", "/"])
def test_a_preflight_needs_neither_token_nor_route(app: App, path: str) -> None:
    """Browsers send none, and ask before they know whether the path is there."""
    sent = app(event("OPTIONS", path, authorizer=None, headers={"origin": "http://localhost"}))

    assert (sent["statusCode"], sent["body"]) == (204, "")
    assert sent["headers"]["access-control-allow-origin"] == "http://localhost"
    assert sent["headers"]["access-control-allow-methods"] == "GET, POST, OPTIONS"
    assert "access-control-allow-credentials" not in sent["headers"]


@pytest.mark.parametrize("origin", [None, "", "null", "https://localhost", "http://evil.example"])
def test_another_preflight_is_a_problem_without_cors_headers(app: App, origin: str | None) -> None:
    """The browser then keeps the request to itself."""
    sent = app(event("OPTIONS", "/infer", headers={} if origin is None else {"origin": origin}))

    assert sent["statusCode"] == 403
    assert problem(sent)["title"] == "Forbidden"
    assert not any(name.startswith("access-control") for name in sent["headers"])


def test_another_origin_is_answered_without_cors_headers(app: App) -> None:
    """CORS guards pages and no routes: whoever sends a token by other means is served."""
    sent = app(event("POST", "/infer", headers={"origin": "http://evil.example"}))

    assert sent["statusCode"] == 202
    assert sent["headers"].keys() == {"content-type", "x-request-id"}
