"""Taking jobs off the queue: the limit, the drain, lost leases, ids that name no job, and each job's trace."""

from __future__ import annotations

import itertools
import math
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from uuid import uuid4

import anyio
import anyio.lowlevel
import pytest
import structlog
from structlog.contextvars import get_contextvars, merge_contextvars
from structlog.testing import capture_logs

from router_lambda.job import is_job_id, reply_key
from tests.fakes import FakeEngine, MemoryStore, make_job
from worker import jobs as jobs_module
from worker.admission import MAX_ATTEMPTS
from worker.errors import QueueUnavailable
from worker.health import Health
from worker.jobs import Jobs
from worker.lua import LEASE_SECONDS
from worker.queue import POP_SECONDS, Claim, Claimed, JobQueue, Renewal
from worker.run import Services


class ScriptedQueue(JobQueue):
    """Hands out what a test puts in, without Redis and without waiting."""

    def __init__(self, *popped: bytes | Exception) -> None:
        self.popped: list[bytes | Exception] = list(popped)
        self.given_back: list[str] = []
        self.released: list[str] = []
        self.acknowledged: list[str] = []
        self.claims: list[str] = []
        self.takes: list[tuple[int, bool, list[str] | None]] = []
        self.unanswered: list[tuple[str, Claim]] = []
        self.lost: set[str] = set()
        self.free: set[str] = set()
        self.retaken: list[str] = []
        self.unwanted: list[set[str] | Exception] = []
        self.sweeps: list[int | Exception] = []
        self.swept = False
        self.pings = 0
        self.traces: dict[str, str] = {}
        self.attempts: dict[str, int] = {}

    async def take(self, room: int, *, wait: bool = True, unknown_to: Iterable[str] | None = None) -> Claimed:
        """Grant the next ids, as many as there is room for; after a call without an answer, what that had granted."""
        await anyio.lowlevel.checkpoint()
        self.takes.append((room, wait, None if unknown_to is None else sorted(unknown_to)))
        claims, self.unanswered = self.unanswered, []
        while self.popped and len(claims) < room:
            found = self.popped.pop(0)
            if isinstance(found, Exception):
                self.unanswered = claims
                raise found
            claims.append(self._claim_of(found))
        return Claimed(claims, len(self.popped))

    def _claim_of(self, popped: bytes) -> tuple[str, Claim]:
        job_id = popped.decode("ascii", "replace")
        if not is_job_id(job_id):
            return job_id, Claim("bad")
        self.claims.append(job_id)
        job = make_job(id=job_id, traceparent=self.traces.get(job_id), prompt="Hello")
        return job_id, Claim("run", self.attempts.get(job_id, 1), 0.0, job.to_json().encode(), math.inf)

    async def acknowledge(self, job_id: str) -> bool:
        """Note it."""
        self.acknowledged.append(job_id)
        return True

    async def release(self, job_id: str) -> bool:
        """Note it."""
        self.released.append(job_id)
        return True

    async def give_back(self, job_ids: list[str]) -> None:
        """Note it."""
        self.given_back += job_ids

    async def renew(self, job_ids: Iterable[str]) -> Renewal:
        """Report the leases that the test takes away or lets run out."""
        return Renewal(self.lost & set(job_ids), self.free & set(job_ids))

    async def retake(self, job_id: str, claim: Claim) -> bool:
        """Give a lease that ran out back."""
        self.retaken.append(job_id)
        self.free.discard(job_id)
        return True

    async def cancelled(self, job_ids: Iterable[str]) -> set[str]:
        """Return or raise what the test has prepared."""
        found = self.unwanted.pop(0) if self.unwanted else set()
        if isinstance(found, Exception):
            raise found
        return found & set(job_ids)

    async def ping(self) -> None:
        """Fail as often as the test has prepared."""
        self.pings += 1
        if self.pings < 3:
            raise QueueUnavailable("away")

    async def sweep(self, *, first: bool = False) -> int:
        """Return or raise what the test has prepared."""
        assert first == (not self.swept)
        self.swept = True
        found = self.sweeps.pop(0) if self.sweeps else 0
        if isinstance(found, Exception):
            raise found
        return found


