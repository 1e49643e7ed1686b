"""What happened in one run, and the rules that hold at every step of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Final

from router_lambda.job import FINAL_STATUSES, JOB_TTL_SECONDS
from tests.simulation.engine import script
from tests.simulation.loop import Process
from worker.queue import MAX_ATTEMPTS

SHOWN_EVENTS: Final = 60
"""How much of the trace a failure shows."""

LATE_SECONDS: Final = 12.0
"""Time after which a claim can still take effect whose caller has long given it up, and died."""

DEAF_SECONDS: Final = 6.0
"""Time in which a worker that nothing befell hears of a cancelled job."""


class Broken(Exception):
    """A rule of the protocol does not hold."""


@dataclass
class Try:
    """One granted claim."""

    worker: Process
    at: float
    attempt: int
    is_released: bool = False


@dataclass
class Known:
    """What is known of one job. Times in virtual seconds."""

    id: str
    choices: int
    queued: list[float] = field(default_factory=list)
    """When a router put it into Redis; more than once when an answer got lost."""
    is_withdrawn: bool = False
    cancelled: float | None = None
    """When its owner cancelled it."""
    tries: list[Try] = field(default_factory=list)
    documents: list[dict[str, Any]] = field(default_factory=list)
    ended: float | None = None


class Ledger:
    """Keeps the trace, the counts and the jobs, and raises `Broken` when a rule does not hold."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.trace: list[tuple[object, ...]] = []
        self.counts: Counter[str] = Counter()
        self.jobs: dict[str, Known] = {}
        self._faults: list[tuple[float, Process]] = []

    def note(self, *event: object) -> None:
        """Write one event into the trace."""
        self.trace.append((round(self._clock(), 4), *event))

    def fault(self, kind: str, worker: Process) -> None:
        """Note that a worker suffered something that may end the tries of its jobs."""
        self.counts[kind] += 1
        self.note(worker.name, kind)
        self._faults.append((self._clock(), worker))

    def tail(self) -> str:
        """Return the last events, one a line."""
        return "\n".join(" ".join(map(str, event)) for event in self.trace[-SHOWN_EVENTS:])

    def claimed(
        self, worker: Process, job_id: str, claim: tuple[str, int], *, holder: bytes | None, is_cancelled: bool
    ) -> None:
        """Check a granted claim, a state and an attempt, against the keys as they were just before it."""
        job, (state, attempt) = self.jobs[job_id], claim
        if holder is not None and holder.decode() != worker.worker_id:
            raise Broken(f"{worker.name} was granted {job_id} while {holder.decode()} held its lease")
        if state == "run" and is_cancelled:
            raise Broken(f"{worker.name} was told to run {job_id}, which is cancelled")
        if job.tries and not self._may_be_over(job.tries[-1], worker):
            raise Broken(f"{worker.name} got {job_id} from {job.tries[-1].worker.name}, which nothing had befallen")
        # Asked again, the queue takes the lease of a worker's earlier life for the worker's own, and counts no attempt.
        if job.tries and attempt <= job.tries[-1].attempt and worker.worker_id != job.tries[-1].worker.worker_id:
            raise Broken(
                f"{worker.name} was told that attempt {attempt} at {job_id} comes after the same or a later one"
            )
        job.tries.append(Try(worker, self._clock(), attempt))

    def _may_be_over(self, last: Try, successor: Process) -> bool:
        """Return whether a try may have ended already, though maybe with its worker not knowing it."""
        worker = last.worker
        if last.is_released or worker is successor or worker.is_dead or worker.is_stopped or worker.is_leaving:
            return True
        return any(befallen is worker and at >= last.at for at, befallen in self._faults)

    def released(self, worker: Process, job_id: str) -> None:
        """Note that a worker has handed a job back."""
        for each in self.jobs[job_id].tries:
            if each.worker is worker:
                each.is_released = True

    def given_back(self, worker: Process, job_id: str) -> None:
        """Note that a worker has given up a job that it never began, which then was no try."""
        tries = self.jobs[job_id].tries
        if tries and tries[-1].worker is worker:
            tries.pop()

    def generates(self, worker: Process, job_id: str, others: set[str]) -> None:
        """Check that the last try of a job, which may kill the engine once more, has it for itself."""
        for each in {job_id, *others} if others else ():
            if any(own.worker is worker and own.attempt >= MAX_ATTEMPTS for own in self.jobs[each].tries):
                raise Broken(f"{worker.name} runs {job_id} beside {sorted(others)}, though {each} is to run alone")

    def acknowledged(self, worker: Process, job_id: str, *, left: list[str]) -> None:
        """Check that a job's end is in S3 before Redis forgets it, and that Redis forgets it whole."""
        if self.jobs[job_id].ended is None:
            raise Broken(f"{worker.name} acknowledged {job_id} before its final reply was written")
        if left:
            raise Broken(f"{worker.name} acknowledged {job_id}, and {left} still hold it")
        self.jobs[job_id].tries.clear()  # should it be queued once more, its attempts begin anew

    def written(self, worker: Process, job_id: str, body: bytes) -> None:
        """Check a version of a reply against the one before it."""
        job, now = self.jobs[job_id], json.loads(body)
        texts = [choice["text"] for choice in now["choices"]]
        self.note(worker.name, "wrote", job_id[:4], now["status"], now["attempt"], [len(text) for text in texts])
        for index, text in enumerate(texts):
            if not "".join(script(job_id, index)).startswith(text):
                raise Broken(f"{job_id} shows what the engine never said: {text!r}")
        if job.documents:
            before = job.documents[-1]
            # A worker that was not told of its success writes the same once more.
            if before["status"] in FINAL_STATUSES and before != now:
                raise Broken(f"{worker.name} wrote {now} over the final reply {before}")
            if now["attempt"] < before["attempt"]:
                raise Broken(f"{worker.name} wrote over a later attempt of {job_id}")
            for earlier, text in zip(before["choices"], texts, strict=False):
                if not text.startswith(earlier["text"]):
                    raise Broken(f"the text of {job_id} shrank to {text!r}")
            if len(texts) < len(before["choices"]):
                raise Broken(f"{job_id} lost a choice")
        job.documents.append(now)
        if now["status"] in FINAL_STATUSES and job.ended is None:
            job.ended = self._clock()
            self._check_end(job, now)

    def _check_end(self, job: Known, final: dict[str, Any]) -> None:
        """Check that a job ended as it may, given what befell it."""
        status, code = final["status"], final["error"] and final["error"]["code"]
        self.counts[status] += 1
        if status == "done":
            self._check_done(job, final)
        elif status == "cancelled":
            if job.cancelled is None:
                raise Broken(f"{job.id} is cancelled, and nobody asked for that")
        elif status == "expired":
            waited = self._clock() - max(job.queued)
            if waited < JOB_TTL_SECONDS:
                raise Broken(f"{job.id} expired after {waited:.1f} s")
        elif code != "too_many_attempts":
            raise Broken(f"{job.id} failed as {code}")
        elif (ended := self._tries_ended_by_a_fault(job)) < MAX_ATTEMPTS:
            raise Broken(f"{job.id} was given up, though only {ended} of its tries were ended by a fault")

    def _check_done(self, job: Known, final: dict[str, Any]) -> None:
        tokens = 0
        for choice in final["choices"]:
            said = script(job.id, choice["index"])
            tokens += len(said)
            if choice["text"] != "".join(said) or choice["finish_reason"] != "stop":
                raise Broken(f"{job.id} is done without its whole text")
        if len(final["choices"]) != job.choices:
            raise Broken(f"{job.id} has {len(final['choices'])} choices instead of {job.choices}")
        if final["usage"]["completion_tokens"] != tokens:
            raise Broken(f"{job.id} counts {final['usage']['completion_tokens']} tokens instead of {tokens}")
        generated = min(job.queued) + final["timing"]["total_ms"] / 1e3
        if job.tries and job.cancelled is not None and generated - job.cancelled > DEAF_SECONDS:
            last = job.tries[-1].worker
            if not any(worker is last and at >= job.cancelled for at, worker in self._faults):
                raise Broken(f"{job.id} is done, though it was cancelled long before")

    def _tries_ended_by_a_fault(self, job: Known) -> int:
        return sum(
            any(worker is this.worker and this.at - LATE_SECONDS <= at <= after.at for at, worker in self._faults)
            for this, after in pairwise(job.tries)
        )

    def check_whole(self, left: Sequence[str], ready: Sequence[str]) -> None:
        """Check after everything has settled: each accepted job has its end, and Redis is empty.

        But for second entries in the ready list, which a worker that ends puts back unseen, and the next one drops.
        """
        for job in self.jobs.values():
            if job.queued and not job.is_withdrawn and job.ended is None:
                raise Broken(f"{job.id} never ended")
            if not job.queued and job.documents:
                raise Broken(f"{job.id} was never queued and has a reply")
        if left or not self.jobs.keys() >= set(ready):
            raise Broken(f"Redis still holds {sorted(left)}, and {ready} in its ready list")
