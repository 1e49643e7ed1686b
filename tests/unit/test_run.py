"""One claimed job, on a queue and a bucket in memory: every way in which it can end."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import anyio
import fakeredis
import pytest
from structlog.testing import capture_logs

from router_lambda.job import Job, job_key, lease_key, reply_key
from router_lambda.queue import Queue
from tests.fakes import FakeEngine, MemoryStore, away, make_job
from worker import lease, publisher
from worker import run as run_module
from worker.errors import EngineDied, JobRejected
from worker.health import Health
from worker.line import Line
from worker.queue import MAX_ATTEMPTS, JobQueue
from worker.run import Run, Services


@dataclass
class World:
    """A worker's surroundings, all in memory."""

    server: fakeredis.FakeServer = field(default_factory=lambda: fakeredis.FakeServer(version=(6, 2)))
    engine: FakeEngine = field(default_factory=FakeEngine)
    store: MemoryStore = field(default_factory=MemoryStore)
    health: Health = field(default_factory=Health)

    def __post_init__(self) -> None:
        self.redis = fakeredis.FakeRedis(server=self.server)
        blocking, commands = (fakeredis.FakeAsyncRedis(server=self.server) for _ in range(2))
        self.queue = JobQueue(Line(blocking), commands, "one")
        self.services = Services(self.engine, self.queue, self.store, self.health)

    def enqueue(self, **changed: Any) -> Job:
        """Queue a job as the router does."""
        job = make_job(enqueued_at=time.time(), **changed)
        Queue(self.redis).enqueue(job)
        return job

    async def claimed(self, job_id: str) -> Run:
        """Take the job that waits."""
        ((found, claim),) = (await self.queue.take(1, wait=False)).claims
        assert found == job_id
        return Run(job_id, claim, self.services)

    async def run(self, job_id: str) -> None:
        """Claim and run a job as `Jobs` does."""
        await _finish_or_hand_back(await self.claimed(job_id))

    def reply(self, job_id: str) -> Any:
        """Return the reply as a client reads it."""
        return json.loads(self.store.objects[reply_key(job_id)][0])


async def _finish_or_hand_back(run: Run) -> None:
    try:
        await run.finish()
    except BaseException:
        await run.hand_back()
        raise


def hang_after_first_step(engine: FakeEngine) -> anyio.Event:
    """Let the engine say one text and then nothing more; the event tells when it is there."""
    reached = anyio.Event()

    async def hang(step: int) -> None:
        if step == 1:
            reached.set()
            await anyio.sleep_forever()

    engine.before_step = hang
    return reached


def die_before_step(engine: FakeEngine, fatal: int) -> None:
    """Let the engine die where it should say its text number `fatal`."""

    async def die(step: int) -> None:
        if step == fatal:
            raise EngineDied("killed by the test")

    engine.before_step = die


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """Yield a new world."""
    made = World()
    yield made
    await made.queue.aclose()
    made.redis.close()


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make retries come at once."""
    monkeypatch.setattr(publisher, "FIRST_RETRY_SECONDS", 0.0)
    monkeypatch.setattr(publisher, "LONGEST_RETRY_SECONDS", 0.0)


async def test_a_job_ends_done_and_leaves_nothing_in_redis(world: World) -> None:
    """The whole text is in the reply, and the queue has forgotten the job."""
    job = world.enqueue()
    await world.run(job.id)
    reply = world.reply(job.id)
    assert (reply["status"], reply["choices"][0]["text"]) == ("done", "Hello world")
    assert (reply["usage"], reply["attempt"]) == ({"prompt_tokens": 7, "completion_tokens": 3}, 1)
    assert world.redis.keys() == []


async def test_the_first_snapshot_goes_out_with_the_first_token(world: World) -> None:
    """While the second token takes its time, the first is already readable."""
    job = world.enqueue()
    second = anyio.Event()

    async def wait_before_second(step: int) -> None:
        if step == 1:
            await second.wait()

    world.engine.before_step = wait_before_second
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        while not world.store.written:
            await anyio.lowlevel.checkpoint()
        assert world.reply(job.id)["status"] == "streaming"
        assert world.reply(job.id)["choices"][0]["text"] == "Hel"
        second.set()
    assert world.reply(job.id)["status"] == "done"


async def test_one_upload_at_a_time_and_the_newest_state_wins(world: World) -> None:
    """Tokens that arrive during an upload wait for the next one; none of them has its own."""
    job = world.enqueue()
    world.engine.texts = [f"{number} " for number in range(500)]
    world.store.gate = anyio.Event()
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        while not world.engine.closed:
            await anyio.lowlevel.checkpoint()
        world.store.gate.set()
    assert len(world.store.written) == 2
    assert world.reply(job.id)["usage"]["completion_tokens"] == 500


async def test_the_visible_text_never_shrinks(world: World) -> None:
    """Each snapshot begins with the one before."""
    job = world.enqueue()
    world.engine.texts = ["größer " * 20 for _ in range(200)]
    await world.run(job.id)
    texts = [json.loads(body)["choices"][0]["text"] for body in world.store.written]
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


async def test_a_job_that_the_engine_refuses_fails_with_the_reason(world: World) -> None:
    """The engine's code and sentence reach the client; the job is done with."""
    job = world.enqueue()

    async def refuse(_step: int) -> None:
        raise JobRejected("prompt_too_long", "too long for this model")

    world.engine.before_step = refuse
    await world.run(job.id)
    reply = world.reply(job.id)
    assert reply["status"] == "failed"
    assert reply["error"] == {"code": "prompt_too_long", "message": "too long for this model"}
    assert world.redis.keys() == []


