"""Taking jobs off the queue: the limit, the drain, what gets no answer, and ids that name no job."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest

from tests.scripted_queue import Consumer, ScriptedQueue, consuming, ids, until
from worker import jobs as jobs_module
from worker.errors import QueueUnavailable
from worker.lua import LEASE_SECONDS
from worker.queue import MAX_ATTEMPTS, POP_SECONDS


async def test_no_more_jobs_than_the_limit_run_at_once() -> None:
    """The third job stays in Redis until one of the two has ended."""
    consumer = Consumer(ScriptedQueue(*ids(3)), limit=2)
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 2)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert len(consumer.queue.popped) == 1
        consumer.go.set()
        await until(lambda: len(consumer.queue.acknowledged) == 3)
    assert consumer.jobs.running == 0


async def test_a_drain_lets_running_jobs_finish() -> None:
    """What runs is finished; what is popped while draining goes back."""
    late = ids(1)[0]
    consumer = Consumer(ScriptedQueue(*ids(2)))
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 2)
        consumer.queue.popped.append(late)
        consumer.jobs.drain()
        await until(lambda: consumer.queue.given_back == [late.decode()])
        consumer.go.set()
    assert len(consumer.queue.acknowledged) == 2


async def test_a_drain_does_not_wait_for_a_free_place() -> None:
    """With every place taken the consumer ends at once, so that the drain deadline counts from the signal."""
    consumer = Consumer(ScriptedQueue(*ids(3)), limit=2)
    async with anyio.create_task_group() as tasks:

        async def consume_then_drain() -> None:
            await consumer.jobs.consume(tasks)
            await consumer.jobs.finished(0)

        tasks.start_soon(consume_then_drain)
        await until(lambda: len(consumer.store.written) == 2)
        consumer.jobs.drain()
    assert sorted(consumer.queue.released) == sorted(consumer.queue.claims)
    assert len(consumer.queue.popped) == 1


async def test_past_the_deadline_jobs_hand_themselves_back() -> None:
    """A job that does not end in time is released with its text so far."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with consuming(consumer):
        await until(lambda: consumer.store.written)
        consumer.jobs.drain()
        await consumer.jobs.finished(0)
    assert consumer.queue.released == consumer.queue.claims
    assert consumer.queue.acknowledged == []


@pytest.mark.parametrize("junk", [b"", b"not-an-id", b"\xff\xfe", b"5F0C0000-0000-4000-8000-000000000000"])
async def test_what_names_no_job_is_dropped(junk: bytes) -> None:
    """Nothing is done for it, and the next job runs."""
    good = ids(1)[0]
    consumer = Consumer(ScriptedQueue(junk, good))
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: consumer.queue.acknowledged)
    assert consumer.engine.started == [good.decode()]


async def test_redis_away_is_noted_and_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """After the outage jobs come again."""
    monkeypatch.setattr(jobs_module, "delays", lambda *_: iter([0.0] * 100))
    good = ids(1)[0]
    consumer = Consumer(ScriptedQueue(QueueUnavailable("away"), QueueUnavailable("away"), good))
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: consumer.health.components["redis"] == "away")
        await until(lambda: consumer.queue.acknowledged)
        assert consumer.health.components["redis"] == "ok"


async def test_a_job_that_still_runs_here_is_not_begun_again() -> None:
    """Its lease ran out in a pause, a sweep found it, and this worker took it: it goes back, and the run goes on."""
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job))
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 1)
        consumer.queue.popped.append(job)
        await until(lambda: consumer.queue.retaken)
        consumer.go.set()
    assert consumer.queue.given_back == consumer.queue.retaken == [job.decode()]
    assert consumer.engine.started == consumer.queue.acknowledged == [job.decode()]


async def test_how_long_finished_jobs_held_their_place_is_averaged() -> None:
    """From claim to acknowledgement; nothing before the first."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 1)
        assert consumer.jobs.average_seconds is None
        consumer.now += 4.0
        consumer.go.set()
        await until(lambda: consumer.queue.acknowledged)
        await until(lambda: consumer.jobs.running == 0)
        assert consumer.jobs.average_seconds == 4.0


async def test_a_job_that_did_not_finish_does_not_count() -> None:
    """Its time says nothing about what a job needs."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with consuming(consumer):
        await until(lambda: consumer.store.written)
        consumer.jobs.drain()
        await consumer.jobs.finished(0)
    assert consumer.queue.released
    assert consumer.jobs.average_seconds is None