class Consumer:
    """`Jobs` with a scripted queue and an engine that waits for `go` after its first step."""

    def __init__(self, queue: ScriptedQueue, limit: int = 8) -> None:
        self.queue = queue
        self.go = anyio.Event()
        self.engine = FakeEngine(before_step=self._wait)
        self.health = Health()
        self.store = MemoryStore()
        self.now = 100.0
        self.jobs = Jobs(Services(self.engine, queue, self.store, self.health), limit, clock=lambda: self.now)

    async def _wait(self, step: int) -> None:
        structlog.get_logger("vllm").info("step", number=step)
        if step == 1:
            await self.go.wait()


@asynccontextmanager
async def consuming(consumer: Consumer) -> AsyncIterator[None]:
    """Run the consumer; leave by draining it."""
    async with anyio.create_task_group() as tasks:

        async def consume() -> None:
            await consumer.jobs.consume(tasks)

        tasks.start_soon(consume)
        yield
        consumer.jobs.drain()
        await consumer.jobs.finished(math.inf)


async def until(condition: object) -> None:
    """Let other tasks run until the condition, a callable, holds."""
    assert callable(condition)
    with anyio.fail_after(5):
        while not condition():
            await anyio.lowlevel.checkpoint()


def ids(count: int) -> list[bytes]:
    """Return so many new job ids."""
    return [str(uuid4()).encode() for _ in range(count)]


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


async def test_a_lost_lease_stops_the_job_silently(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is neither released nor acknowledged, and its engine request is closed."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.jobs.keep_leases)
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            consumer.queue.lost = set(consumer.queue.claims)
            await until(lambda: consumer.jobs.running == 0)
        tasks.cancel_scope.cancel()
    assert (consumer.queue.released, consumer.queue.acknowledged) == ([], [])
    assert consumer.engine.closed == consumer.queue.claims


async def test_the_sweep_goes_on_after_an_outage(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at once when Redis is back: the workers are to take their leases back first."""
    monkeypatch.setattr(jobs_module, "delays", lambda *_: iter([0.0] * 100))
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)
        await anyio.lowlevel.checkpoint()

    monkeypatch.setattr(anyio, "sleep", sleep)
    consumer = Consumer(ScriptedQueue())
    consumer.queue.sweeps = [QueueUnavailable("away"), 3, 0]
    async with anyio.create_task_group() as tasks:
        await tasks.start(consumer.jobs.sweep)
        assert consumer.health.components["redis"] == "away"
        await until(lambda: not consumer.queue.sweeps)
        tasks.cancel_scope.cancel()
    assert consumer.queue.pings == 3
    assert waits[:5] == [0, 0, 0, jobs_module.SWEEP_AFTER_OUTAGE_SECONDS, jobs_module.SWEEP_SECONDS]


def traceparent(digit: str) -> str:
    """Return a traceparent of the W3C form, with a trace id of this digit."""
    return f"00-{digit * 32}-00f067aa0ba902b7-01"


async def test_every_line_of_a_job_names_its_trace_and_no_other_job_s() -> None:
    """The engine's own lines as well, while three jobs run side by side and a fourth comes after them."""
    one, two, untraced, later = (job.decode() for job in ids(4))
    queue = ScriptedQueue(one.encode(), two.encode(), untraced.encode())
    queue.traces = {one: traceparent("1"), two: traceparent("2")}
    consumer = Consumer(queue)
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 3)
            consumer.go.set()
            await until(lambda: len(queue.acknowledged) == 3)
            queue.popped.append(later.encode())
            await until(lambda: len(queue.acknowledged) == 4)
    for job in (one, two, untraced, later):
        lines = [line for line in logs if line.get("job") == job]
        assert [line["event"] for line in lines] == ["step", "step", "step", "job finished"]
        trace = queue.traces.get(job)
        assert {line.get("traceparent") for line in lines} == {trace}
        assert {line.get("trace_id") for line in lines} == {trace and trace[3:35]}
    assert get_contextvars() == {}


async def test_a_trace_that_is_none_does_not_stop_the_job() -> None:
    """It runs to its end, and its log lines carry nothing of it."""
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job))
    consumer.queue.traces = {job.decode(): "00-garbage\nwith a second line"}
    consumer.go.set()
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with consuming(consumer):
            await until(lambda: consumer.queue.acknowledged)
    assert "garbage" not in str(logs)
    assert not any("trace_id" in line for line in logs)
    assert b'"done"' in consumer.store.written[-1]


