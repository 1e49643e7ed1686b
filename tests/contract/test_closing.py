"""Closing the GPU and beginning anew, as scripts in Redis: the same over fakeredis and over a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable

import fakeredis
import pytest
import redis
import redis.asyncio

from router_lambda.job import (
    CLOSING_SECONDS,
    GPU_BOOTING,
    GPU_BOOTS,
    GPU_CLOSING,
    GPU_PHASES,
    GPU_STOP,
    GPU_WAKING,
    QUEUE_READY,
    worker_key,
)
from router_lambda.queue import Queue
from tests.fakes import make_job
from worker.line import Line
from worker.queue import BOOTS_KEPT, JobQueue

DRAINING = json.dumps({"state": "draining"})
READY = json.dumps({"state": "ready"})
NOW = 1_790_000_000.0

Make = Callable[[str], JobQueue]


@pytest.fixture
async def make(request: pytest.FixtureRequest, client: redis.Redis) -> AsyncIterator[Make]:
    """Yield what makes a worker's view of the queue, by its id."""
    made: list[redis.asyncio.Redis] = []

    def worker(worker_id: str) -> JobQueue:
        if isinstance(client, fakeredis.FakeRedis):
            server = client.connection_pool.connection_kwargs["server"]
            side: redis.asyncio.Redis = fakeredis.FakeAsyncRedis(server=server)
        else:
            side = redis.asyncio.Redis.from_url(request.getfixturevalue("redis_url"), socket_timeout=5)
        made.append(side)
        return JobQueue(Line(side), side, worker_id)

    yield worker
    for each in made:
        await each.aclose()


@pytest.fixture
def one(make: Make, client: redis.Redis) -> JobQueue:
    """Return the queue of a worker that has shown its heartbeat."""
    client.set(worker_key("one"), READY, ex=10)
    return make("one")


# Closing


async def test_an_idle_gpu_is_closed(one: JobQueue, client: redis.Redis) -> None:
    """The routers are told for as long as a stop takes, notes of stops and starts end, and the worker drains."""
    client.set(GPU_STOP, "1")
    client.set(GPU_WAKING, f"started:{NOW}")

    assert await one.close(DRAINING, 10)

    assert client.get(GPU_CLOSING) == b"one"
    assert CLOSING_SECONDS - 5 <= client.ttl(GPU_CLOSING) <= CLOSING_SECONDS
    assert client.exists(GPU_STOP, GPU_WAKING) == 0
    assert client.get(worker_key("one")) == DRAINING.encode()
    assert 0 < client.ttl(worker_key("one")) <= 10


async def test_a_job_that_waits_keeps_it_open(one: JobQueue, client: redis.Redis) -> None:
    """Queued before the look: seen, and nothing changes."""
    Queue(client).enqueue(make_job())

    assert not await one.close(DRAINING, 10)

    assert client.exists(GPU_CLOSING) == 0
    assert client.get(worker_key("one")) == READY.encode()


async def test_a_job_that_nobody_has_keeps_it_open(one: JobQueue, client: redis.Redis) -> None:
    """Popped by a worker that died: open, although it does not wait."""
    Queue(client).enqueue(make_job())
    client.delete(QUEUE_READY)

    assert not await one.close(DRAINING, 10)


async def test_a_job_after_the_close_is_told(one: JobQueue, client: redis.Redis) -> None:
    """Queued after it: the router sees that no worker is to be counted on."""
    assert Queue(client).enqueue(make_job()).has_worker
    client.flushall()
    client.set(worker_key("one"), READY, ex=10)

    assert await one.close(DRAINING, 10)

    placed = Queue(client).enqueue(make_job())
    assert (placed.has_worker, placed.closing_at is not None) == (False, True)


async def test_a_close_without_an_answer_is_repeated(one: JobQueue) -> None:
    """The second call finds it closed by itself, and says so."""
    assert await one.close(DRAINING, 10)
    assert await one.close(DRAINING, 10)


async def test_a_close_without_an_answer_is_undone_by_a_job(one: JobQueue, client: redis.Redis) -> None:
    """The worker does not know that it closed; the next call finds the job and opens again."""
    await one.close(DRAINING, 10)
    Queue(client).enqueue(make_job())

    assert not await one.close(DRAINING, 10)

    assert client.exists(GPU_CLOSING) == 0


async def test_somebody_elses_close_is_not_undone(one: JobQueue, client: redis.Redis) -> None:
    """A user stopped the GPU: its worker leaves the routers' word alone."""
    client.set(GPU_CLOSING, "router")
    Queue(client).enqueue(make_job())

    assert not await one.close(DRAINING, 10)

    assert client.get(GPU_CLOSING) == b"router"


