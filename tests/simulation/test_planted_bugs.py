"""The simulation finds each of the bugs that are planted here, one at a time, within a few worlds."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from typing import Any, Final

import pytest

from router_lambda.job import Job
from tests.simulation.planted import Plant, assert_is_found, in_script
from tests.simulation.world import simulate
from worker.earlier import EarlierReply
from worker.engine import Step
from worker.queue import JobQueue
from worker.reply import Document, Reply
from worker.run import Run
from worker.store import ReplyStore

MENDED_SEEDS: Final = 20
"""Worlds in which a bug that something else makes up for must not show."""


def acknowledge_before_the_write(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the queue forget a job whose final reply is still to be written."""
    deliver = Run._deliver

    async def acknowledge_and_deliver(run: Run) -> None:
        await run._acknowledge()
        await deliver(run)

    monkeypatch.setattr(Run, "_deliver", acknowledge_and_deliver)


def write_without_conditions(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let whoever writes last win."""

    async def write(store: ReplyStore, key: str, document: Document, after: str | None, writer: str) -> str:
        put = await store._client.put_object(
            Bucket=store.bucket,
            Key=key,
            ContentType="application/json",
            Metadata={"writer": writer},
            Body=b"".join(document.blocks),
        )
        return str(put["ETag"])

    monkeypatch.setattr(ReplyStore, "_write_once", write)


def begin_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job that was taken over generate its text from the beginning."""

    def streams(run: Run, job: Job, earlier: EarlierReply | None) -> list[AsyncGenerator[Step, None]]:
        return [run._services.engine.generate(job)]

    monkeypatch.setattr(Reply, "restore", lambda *_: None)
    monkeypatch.setattr(Run, "_streams", streams)


def repeat_what_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a job that was taken over append its whole text to what is shown."""

    def streams(run: Run, job: Job, earlier: EarlierReply | None) -> list[AsyncGenerator[Step, None]]:
        return [run._services.engine.generate(job)]

    monkeypatch.setattr(Run, "_streams", streams)


def hear_no_cancel(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a running job go on, whatever its owner says."""

    async def cancelled(queue: JobQueue, job_ids: Any) -> set[str]:
        return set()

    monkeypatch.setattr(JobQueue, "cancelled", cancelled)


def put_nothing_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a worker that drains forget what it took."""

    async def give_back(queue: JobQueue, job_ids: list[str]) -> None:
        return None

    monkeypatch.setattr(JobQueue, "give_back", give_back)


def share_the_last_try(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let other jobs run beside one that has ended two workers."""
    monkeypatch.setattr(Run, "_turn", lambda run: run._services.turns.together())


BUGS: Final[dict[str, Plant]] = {
    "a claim takes a lease that somebody holds": in_script("CLAIM", "'NX', ", ""),
    "a claim ignores that a job is cancelled": in_script(
        "CLAIM", "redis.call('EXPIRE', ARGV[8]..id, ARGV[3]) == 1", "false"
    ),
    "a claim counts no attempt": in_script("CLAIM", "mine and 0 or 1", "0"),
    "a sweep finds nothing": in_script("SWEEP", "if not waiting[id]", "if false and not waiting[id]"),
    "a renewal renews nothing": in_script("RENEW", "redis.call('EXPIRE', KEYS[2 * i - 1], ARGV[2])", ""),
    "an acknowledgement forgets the attempts": in_script("ACKNOWLEDGE", "redis.call('HDEL', KEYS[2], id)", ""),
    "an acknowledgement keeps the job open": in_script("ACKNOWLEDGE", "redis.call('ZREM', KEYS[1], id)", ""),
    "an acknowledgement comes before the write": acknowledge_before_the_write,
    "a write has no condition": write_without_conditions,
    "a job that is taken over begins anew": begin_anew,
    "a job that is taken over repeats what is shown": repeat_what_is_shown,
    "a running job is never cancelled": hear_no_cancel,
    "the last try does not run alone": share_the_last_try,
}

MENDED: Final[dict[str, Plant]] = {
    "a release pushes nothing, which the sweep makes up for": in_script(
        "RELEASE", "redis.call('LPUSH', KEYS[2], ARGV[1])", ""
    ),
    "a drain puts nothing back, which the sweep makes up for": put_nothing_back,
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_planted_bug_is_found(bug: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Within `MOST_SEEDS` worlds a rule breaks."""
    BUGS[bug](monkeypatch)
    assert_is_found(bug, simulate, capsys)


@pytest.mark.parametrize("bug", MENDED)
def test_a_bug_that_is_made_up_for_harms_no_job(bug: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Slower, but whole."""
    MENDED[bug](monkeypatch)
    for seed in range(MENDED_SEEDS):
        simulate(seed)
