"""A look for overdue jobs goes in steps, and finds what one look at everything would: the same over both Redises."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

import pytest
import redis

from router_lambda import queue as module
from router_lambda.job import QUEUE_OPEN, cancel_key, job_key, lease_key
from router_lambda.queue import Moot, Queue, QueueUnavailable
from tests.router_samples import numbered_job

SEEDS: Final = 60

STATES: Final = {
    "waits": ("job",),
    "runs": ("job", "lease"),
    "runs without payload": ("lease",),
    "expired": (),
    "cancelled": ("job", "cancel"),
    "cancelled and expired": ("cancel",),
    "cancelled while it runs": ("job", "cancel", "lease"),
}
"""Keys that an open job has, by its state."""

MOOT: Final = {"expired": "expired", "cancelled": "cancelled", "cancelled and expired": "cancelled"}
LIVE: Final = {"waits", "runs"}

KEYS: Final = {"job": job_key, "cancel": cancel_key, "lease": lease_key}


class Jobs:
    """Open jobs whose states are known; whoever is told to leaves one alone or changes it."""

    def __init__(self, client: redis.Redis) -> None:
        self.client = client
        self.scores: dict[str, float] = {}
        self.states: dict[str, str] = {}

    def put(self, state: str, enqueued_at: float) -> str:
        """Open a job."""
        job_id = numbered_job(len(self.states)).id
        self.client.zadd(QUEUE_OPEN, {job_id: enqueued_at})
        self.scores[job_id] = enqueued_at
        self._have(job_id, state)
        return job_id

    def end(self, job_id: str) -> None:
        """Forget a job, as its worker or another waker does."""
        self.client.zrem(QUEUE_OPEN, job_id)
        self._have(job_id, "ended")

    def change(self, job_id: str, state: str) -> None:
        """Let an open job have another state."""
        self._have(job_id, state)

    def _have(self, job_id: str, state: str) -> None:
        self.client.delete(*(key(job_id) for key in KEYS.values()))
        for kind in STATES.get(state, ()):
            self.client.set(KEYS[kind](job_id), "w1")
        self.states[job_id] = state

    def moot(self) -> list[Moot]:
        """Return what is to be taken, oldest first; Redis orders ids of the same time by their bytes."""
        order = sorted(self.scores, key=lambda job_id: (self.scores[job_id], job_id))
        return [Moot(each, self.scores[each], MOOT[state]) for each in order if (state := self.states[each]) in MOOT]


def between(queue: Queue, meddle: Callable[[], object]) -> list[int]:
    """Let something happen after each step of a look; return a list that has the number of steps."""
    step: Any = queue._take_overdue
    steps = [0]

    def stepped(**arguments: Any) -> Any:
        found = step(**arguments)
        steps[0] += 1
        meddle()
        return found

    queue._take_overdue = stepped  # type: ignore[assignment]
    return steps


def score(rng: Random, *, ties: bool) -> float:
    """Return an enqueue time: one of a few, or one of its own."""
    return float(rng.randrange(4)) if ties else rng.random()


@pytest.mark.parametrize("ties", [False, True], ids=["own times", "same times"])
def test_steps_find_what_there_is(client: redis.Redis, monkeypatch: pytest.MonkeyPatch, *, ties: bool) -> None:
    """Whatever the states, and however few ids a step sees: nobody is left out, and nobody counted twice."""
    for seed in range(SEEDS):
        rng = Random(seed)
        client.flushall()
        jobs, queue = Jobs(client), Queue(client)
        for _ in range(rng.randrange(20)):
            jobs.put(rng.choice(list(STATES)), score(rng, ties=ties))
        size = rng.randrange(1, 8)
        monkeypatch.setattr(module, "LOOK_IDS", size)
        steps = between(queue, lambda: None)

        work = queue.take_overdue()

        assert (work.live, work.moot) == (sum(each in LIVE for each in jobs.states.values()), jobs.moot()), seed
        assert steps == [max(1, -(-len(jobs.states) // size))], seed
        assert queue.take_overdue().moot == [], seed


@pytest.mark.parametrize("ties", [False, True], ids=["own times", "same times"])
def test_what_happens_in_between_hides_nobody(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, *, ties: bool
) -> None:
    """Jobs end, begin, run out of time and come, before and behind the look: whoever stays as he is, is found once."""
    for seed in range(SEEDS):
        rng = Random(seed)
        client.flushall()
        jobs, queue = Jobs(client), Queue(client)
        for _ in range(rng.randrange(5, 20)):
            jobs.put(rng.choice(list(STATES)), score(rng, ties=ties))
        stay = dict(jobs.states)

        def meddle(rng: Random = rng, jobs: Jobs = jobs, stay: dict[str, str] = stay) -> None:
            if len(jobs.states) < 40:
                jobs.put(rng.choice(list(STATES)), score(rng, ties=ties))
            for job_id in rng.sample(list(jobs.states), 2):
                if jobs.states[job_id] != "ended":
                    stay.pop(job_id, None)
                    jobs.end(job_id) if rng.random() < 0.5 else jobs.change(job_id, rng.choice(list(STATES)))

        monkeypatch.setattr(module, "LOOK_IDS", rng.randrange(1, 6))
        between(queue, meddle)

        work = queue.take_overdue()

        taken = [each for each in work.moot if each.id in stay]
        assert [(each.id, each.status) for each in taken] == [
            (each.id, each.status) for each in jobs.moot() if each.id in stay
        ], seed
        assert work.live >= sum(state in LIVE for state in stay.values()), seed


@pytest.mark.parametrize("at", [[1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5], ids=["own times", "same times"])
@pytest.mark.parametrize("state", ["waits", "expired"])
def test_the_last_one_seen_may_be_gone(
    client: redis.Redis, monkeypatch: pytest.MonkeyPatch, at: list[float], state: str
) -> None:
    """The look goes on where that stood, and passes nobody by who has moved up."""
    jobs, queue = Jobs(client), Queue(client)
    ids = [jobs.put(state, each) for each in at]
    between(queue, lambda: jobs.end(ids[1]))
    monkeypatch.setattr(module, "LOOK_IDS", 2)

    work = queue.take_overdue()

    if state == "expired":
        assert (work.live, [each.id for each in work.moot]) == (0, ids)
    else:
        seen_again = len(set(at)) == 1  # the first one, which is of the same time
        assert (work.live, work.moot) == (len(ids) + seen_again, [])


def test_redis_that_fails_between_two_steps_loses_nobody(client: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first step took is leased to nobody who lives; the look after that lease finds it."""
    jobs = Jobs(client)
    ids = [jobs.put("expired", float(number)) for number in range(3)]
    monkeypatch.setattr(module, "LOOK_IDS", 2)
    cut = Queue(client)

    def fail() -> None:
        raise redis.ConnectionError

    between(cut, fail)
    with pytest.raises(QueueUnavailable):
        cut.take_overdue()

    assert [each.id for each in Queue(client).take_overdue().moot] == ids[2:]
    client.delete(*map(lease_key, ids))
    assert [each.id for each in Queue(client).take_overdue().moot] == ids
