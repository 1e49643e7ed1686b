"""How often a POST is sent, and what its Idempotency-Key is good for."""

from __future__ import annotations

import re

import httpx
import pytest

from client.connection import TRIES
from client.errors import DeadlinePassed, InvalidSettings, NotConnected, Refused, Unreachable
from tests.client_service import Clock, Service, accepted

DOWN = httpx.ConnectError("refused")
CUT = httpx.RemoteProtocolError("cut")
SLOW = httpx.ReadTimeout("slow")


async def submit(service: Service, key: str | None = None, clock: Clock | None = None) -> None:
    """Submit a prompt."""
    async with service.client(clock) as client:
        await client.submit(prompt="why?", idempotency_key=key)


def keys(service: Service) -> list[str]:
    """Return the key of every POST."""
    return [request.headers["idempotency-key"] for request in service.requests]


async def test_each_job_has_a_random_key_of_its_own() -> None:
    """Two equal prompts stay two jobs."""
    service = Service()
    await submit(service)
    await submit(service)

    first, second = keys(service)
    assert first != second
    assert re.fullmatch("[0-9a-f]{32}", first)


@pytest.mark.parametrize("key", ["k", "~" * 64, "order 66"])
async def test_the_caller_may_choose_the_key(key: str) -> None:
    """A key of the caller's is sent as it is."""
    service = Service()
    await submit(service, key)

    assert keys(service) == [key]


@pytest.mark.parametrize("key", ["", "k" * 65, "täglich", "a\nb", " a", "a ", " ", "k\n"])
async def test_a_key_that_http_would_change_is_refused(key: str) -> None:
    """Nothing is sent under another key than the caller's."""
    service = Service()
    with pytest.raises(InvalidSettings, match="1 to 64 printable ASCII"):
        await submit(service, key)

    assert not service.requests


@pytest.mark.parametrize("trouble", [DOWN, httpx.ConnectTimeout(""), CUT, SLOW], ids=repr)
@pytest.mark.parametrize("key", [None, "k"])
async def test_a_post_without_an_answer_is_repeated_under_its_key(trouble: Exception, key: str | None) -> None:
    """Whether or not it had arrived, the service sees one key, and so one job."""
    service = Service(posts=(trouble, trouble, accepted()))
    clock = Clock()
    await submit(service, key, clock)

    assert len(set(keys(service))) == 1
    assert len(service.requests) == 3
    assert len(clock.slept) == 2


async def test_a_post_that_was_never_sent_ends_as_such() -> None:
    """After three failed connections the error says where and what to check."""
    service = Service(posts=(DOWN,))
    with pytest.raises(NotConnected, match=r"cannot connect to gateway\.test: refused; check --url"):
        await submit(service)

    assert len(service.requests) == TRIES


@pytest.mark.parametrize("posts", [(SLOW,), (SLOW, DOWN, DOWN), (DOWN, CUT, DOWN)], ids=repr)
async def test_a_post_that_may_have_arrived_tells_how_to_ask_again(posts: tuple[Exception, ...]) -> None:
    """One try that was sent is enough for a job to be queued, wherever the last one failed."""
    service = Service(posts=posts)
    with pytest.raises(Unreachable) as caught:
        await submit(service, "it's me")

    assert type(caught.value) is Unreachable
    assert "may have been queued" in str(caught.value)
    assert """ask again with --idempotency-key 'it'"'"'s me',""" in str(caught.value)
    assert len(service.requests) == TRIES


@pytest.mark.parametrize("answer", [httpx.Response(503), httpx.Response(402, headers={"Retry-After": "1"})])
async def test_an_answer_is_never_repeated(answer: httpx.Response) -> None:
    """An error of the service's own is an answer, however soon it says that a repeat is worth it."""
    service = Service(posts=(answer,))
    with pytest.raises(Refused):
        await submit(service)

    assert len(service.requests) == 1


async def test_the_deadline_ends_the_repeats() -> None:
    """A deadline shorter than the back-off leaves no second try, and the error tells the trouble."""
    service = Service(posts=(SLOW,))
    async with service.client(deadline_seconds=0.01) as client:
        with pytest.raises(DeadlinePassed, match="ReadTimeout"):
            await client.submit(prompt="why?")

    assert len(service.requests) == 1