@pytest.mark.parametrize(
    "payload", [b"", b"not json", b"\xff\xfe", b"[]", b'{"prompt": 1}', b"[" * 10_000 + b"]" * 10_000]
)
async def test_a_malformed_job_fails_and_is_forgotten(world: World, payload: bytes) -> None:
    """Nothing that lies under a job's key can stop the worker."""
    job = world.enqueue()
    world.redis.set(job_key(job.id), payload)
    await world.run(job.id)
    assert world.reply(job.id)["error"]["code"] == "invalid_job"
    assert world.engine.started == []
    assert world.redis.keys() == []


async def test_a_reply_path_elsewhere_is_refused(world: World) -> None:
    """A job cannot make the worker write outside its bucket and prefix."""
    job = world.enqueue(reply_path="s3://other/replies/x.json")
    await world.run(job.id)
    assert "reply_path must be" in world.reply(job.id)["error"]["message"]
    assert list(world.store.objects) == [reply_key(job.id)]


async def test_a_job_under_another_id_is_refused(world: World) -> None:
    """The key decides who a job is."""
    job, other = world.enqueue(), make_job()
    world.redis.set(job_key(job.id), other.to_json())
    await world.run(job.id)
    assert world.reply(job.id)["error"]["code"] == "invalid_job"


async def test_an_expired_job_says_so(world: World) -> None:
    """A payload that ran out becomes an `expired` reply."""
    job = world.enqueue()
    world.redis.delete(job_key(job.id))
    await world.run(job.id)
    assert (world.reply(job.id)["status"], world.reply(job.id)["error"]["code"]) == ("expired", "expired")
    assert world.redis.keys() == []


async def test_a_bug_fails_the_job_and_keeps_the_prompt_out_of_the_log(world: World) -> None:
    """An unforeseen exception costs one job; its message, which may quote the prompt, is not logged."""
    job = world.enqueue(prompt="my secret")

    async def trip(_step: int) -> None:
        raise KeyError(job.prompt)

    world.engine.before_step = trip
    with capture_logs() as logs:
        await world.run(job.id)
    assert world.reply(job.id)["error"]["code"] == "internal_error"
    assert "my secret" not in str(logs)
    assert any(entry.get("error") == "KeyError" for entry in logs)


async def test_snapshots_are_skipped_while_s3_is_away_and_the_final_write_is_not(world: World) -> None:
    """Generation goes on without S3; the final document is tried until it is in, then the job is acknowledged."""
    job = world.enqueue()
    world.store.failures = away(5)
    await world.run(job.id)
    assert world.reply(job.id)["status"] == "done"
    assert world.health.components["s3"] == "ok"
    assert world.redis.keys() == []


async def test_a_dying_engine_hands_the_job_back(world: World) -> None:
    """The text so far is written, the job waits again, and the daemon hears of it."""
    job = world.enqueue()
    die_before_step(world.engine, 2)
    with pytest.raises(EngineDied):
        await world.run(job.id)
    assert (world.reply(job.id)["status"], world.reply(job.id)["choices"][0]["text"]) == (
        "streaming",
        "Hello ",
    )
    assert world.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]
    assert not world.redis.exists(lease_key(job.id))