async def test_what_was_granted_without_an_answer_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without waiting for an id, and for as long as something may still be granted to a dead connection."""
    monkeypatch.setattr(jobs_module, "delays", lambda *_: iter([0.0] * 100))
    running, granted, later = ids(3)
    consumer = Consumer(ScriptedQueue(running))
    queue = consumer.queue
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 1)
        queue.takes.clear()
        queue.popped = [granted, QueueUnavailable("away"), later]
        await until(lambda: consumer.jobs.running == 3)
        known = sorted([running.decode(), granted.decode(), later.decode()])
        await until(lambda: queue.takes[-1] == (5, True, known))
        consumer.now += LEASE_SECONDS + POP_SECONDS
        await until(lambda: queue.takes[-1] == (5, True, None))
        consumer.go.set()
    assert (7, False, [running.decode()]) in queue.takes
    assert consumer.engine.started == [job.decode() for job in (running, granted, later)]


async def test_a_drain_does_not_wait_for_an_answer() -> None:
    """What was granted is still open, so that a sweep finds it."""
    consumer = Consumer(ScriptedQueue(*[QueueUnavailable("away")] * 1_000_000))
    async with consuming(consumer):
        await until(lambda: consumer.queue.takes)
    assert (consumer.queue.released, consumer.engine.started) == ([], [])
    assert consumer.health.components["redis"] == "away"


async def test_while_at_once_nobody_waits_for_them() -> None:
    """An id is waited for only if the last look found none that still waits."""
    consumer = Consumer(ScriptedQueue(*ids(5)), limit=2)
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: len(consumer.queue.acknowledged) == 5)
    waits = [wait for _, wait, _ in consumer.queue.takes]
    assert waits[0]
    assert True not in waits[1 : waits.index(True, 1)]
    assert waits.index(True, 1) >= 3


async def test_a_job_whose_reply_is_final_leaves_its_place_at_once() -> None:
    """The next one does not wait until Redis is told of it."""
    first, second = ids(2)
    consumer = Consumer(ScriptedQueue(first, second), limit=1)
    told = anyio.Event()

    async def acknowledge(job_id: str) -> bool:
        await told.wait()
        consumer.queue.acknowledged.append(job_id)
        return True

    consumer.queue.acknowledge = acknowledge  # type: ignore[method-assign]
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: len(consumer.engine.started) == 2)
        assert consumer.queue.acknowledged == []
        assert not consumer.jobs.is_idle
        told.set()
    assert sorted(consumer.queue.acknowledged) == sorted(consumer.engine.started)


async def test_no_more_jobs_are_popped_while_one_wants_to_be_alone() -> None:
    """They wait in Redis, where another worker can take them."""
    first, last, late = ids(3)
    consumer = Consumer(ScriptedQueue(first, last))
    consumer.queue.attempts = {last.decode(): MAX_ATTEMPTS}
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 2)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        consumer.queue.popped.append(late)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert consumer.queue.popped == [late]
        consumer.go.set()
        await until(lambda: len(consumer.queue.acknowledged) == 3)
    assert consumer.engine.started == [first.decode(), last.decode(), late.decode()]


async def test_a_consumer_whose_worker_fails_ends() -> None:
    """A failure of any background task ends all of them; pops are shielded, and still end."""
    consumer = Consumer(ScriptedQueue())
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.jobs.consume, tasks)
            await until(lambda: True)
            tasks.cancel_scope.cancel()


def test_the_state_says_what_a_worker_is_up_to() -> None:
    """Ready, degraded with a reason, ready again; draining is final."""
    consumer = Consumer(ScriptedQueue())
    jobs, health = consumer.jobs, consumer.health
    seen = [(jobs.state, health.reasons)]
    health.failed("s3", QueueUnavailable("S3 answered 503"))
    seen.append((jobs.state, health.reasons))
    health.ok("s3")
    seen.append((jobs.state, health.reasons))
    jobs.drain()
    health.failed("redis", QueueUnavailable("away"))
    seen.append((jobs.state, health.reasons))
    assert seen == [
        ("ready", []),
        ("degraded", ["s3 does not answer: S3 answered 503"]),
        ("ready", []),
        ("draining", ["redis does not answer: away"]),
    ]


# Requests over HTTP, which share the places


async def test_jobs_and_requests_together_are_no_more_than_the_limit() -> None:
    """What was asked for before the request came stands in line, with its lease."""
    consumer = Consumer(ScriptedQueue(), limit=2)
    places = consumer.jobs.places
    async with consuming(consumer):
        await until(lambda: consumer.queue.takes)
        assert await places.take("request")
        consumer.queue.popped += ids(2)
        await until(lambda: len(consumer.queue.claims) == 2)
        await until(lambda: len(consumer.engine.started) == 1)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert (len(consumer.engine.started), consumer.jobs.running) == (1, 2)

        places.leave("request")
        await until(lambda: len(consumer.engine.started) == 2)
        consumer.go.set()
        await until(lambda: len(consumer.queue.acknowledged) == 2)
    assert places.room(0) == 2


async def test_requests_do_not_keep_jobs_out() -> None:
    """Though there is always another one in line: one job stands there, too."""
    consumer = Consumer(ScriptedQueue(*ids(3)), limit=1)
    consumer.go.set()
    places = consumer.jobs.places
    assert await places.take("request")
    served = 0

    async def ask() -> None:
        nonlocal served
        assert await places.take("request")
        served += 1
        await anyio.lowlevel.checkpoint()
        places.leave("request")

    async with consuming(consumer), anyio.create_task_group() as clients:
        for _ in range(20):
            clients.start_soon(ask)
        await until(lambda: consumer.queue.claims)
        places.leave("request")
        await until(lambda: len(consumer.queue.acknowledged) == 3)
        assert served <= 20


async def test_jobs_do_not_keep_requests_out() -> None:
    """Though the queue never ends."""
    consumer = Consumer(ScriptedQueue(*ids(200)), limit=1)
    consumer.go.set()
    async with consuming(consumer):
        await until(lambda: consumer.engine.started)
        assert await consumer.jobs.places.take("request")
        assert len(consumer.queue.claims) < 10
        consumer.jobs.places.leave("request")


async def test_a_full_house_of_requests_takes_one_job_ahead() -> None:
    """No more, since another worker could run them."""
    consumer = Consumer(ScriptedQueue(*ids(5)), limit=2)
    for _ in range(2):
        assert await consumer.jobs.places.take("request")
    async with consuming(consumer):
        await until(lambda: consumer.queue.claims)
        for _ in range(20):
            await anyio.lowlevel.checkpoint()
        assert (len(consumer.queue.claims), consumer.engine.started) == (1, [])
        consumer.go.set()
        for _ in range(2):
            consumer.jobs.places.leave("request")
        await until(lambda: len(consumer.queue.acknowledged) == 5)


async def test_a_job_that_gives_up_in_line_leaves_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its lease is lost while it waits for a place: nothing is written, and the place is somebody else's."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0.0)
    consumer = Consumer(ScriptedQueue(*ids(1)), limit=1)
    assert await consumer.jobs.places.take("request")
    async with consuming(consumer):
        await until(lambda: consumer.jobs.running == 1)
        consumer.queue.lost = set(consumer.queue.claims)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.jobs.keep_leases)
            await until(lambda: consumer.jobs.running == 0)
            tasks.cancel_scope.cancel()
        consumer.jobs.places.leave("request")
        assert await consumer.jobs.places.take("request")
        consumer.jobs.places.leave("request")
    assert consumer.store.written == []


async def test_a_request_keeps_the_worker_from_being_idle() -> None:
    """In its place and in line."""
    consumer = Consumer(ScriptedQueue(), limit=1)
    places = consumer.jobs.places
    assert consumer.jobs.is_idle
    await places.take("request")
    assert not consumer.jobs.is_idle
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(places.take, "request")
        await until(lambda: places.waiting_requests == 1)
        places.leave("request")
        assert not consumer.jobs.is_idle
        places.leave("request")
    assert consumer.jobs.is_idle
