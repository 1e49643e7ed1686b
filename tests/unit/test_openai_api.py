"""OpenAI's API on the worker: who is let in, what is asked and answered, and what is known of it afterwards."""

from __future__ import annotations

import json

import anyio
import anyio.lowlevel
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from tests.openai_side import CHAT, KEY, Client, FakeApp, World
from tests.scripted_queue import until
from worker.exchange import BODY_BYTES
from worker.openai_api import METHODS, MOST_SEQUENCES

# Who is let in


@pytest.mark.parametrize("path", [*METHODS, "/v1/files"])
@pytest.mark.parametrize("key", [None, "", "wrong", KEY[:-1], f"{KEY}x", f"{KEY},{KEY}"])
async def test_nobody_without_the_key(path: str, key: str | None) -> None:
    """Whatever he asks for; he is told how to send one."""
    world = World()
    client = await world.ask(Client(path, key=key))

    assert (client.status, client.code) == (401, "invalid_api_key")
    assert client.headers["www-authenticate"] == "Bearer"
    assert world.app.asked == []


async def test_the_key_has_to_be_a_bearer() -> None:
    """Another scheme is none, whatever it carries; how the word is written is all the same."""
    world = World()
    basic, loud = Client(), Client()
    basic.scope["headers"] = [(b"authorization", f"Basic {KEY}".encode())]
    loud.scope["headers"] = [(b"authorization", f"BEARER  {KEY}".encode())]
    world.app.go.set()

    assert (await world.ask(basic)).status == 401
    assert (await world.ask(loud)).status == 200


async def test_without_a_key_in_the_settings_there_is_no_api() -> None:
    """It says so, and what to set."""
    world = World(keys=())
    client = await world.ask(Client())

    assert (client.status, client.code) == (401, "no_api_key")
    assert b"TLFIF_API_KEY_SHA256" in client.got


async def test_each_of_several_keys_opens() -> None:
    """So that one can be replaced by another without a moment in which neither does."""
    world = World(FakeApp(b"{}"), keys=("old", "new"))

    assert [(await world.ask(Client(key=key))).status for key in ("old", "new", "older")] == [200, 200, 401]


@pytest.mark.parametrize(
    ("path", "method", "status"),
    [
        ("/", "GET", 404),
        ("/v1", "GET", 404),
        ("/v1/files", "POST", 404),
        ("/v1/chat/completions/", "POST", 404),
        ("/v1/responses", "POST", 404),
        ("/tokenize", "POST", 404),
        (CHAT, "GET", 405),
        (CHAT, "OPTIONS", 405),
        ("/v1/models", "POST", 405),
    ],
)
async def test_nothing_else_is_served(path: str, method: str, status: int) -> None:
    """Of all that vLLM could do besides."""
    world = World()
    client = await world.ask(Client(path, method=method))

    assert client.status == status
    assert world.app.asked == []


async def test_a_websocket_is_closed() -> None:
    """There is none."""
    sent = []

    async def send(message: object) -> None:
        sent.append(message)

    await World().api({"type": "websocket", "path": CHAT}, Client().receive, send)

    assert sent == [{"type": "websocket.close", "code": 1008}]


# What is asked and answered


async def test_vllm_answers() -> None:
    """It gets the body as it was sent, and its answer goes out as it comes, part by part."""
    world = World(FakeApp(b"one", b"two"))
    client = Client(body=b'{"stream": true}')
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, client)
        await until(lambda: client.got == b"one")
        world.app.go.set()

    assert (client.status, client.got, client.is_whole) == (200, b"onetwo", True)
    assert [(path, body) for path, body, _ in world.app.asked] == [(CHAT, b'{"stream": true}')]


async def test_a_request_has_the_id_that_nginx_gave_it() -> None:
    """In the answer and for vLLM; what is no such id is replaced, for vLLM takes two of one name for one."""
    world = World(FakeApp(b"{}"))
    named, odd = Client(), Client()
    named.scope["headers"].append((b"x-request-id", b"0123456789abcdef" * 2))
    odd.scope["headers"].append((b"x-request-id", b"same\tfor-all"))
    await world.ask(named)
    await world.ask(odd)

    ids = [headers["x-request-id"] for _, _, headers in world.app.asked]
    assert ids[0] == named.headers["x-request-id"] == "0123456789abcdef" * 2
    assert ids[1] == odd.headers["x-request-id"] != "same\tfor-all"


async def test_too_long_a_body_is_refused() -> None:
    """Without vLLM reading it."""
    world = World()
    client = await world.ask(Client(body=b"x" * (BODY_BYTES + 1)))

    assert (client.status, client.code, world.app.asked) == (413, "too_long", [])


@pytest.mark.parametrize(
    ("asked", "allowed"),
    [
        ({"n": MOST_SEQUENCES}, True),
        ({"n": MOST_SEQUENCES + 1}, False),
        ({"prompt": ["a"] * MOST_SEQUENCES}, True),
        ({"prompt": ["a"] * (MOST_SEQUENCES + 1)}, False),
        ({"prompt": [[1, 2]] * 3, "n": 3}, False),
        ({"prompt": [1] * 500}, True),
        ({"prompt": []}, True),
        ({"n": "many"}, True),
        ([1, 2], True),
    ],
)
async def test_a_request_takes_no_more_of_the_engine_than_a_job(asked: object, allowed: bool) -> None:  # noqa: FBT001
    """A batch counts; tokens are one prompt, and what is no request is vLLM's to refuse."""
    world = World(FakeApp(b"{}"))
    client = await world.ask(Client("/v1/completions", json.dumps(asked).encode()))

    assert (client.status == 200) is allowed
    assert allowed or client.code == "too_many_sequences"


async def test_what_is_no_json_is_vllms_to_refuse() -> None:
    """It says what is wrong with it."""
    world = World(FakeApp(b"no JSON", status=400))

    assert (await world.ask(Client(body=b"\xff{"))).got == b"no JSON"


# What is known of it afterwards


async def test_the_log_says_what_came_of_it_and_nothing_of_what_was_said() -> None:
    """No prompt, no text, no key; and no path that somebody made up."""
    world = World(FakeApp(b"SECRET-ANSWER"))
    with capture_logs() as logs:
        await world.ask(Client(body=b'{"prompt": "SECRET-PROMPT"}'))
        await world.ask(Client("/v1/SECRET-PATH"))
        await world.ask(Client(key="SECRET-KEY"))

    assert [(each["event"], each["path"], each["status"]) for each in logs] == [
        ("request", CHAT, 200),
        ("request", "other", 404),
        ("request", CHAT, 401),
    ]
    assert "SECRET" not in repr(logs)


async def test_requests_are_counted() -> None:
    """By what was asked for and how it ended; what was cut off is no success."""

    def counted(status: str) -> float:
        return REGISTRY.get_sample_value("tlfif_requests_total", {"path": CHAT, "status": status}) or 0.0

    before = [counted(status) for status in ("200", "cut off")]
    world = World()
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, client)
        await until(lambda: client.got)
        assert REGISTRY.get_sample_value("tlfif_requests_running") == 1
        client.gone.set()
    world.app.go.set()
    await world.ask(Client())

    assert [counted(status) for status in ("200", "cut off")] == [each + 1 for each in before]