async def test_a_cancelled_run_hands_the_job_back_and_closes_its_stream(world: World) -> None:
    """What a drain does to a job that takes too long; the engine's request is closed."""
    job = world.enqueue()
    reached = hang_after_first_step(world.engine)
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert world.engine.closed == [job.id]
    assert world.reply(job.id)["choices"][0]["text"] == "Hel"
    assert world.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]


async def test_a_disowned_run_writes_nothing_more(world: World) -> None:
    """After its lease is lost, neither reply nor queue hears of it."""
    job = world.enqueue()
    reached = hang_after_first_step(world.engine)
    world.store.gate = anyio.Event()
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        await reached.wait()
        run.lease.lost = True
        tasks.cancel_scope.cancel()
    assert world.store.written == []
    assert world.redis.lrange("queue:ready", 0, -1) == []


async def test_a_reply_that_somebody_else_writes_stops_the_run(world: World) -> None:
    """The conflict ends the generation; the other's document stays, and the job is looked at again."""
    job = world.enqueue()
    world.store.objects[reply_key(job.id)] = (b'{"status": "streaming"}', "their-etag", "their-run")
    hang_after_first_step(world.engine)
    await world.run(job.id)
    assert world.engine.closed == [job.id]
    assert world.store.written == []
    assert world.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]


async def interrupted(world: World) -> Job:
    """Let a worker die after its first snapshot."""
    job = world.enqueue()
    die_before_step(world.engine, 1)
    with pytest.raises(EngineDied):
        await world.run(job.id)
    world.engine.before_step = None
    return job


async def test_a_job_interrupted_after_its_first_text_goes_on_behind_it(world: World) -> None:
    """The text so far is not generated again, and the whole document looks as if one worker had written it."""
    job = await interrupted(world)
    before = world.reply(job.id)
    await world.run(job.id)
    reply = world.reply(job.id)
    assert (reply["status"], reply["choices"][0]["text"], reply["attempt"]) == ("done", "Hello world", 2)
    assert reply["usage"] == {"prompt_tokens": 7, "completion_tokens": 3}
    assert (world.engine.started, world.engine.resumed) == ([job.id], [(job.id, 0, "Hel")])
    for kept in ("queued_ms", "first_token_ms"):
        assert reply["timing"][kept] == before["timing"][kept]
    assert reply["created_at"] == before["created_at"]
    assert world.redis.keys() == []


async def test_each_unfinished_choice_goes_on_by_itself(world: World) -> None:
    """A finished one stays as it is; each other one goes on behind its own text."""
    job = world.enqueue(params={"n": 3})
    world.redis.hset("queue:attempts", job.id, "1")
    shown = [("Hello world", "stop"), ("", None), ("Hello ", None)]
    world.store.objects[reply_key(job.id)] = (shown_document(job.id, shown), "etag", "their-run")
    await world.run(job.id)
    reply = world.reply(job.id)
    assert [choice["text"] for choice in reply["choices"]] == ["Hello world"] * 3
    assert (world.engine.started, world.engine.resumed) == ([], [(job.id, 1, ""), (job.id, 2, "Hello ")])
    assert reply["usage"]["completion_tokens"] == 9


async def test_a_job_whose_choices_were_all_finished_only_ends(world: World) -> None:
    """Its worker died between the last token and the final write; nothing is generated, no token counted anew."""
    job = world.enqueue()
    world.redis.hset("queue:attempts", job.id, "1")
    document = shown_document(job.id, [("Hello world", "length")], completion_tokens=41)
    world.store.objects[reply_key(job.id)] = (document, "etag", "their-run")
    await world.run(job.id)
    reply = world.reply(job.id)
    assert (reply["status"], reply["choices"][0]["finish_reason"]) == ("done", "length")
    assert reply["usage"]["completion_tokens"] == 41
    assert (world.engine.started, world.engine.resumed) == ([], [])


@pytest.mark.parametrize(
    "blank", [b"", b"what?", b"[]", b'{"status": "streaming"}', b'{"choices": []}', b"[" * 100_000]
)
async def test_an_object_that_no_worker_has_written_is_written_over(world: World, blank: bytes) -> None:
    """The job starts from the beginning."""
    job = world.enqueue()
    world.redis.hset("queue:attempts", job.id, "1")
    world.store.objects[reply_key(job.id)] = (blank, "etag", "nobody")
    await world.run(job.id)
    assert (world.reply(job.id)["status"], world.engine.started) == ("done", [job.id])