async def test_lines_about_a_job_from_elsewhere_name_its_trace_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A second entry of it, and the loss of its lease, are seen by other tasks than its own."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    job = ids(1)[0]
    consumer = Consumer(ScriptedQueue(job))
    consumer.queue.traces = {job.decode(): traceparent("3")}
    with capture_logs(processors=[merge_contextvars]) as logs:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(consumer.jobs.keep_leases)
            async with consuming(consumer):
                await until(lambda: consumer.jobs.running == 1)
                consumer.queue.popped.append(job)
                await until(lambda: any("still runs here" in line["event"] for line in logs))
                consumer.queue.lost = set(consumer.queue.claims)
                await until(lambda: consumer.jobs.running == 0)
            tasks.cancel_scope.cancel()
    seen = {line["event"]: line.get("trace_id") for line in logs if line["log_level"] == "warning"}
    assert seen == {"popped a job that still runs here": "3" * 32, "lost the lease": "3" * 32}


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


async def test_while_more_wait_nobody_waits_for_them() -> None:
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


async def test_a_lease_that_ran_out_is_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """The job goes on, unless it has ended meanwhile."""
    monkeypatch.setattr(jobs_module, "RENEW_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(1)))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(consumer.jobs.keep_leases)
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            consumer.queue.free = set(consumer.queue.claims)
            await until(lambda: consumer.queue.retaken)
            consumer.go.set()
            await until(lambda: consumer.queue.acknowledged)
        tasks.cancel_scope.cancel()
    assert consumer.queue.retaken == consumer.queue.acknowledged == consumer.engine.closed


async def test_a_renewal_that_fails_is_tried_again_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not only when the next one would be due: the lease may have run out by then."""
    consumer = Consumer(ScriptedQueue(*ids(1)))
    asked_at: list[float] = []

    async def sleep(seconds: float) -> None:
        assert seconds >= 0
        consumer.now += seconds
        await anyio.lowlevel.checkpoint()

    async def renew(_ids: Iterable[str]) -> Renewal:
        asked_at.append(consumer.now)
        if len(asked_at) in {1, 2}:
            raise QueueUnavailable("away")
        if len(asked_at) == 4:
            consumer.now += 60  # the whole process stood still
        if len(asked_at) == 5:
            await anyio.sleep_forever()
        return Renewal(set(), set())

    monkeypatch.setattr(consumer.queue, "renew", renew)
    async with anyio.create_task_group() as tasks:
        async with consuming(consumer):
            await until(lambda: consumer.jobs.running == 1)
            began = consumer.now
            monkeypatch.setattr(anyio, "sleep", sleep)
            tasks.start_soon(consumer.jobs.keep_leases)
            await until(lambda: len(asked_at) == 5)
            monkeypatch.undo()
            consumer.go.set()
        tasks.cancel_scope.cancel()
    assert [later - earlier for earlier, later in itertools.pairwise([began, *asked_at])] == [5, 1, 1, 5, 60]


async def test_cancelled_jobs_are_looked_for_and_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only those; an outage in between is noted, and the look repeated."""
    monkeypatch.setattr(jobs_module, "CANCEL_SECONDS", 0)
    consumer = Consumer(ScriptedQueue(*ids(2)))
    async with anyio.create_task_group() as tasks:
        async with consuming(consumer):
            await until(lambda: len(consumer.store.written) == 2)
            unwanted, other = consumer.queue.claims
            consumer.queue.unwanted = [QueueUnavailable("away"), {unwanted}]
            tasks.start_soon(consumer.jobs.watch_cancels)
            await until(lambda: consumer.queue.acknowledged == [unwanted])
            consumer.go.set()
        tasks.cancel_scope.cancel()
    assert consumer.queue.acknowledged == [unwanted, other]
    assert b'"cancelled"' in consumer.store.objects[reply_key(unwanted)][0]
    assert b'"done"' in consumer.store.objects[reply_key(other)][0]


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
