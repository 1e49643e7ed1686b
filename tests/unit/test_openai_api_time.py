"""OpenAI's API on the worker as time goes by: who waits, who is cut off, and what that means for the GPU."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

import anyio
import anyio.lowlevel
import pytest
from structlog.testing import capture_logs

from tests.openai_side import Client, FakeApp, World
from tests.scripted_queue import until
from tests.simulation.loop import VirtualLoop, clocks_of, virtual
from worker import openai_api
from worker.exchange import BODY_SECONDS, GIVE_UP_SECONDS, SEND_SECONDS
from worker.idle import MINUTE
from worker.openai_api import REQUEST_SECONDS

SLACK: Final = 0.5
"""Seconds that the virtual time may be off: it goes on by a tick when many things happen at once."""


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    """Yield a loop whose seconds take no time."""
    with virtual(1, clocks_of("worker")) as made:
        yield made


def run(loop: VirtualLoop, live: Callable[[], Awaitable[None]]) -> None:
    """Run a test in virtual time, which never leaps to the next thing that somebody waits for."""

    async def tick() -> None:
        while True:  # noqa: ASYNC110 - it waits for nothing
            await anyio.sleep(SLACK / 10)

    async def main() -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(tick)
            await live()
            tasks.cancel_scope.cancel()

    loop.run(main())


def test_a_body_that_does_not_come_is_not_waited_for(loop: VirtualLoop) -> None:
    """It would not hold a place; but a connection."""

    async def live() -> None:
        began = anyio.current_time()
        client = await World().ask(Client(body=None))
        assert (client.status, client.code) == (408, "too_slow")
        assert anyio.current_time() - began == pytest.approx(BODY_SECONDS, abs=SLACK)

    run(loop, live)


# Who waits


async def test_a_request_waits_for_a_place() -> None:
    """Which a job has, for example; it is answered when that has gone."""
    world = World(FakeApp(b"{}"), limit=1)
    assert await world.places.take("job")
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, client)
        await until(lambda: world.places.waiting_requests == 1)
        assert client.status is None
        world.places.leave("job")

    assert client.status == 200


async def test_a_client_that_goes_leaves_the_line() -> None:
    """And is not asked about any more."""
    world = World(limit=1)
    await world.places.take("job")
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, client)
        await until(lambda: world.places.waiting_requests == 1)
        client.gone.set()

    assert (client.status, world.app.asked, world.places.waiting_requests) == (None, [], 0)


async def test_a_line_has_an_end() -> None:
    """As many may wait as there are places; more are told when to come again."""
    world = World(limit=1)
    await world.places.take("job")
    waiting = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, waiting)
        await until(lambda: world.places.waiting_requests == 1)
        late = await world.ask(Client())
        waiting.gone.set()

    assert (late.status, late.code, late.headers["retry-after"]) == (429, "line_full", "5")


async def test_the_last_try_of_a_job_is_alone() -> None:
    """Should it kill the engine, no request is lost with it."""
    world = World(FakeApp(b"{}"))
    client = Client()
    async with anyio.create_task_group() as tasks, world.services.turns.alone():
        tasks.start_soon(world.ask, client)
        await until(lambda: world.places.requests == 1)
        await anyio.lowlevel.checkpoint()
        assert world.app.asked == []

    assert client.status == 200


async def test_models_need_no_place() -> None:
    """Whoever asks what there is gets an answer while all places are taken."""
    world = World(FakeApp(b"[]"), limit=1)
    await world.places.take("job")

    assert (await world.ask(Client("/v1/models"))).got == b"[]"


# Who is cut off


async def test_a_client_that_goes_ends_its_request() -> None:
    """The app is told, so that vLLM aborts it; the place is free again."""
    world = World()
    client = Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, client)
        await until(lambda: world.places.requests == 1 and client.got)
        client.gone.set()

    assert (world.app.ends, world.places.requests) == (["cancelled"], 0)


def test_a_client_that_does_not_read_is_let_go(loop: VirtualLoop) -> None:
    """It would keep the GPU up for as long as it likes."""

    async def live() -> None:
        world = World()
        client = Client()
        client.reads = False
        began = anyio.current_time()
        await world.ask(client)
        assert SEND_SECONDS <= anyio.current_time() - began < 1.25 * SEND_SECONDS + GIVE_UP_SECONDS + SLACK
        assert world.places.requests == 0
        assert world.idle.seconds_left is not None

    run(loop, live)


def test_an_app_that_does_not_notice_is_left(loop: VirtualLoop) -> None:
    """Shortly after its client has gone."""

    async def live() -> None:
        world = World()
        world.app.notices = False
        client = Client()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.ask, client)
            await anyio.sleep(1)
            client.gone.set()
            began = anyio.current_time()
            # It does not ask whether its client has gone; a drain lets it go.
            await world.api.finished(within=3.0)
            assert anyio.current_time() - began == pytest.approx(3.0 + GIVE_UP_SECONDS, abs=SLACK)
        assert (world.app.ends, world.places.requests) == (["cancelled"], 0)

    run(loop, live)


def test_nobody_holds_a_place_for_ever(loop: VirtualLoop) -> None:
    """However the time goes by: in line, or with a client that reads a byte a minute."""

    async def live() -> None:
        world = World()
        client = Client()
        began = anyio.current_time()
        with capture_logs() as logs:
            await world.ask(client)
        assert anyio.current_time() - began == pytest.approx(REQUEST_SECONDS, abs=SLACK)
        assert (client.is_whole, world.places.requests, world.app.ends) == (False, 0, ["cancelled"])
        assert [each["event"] for each in logs] == ["cut a request off", "request"]

    run(loop, live)


# The drain


async def test_a_draining_worker_lets_nobody_in() -> None:
    """Those in line neither; they are told what wakes the GPU. Who is in may finish."""
    world = World(limit=1)
    inside, waiting = Client(), Client()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(world.ask, inside)
        await until(lambda: world.places.requests == 1)
        tasks.start_soon(world.ask, waiting)
        await until(lambda: world.places.waiting_requests == 1)
        world.places.drain()
        await until(lambda: waiting.status is not None)
        late = await world.ask(Client())
        world.app.go.set()
        await world.api.finished(within=5.0)

    assert (waiting.status, waiting.code, late.status) == (503, "draining", 503)
    assert "retry-after" in waiting.headers
    assert (inside.status, inside.is_whole) == (200, True)


def test_the_drain_has_an_end(loop: VirtualLoop) -> None:
    """What still runs then is cut off, so that its client sees that something is missing."""

    async def live() -> None:
        world = World()
        client = Client()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.ask, client)
            await anyio.sleep(1)
            began = anyio.current_time()
            await world.api.finished(within=30.0)
            assert anyio.current_time() - began == pytest.approx(30.0, abs=SLACK)
        assert (client.is_whole, world.app.ends) == (False, ["cancelled"])

    run(loop, live)


async def test_without_requests_a_drain_waits_for_nothing() -> None:
    """Not even for a turn of the loop."""
    with anyio.fail_after(0.5):
        await World().api.finished(within=30.0)


# The GPU's time


def test_a_request_keeps_the_gpu_up(loop: VirtualLoop) -> None:
    """Nothing is counted while it runs, and the worker's own idle time from its end."""

    async def live() -> None:
        world = World()
        await anyio.sleep(4 * MINUTE)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(world.ask, Client())
            await anyio.sleep(30)
            assert world.idle.seconds_left is None
            world.app.go.set()
        assert world.idle.seconds_left == pytest.approx(5 * MINUTE, abs=SLACK)

    run(loop, live)