async def test_logprobs_of_text_that_was_held_back_are_counted_once(world: World) -> None:
    """They stood in the snapshot already, and come again with the text."""
    job = world.enqueue(params={"logprobs": 0})
    world.redis.hset("queue:attempts", job.id, "1")
    document = json.loads(shown_document(job.id, [("Hel", None)]))
    document["choices"][0]["logprobs"] = {"content": [{"token": "Hel"}, {"token": "lo "}]}
    world.store.objects[reply_key(job.id)] = (json.dumps(document).encode(), "etag", "their-run")
    await world.run(job.id)
    assert world.reply(job.id)["choices"][0]["logprobs"] == {"content": [{"token": "Hel"}]}


def shown_document(job_id: str, shown: list[tuple[str, str | None]], *, completion_tokens: int = 5) -> bytes:
    """Return a reply as an earlier worker left it: text and finish reason of each choice."""
    choices = [
        {"index": index, "text": text, "finish_reason": reason, "logprobs": None}
        for index, (text, reason) in enumerate(shown)
    ]
    document = {
        "id": job_id,
        "status": "streaming",
        "model": "fake",
        "choices": choices,
        "usage": {"prompt_tokens": 7, "completion_tokens": completion_tokens},
        "timing": {"queued_ms": 3.0, "first_token_ms": 41.0, "total_ms": None},
        "attempt": 1,
        "error": None,
        "created_at": 1_790_000_000.0,
        "updated_at": 1_790_000_000.2,
    }
    return json.dumps(document).encode()


async def test_a_cancelled_job_stops_and_keeps_its_text(world: World) -> None:
    """The engine's request is closed, the reply says so, and nothing stays in Redis."""
    job = world.enqueue()
    reached = hang_after_first_step(world.engine)
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        await reached.wait()
        run.cancel()
    reply = world.reply(job.id)
    assert (reply["status"], reply["choices"][0]["text"], reply["error"]["code"]) == ("cancelled", "Hel", "cancelled")
    assert world.engine.closed == [job.id]
    assert world.redis.keys() == []


async def test_a_job_that_is_cancelled_while_it_waits_never_starts(world: World) -> None:
    """Its reply says so as soon as a worker meets it."""
    job = world.enqueue()
    assert Queue(world.redis).cancel(job.id, job.sub)
    await world.run(job.id)
    assert (world.reply(job.id)["status"], world.engine.started) == ("cancelled", [])
    assert world.redis.keys() == []


async def test_a_job_that_is_cancelled_between_two_workers_keeps_its_text(world: World) -> None:
    """The next worker only says that it is cancelled."""
    job = await interrupted(world)
    assert Queue(world.redis).cancel(job.id, job.sub)
    await world.run(job.id)
    reply = world.reply(job.id)
    assert (reply["status"], reply["choices"][0]["text"]) == ("cancelled", "Hel")
    assert world.engine.resumed == []


async def test_a_job_that_is_cancelled_when_all_is_said_is_done(world: World) -> None:
    """Whoever comes too late changes nothing."""
    job = world.enqueue()
    run = await world.claimed(job.id)
    world.store.gate = anyio.Event()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        while not world.engine.closed:
            await anyio.lowlevel.checkpoint()
        world.store.gate.set()
        await anyio.lowlevel.checkpoint()
        run.cancel()
    assert world.reply(job.id)["status"] in {"done", "cancelled"}
    assert world.reply(job.id)["choices"][0]["text"] == "Hello world"


async def test_an_interrupted_job_that_nobody_took_up_in_time_expires_with_its_text(world: World) -> None:
    """What was shown stays."""
    job = await interrupted(world)
    world.redis.delete(job_key(job.id))
    await world.run(job.id)
    assert (world.reply(job.id)["status"], world.reply(job.id)["choices"][0]["text"]) == ("expired", "Hel")


async def test_a_run_asks_for_its_lease_before_it_writes_after_a_pause(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else has the job by now: neither reply nor queue hears of this run, which stops generating."""
    job = world.enqueue()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0)
    run = await world.claimed(job.id)
    world.redis.set(lease_key(job.id), "two")
    hang_after_first_step(world.engine)
    await _finish_or_hand_back(run)
    assert world.store.written == []
    assert world.engine.closed == [job.id]
    assert world.redis.get(lease_key(job.id)) == b"two"
    assert world.redis.lrange("queue:ready", 0, -1) == []


async def test_a_lease_that_ran_out_and_that_nobody_took_is_taken_back(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The job goes on as if nothing had happened."""
    job = world.enqueue()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0)
    run = await world.claimed(job.id)
    world.redis.delete(lease_key(job.id))
    await _finish_or_hand_back(run)
    assert world.reply(job.id)["status"] == "done"
    assert world.redis.keys() == []