# More than one


async def test_one_of_two_leaves_in_silence(one: JobQueue, client: redis.Redis) -> None:
    """The other one goes on: no router must believe that the GPU is closing, and a wish to stop holds for it, too."""
    client.set(worker_key("two"), READY, ex=10)
    client.set(GPU_STOP, "1")

    assert await one.close(DRAINING, 10)

    assert client.exists(GPU_CLOSING) == 0
    assert client.exists(GPU_STOP) == 1
    assert Queue(client).enqueue(make_job()).has_worker


async def test_one_of_two_may_leave_while_the_other_runs_a_job(one: JobQueue, client: redis.Redis) -> None:
    """An open job that does not wait is the other one's."""
    client.set(worker_key("two"), READY, ex=10)
    Queue(client).enqueue(make_job())

    assert not await one.close(DRAINING, 10)
    client.delete(QUEUE_READY)
    assert await one.close(DRAINING, 10)


async def test_two_at_once_do_not_leave_together_unseen(one: JobQueue, make: Make, client: redis.Redis) -> None:
    """The first one's heartbeat says that it drains: so the second one is the last, and tells the routers."""
    client.set(worker_key("two"), READY, ex=10)

    assert await one.close(DRAINING, 10)
    assert await make("two").close(DRAINING, 10)

    assert client.get(GPU_CLOSING) == b"two"


@pytest.mark.parametrize("heartbeat", ["{", "[]", "1", "null", '{"state": 1}', ""])
async def test_a_heartbeat_that_cannot_be_read_is_a_worker(one: JobQueue, client: redis.Redis, heartbeat: str) -> None:
    """Closing in silence is only right when somebody else is there; a heartbeat says that, whatever it says."""
    client.set(worker_key("two"), heartbeat, ex=10)

    assert await one.close(DRAINING, 10)

    assert client.exists(GPU_CLOSING) == 0


async def test_a_wish_to_stop_is_seen(one: JobQueue, client: redis.Redis) -> None:
    """As `POST /stop` leaves it."""
    assert not await one.is_stop_wanted()
    client.set(GPU_STOP, "1")
    assert await one.is_stop_wanted()


# Beginning


async def test_a_boot_that_was_asked_for_is_measured(
    make: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the note on; the note, what was closing, and the phase end in the same step."""
    monkeypatch.setattr("time.time", lambda: NOW)
    client.set(GPU_WAKING, f"started:{NOW - 71.5}")
    client.set(GPU_CLOSING, "one")
    client.set(GPU_BOOTING, "{}")

    assert await make("one").begin(READY, 10) == NOW - 71.5

    assert client.lrange(GPU_BOOTS, 0, -1) == [b"71.500"]
    assert client.exists(GPU_WAKING, GPU_CLOSING, GPU_BOOTING) == 0
    assert client.get(worker_key("one")) == READY.encode()
    assert 0 < client.ttl(worker_key("one")) <= 10


@pytest.mark.parametrize("note", [None, "calling", 'failed:{"code": "x"}', "started:soon"])
async def test_a_boot_that_nobody_asked_for_is_not(make: Make, client: redis.Redis, note: str | None) -> None:
    """A worker that crashed and came back says nothing of how long an instance takes."""
    if note is not None:
        client.set(GPU_WAKING, note)

    assert await make("one").begin(READY, 10) is None

    assert client.exists(GPU_BOOTS, GPU_WAKING) == 0


async def test_the_newest_boots_are_kept(make: Make, client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty of them, newest first; a clock that runs behind the router's counts as no time at all."""
    monkeypatch.setattr("time.time", lambda: NOW)
    for seconds in (-3, *range(1, BOOTS_KEPT + 1)):
        client.set(GPU_WAKING, f"started:{NOW - seconds}")
        await make("one").begin(READY, 10)

    assert [float(each) for each in client.lrange(GPU_BOOTS, 0, -1)] == [*range(BOOTS_KEPT, 0, -1)]


async def test_phases_are_kept_as_long_as_boots(one: JobQueue, client: redis.Redis) -> None:
    """Newest first."""
    for number in range(BOOTS_KEPT + 2):
        await one.note_phases(json.dumps({"engine": number}))

    kept = [json.loads(each)["engine"] for each in client.lrange(GPU_PHASES, 0, -1)]
    assert kept == [*range(BOOTS_KEPT + 1, 1, -1)]