@pytest.mark.parametrize(
    "client", [Client("/v1/models"), Client(key="wrong"), Client("/v1/files"), Client(body=b'{"n": 100}')]
)
def test_a_question_that_needs_no_gpu_does_not_keep_it_up(loop: VirtualLoop, client: Client) -> None:
    """Such as a page that lists the models every minute."""

    async def live() -> None:
        world = World(FakeApp(b"[]"))
        await anyio.sleep(4 * MINUTE)
        await world.ask(client)
        assert world.idle.seconds_left == pytest.approx(1 * MINUTE, abs=SLACK)

    run(loop, live)


def test_a_request_that_vllm_refuses_does_not_keep_it_up(loop: VirtualLoop) -> None:
    """Whoever repeats a mistake all day would."""

    async def live() -> None:
        world = World(FakeApp(b"{}", status=400))
        await anyio.sleep(4 * MINUTE)
        await world.ask(Client())
        assert world.idle.seconds_left == pytest.approx(1 * MINUTE, abs=SLACK)

    run(loop, live)


def test_every_limit_is_shorter_than_what_is_around_it() -> None:
    """A client that is let go must be gone before the whole request is."""
    assert BODY_SECONDS < SEND_SECONDS < REQUEST_SECONDS
    assert openai_api.RETRY_SECONDS < SEND_SECONDS