async def test_a_reply_is_completed_while_redis_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The write's own condition guards it; the acknowledgement waits for Redis."""
    job = world.enqueue()
    monkeypatch.setattr(lease, "LEASE_SECONDS", 0)
    monkeypatch.setattr(run_module, "delays", lambda *_: itertools.repeat(0.0))
    run = await world.claimed(job.id)
    world.server.connected = False
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        with anyio.fail_after(5):
            while not world.store.written or b'"done"' not in world.store.written[-1]:
                await anyio.lowlevel.checkpoint()
        assert world.health.components["redis"] != "ok"
        world.server.connected = True
    assert world.redis.keys() == []


async def test_a_job_is_handed_back_though_s3_is_away(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After its time is up the next worker may have it, with what the last snapshot holds."""
    job = world.enqueue()
    monkeypatch.setattr(run_module, "SAVE_SECONDS", 0.05)
    reached = hang_after_first_step(world.engine)
    world.store.failures = away(100_000)
    run = await world.claimed(job.id)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_finish_or_hand_back, run)
        await reached.wait()
        tasks.cancel_scope.cancel()
    assert world.redis.lrange("queue:ready", 0, -1) == [job.id.encode()]


async def test_the_last_try_waits_until_it_is_alone(world: World) -> None:
    """Should it kill the engine once more, no other job is hurt."""
    first, last = world.enqueue(), world.enqueue()
    world.redis.hset("queue:attempts", last.id, str(MAX_ATTEMPTS - 1))
    go = anyio.Event()

    async def wait(_step: int) -> None:
        await go.wait()

    world.engine.before_step = wait
    runs = [await world.claimed(job.id) for job in (first, last)]
    async with anyio.create_task_group() as tasks:
        for run in runs:
            tasks.start_soon(_finish_or_hand_back, run)
        for _ in range(100):
            await anyio.lowlevel.checkpoint()
        assert world.engine.started == [first.id]
        go.set()
    assert world.engine.started == [first.id, last.id]
    assert {world.reply(job.id)["status"] for job in (first, last)} == {"done"}


async def test_a_job_interrupted_before_its_first_text_runs_again(world: World) -> None:
    """Nobody has seen anything, so nothing is lost."""
    job = world.enqueue()
    die_before_step(world.engine, 0)
    with pytest.raises(EngineDied):
        await world.run(job.id)
    world.engine.before_step = None
    await world.run(job.id)
    assert (world.reply(job.id)["status"], world.reply(job.id)["attempt"]) == ("done", 2)


async def test_a_job_that_was_finished_but_not_acknowledged_is_only_acknowledged(world: World) -> None:
    """The final document of the first attempt stands."""
    job = world.enqueue()
    final = json.dumps(json.loads(shown_document(job.id, [("Hi", "stop")])) | {"status": "done"}).encode()
    world.redis.hset("queue:attempts", job.id, "1")
    world.store.objects[reply_key(job.id)] = (final, "etag", "their-run")
    await world.run(job.id)
    assert world.store.objects[reply_key(job.id)][0] == final
    assert (world.engine.started, world.redis.keys()) == ([], [])


async def test_too_many_attempts_end_the_job(world: World) -> None:
    """What kills its workers does not kill a fourth."""
    job = world.enqueue()
    world.redis.hset("queue:attempts", job.id, str(MAX_ATTEMPTS))
    await world.run(job.id)
    assert world.reply(job.id)["error"]["code"] == "too_many_attempts"
    assert world.engine.started == []


async def test_a_finished_job_has_one_log_line_without_its_text(world: World) -> None:
    """Id, status, latencies and tokens; never a prompt or an answer."""
    job = world.enqueue(prompt="my secret")
    with capture_logs() as logs:
        await world.run(job.id)
    (line,) = [entry for entry in logs if entry["event"] == "job finished"]
    assert (line["job"], line["status"], line["completion_tokens"]) == (job.id, "done", 3)
    assert {"queue_ms", "first_token_ms", "total_ms", "prompt_tokens", "attempt"} <= line.keys()
    assert "my secret" not in str(logs)
    assert "world" not in str(logs)
