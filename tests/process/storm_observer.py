"""What a client of a storm sees: every open reply again and again, held against the rules of the contract."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.s3_server import S3Server
from router_lambda.job import DEFAULT_MAX_TOKENS, FINAL_STATUSES, JOB_TTL_SECONDS, Job, reply_key
from worker.queue import MAX_ATTEMPTS

BROKEN: Final = ("lost", "duplicated", "shrunk", "wrong")
"""What must not happen: no final reply; two; a text that was shown and is not any more; or one that should not be."""


@dataclass
class Watched:
    """A job and what is known of its reply."""

    job: Job
    is_accepted: bool = False
    """Whether the router said that it is queued. One that it could not tell may be all the same."""
    cancel_asked: bool = False
    body: bytes | None = None
    reply: Any = None

    @property
    def is_final(self) -> bool:
        """Whether it has been seen to end."""
        return self.reply is not None and self.reply["status"] in FINAL_STATUSES


@dataclass
class Observer:
    """Looks at the replies and notes what breaks a rule, by kind and job."""

    s3_server: S3Server
    jobs: dict[str, Watched] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    strikes: list[float] = field(default_factory=list)
    """Unix seconds at which a worker was hit."""

    def watch(self, job: Job) -> Watched:
        """Look at this job's reply from now on."""
        watched = self.jobs[job.id] = Watched(job)
        return watched

    @property
    def waited_for(self) -> list[str]:
        """The ids of the accepted jobs without a final reply."""
        return [job_id for job_id, watched in list(self.jobs.items()) if watched.is_accepted and not watched.is_final]

    def look(self, *, also_final: bool = False) -> None:
        """Look once at every open reply, or at every reply; an S3 that does not answer is asked another time."""
        with self._client() as s3:
            for watched in list(self.jobs.values()):
                if also_final or not watched.is_final:
                    self._look_at(s3, watched)

    def uploads(self) -> list[str]:
        """Return the keys of the multipart uploads that are neither completed nor aborted."""
        with self._client() as s3:
            found = s3.list_multipart_uploads(Bucket=self.s3_server.bucket)
        return [upload["Key"] for upload in found.get("Uploads", [])]

    @contextmanager
    def _client(self) -> Iterator[Any]:
        server = self.s3_server
        client = boto3.client(
            "s3",
            endpoint_url=server.endpoint,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
            region_name=server.region,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        with closing(client):
            yield client

    def _look_at(self, s3: Any, watched: Watched) -> None:
        job_id = watched.job.id
        try:
            body = s3.get_object(Bucket=self.s3_server.bucket, Key=reply_key(job_id))["Body"].read()
        except s3.exceptions.NoSuchKey:
            if watched.body is not None:
                self.note("shrunk", job_id, "its reply has vanished")
            return
        except (BotoCoreError, ClientError):
            return
        if body != watched.body:
            reply = json.loads(body)
            if watched.reply is not None:
                self._compare(job_id, watched.reply, reply)
            if reply["status"] in FINAL_STATUSES and not watched.is_final:
                self._check_end(watched, reply)
            watched.body, watched.reply = body, reply

    def note(self, kind: str, job_id: str, what: str) -> None:
        """Note a broken rule."""
        self.broken[kind].append(f"{job_id}: {what}")

    def _compare(self, job_id: str, before: Any, now: Any) -> None:
        """Hold a reply against the one that was seen before it."""
        if before["status"] in FINAL_STATUSES:
            self.note("duplicated", job_id, f"{before['status']} became {now['status']}, or it changed otherwise")
        if now["attempt"] < before["attempt"]:
            self.note("shrunk", job_id, f"attempt {before['attempt']} became {now['attempt']}")
        if len(now["choices"]) < len(before["choices"]):
            self.note("shrunk", job_id, f"{len(before['choices'])} choices became {len(now['choices'])}")
        for earlier, later in zip(before["choices"], now["choices"], strict=False):
            shown, text = earlier["text"], later["text"]
            if not text.startswith(shown):
                same = next((n for n, (a, b) in enumerate(zip(shown, text, strict=False)) if a != b), len(text))
                what = f"of {len(shown)} characters of choice {earlier['index']} only {same} are left"
                self.note("shrunk", job_id, f"{what}, attempt {before['attempt']} to {now['attempt']}")

    def _check_end(self, watched: Watched, reply: Any) -> None:
        """Check that a job ended as it may, given what befell it."""
        job, status, code = watched.job, reply["status"], reply["error"] and reply["error"]["code"]
        lived = reply["updated_at"] - job.enqueued_at
        problem = None
        if status == "done":
            problem = _what_is_missing(job, reply)
        elif status == "cancelled":
            problem = None if watched.cancel_asked else "cancelled, and nobody asked for that"
        elif status == "expired":
            problem = None if lived >= JOB_TTL_SECONDS else f"expired after {lived:.1f} s"
        elif code == "too_many_attempts":
            hit = sum(job.enqueued_at <= moment <= reply["updated_at"] for moment in self.strikes)
            problem = None if hit >= MAX_ATTEMPTS else f"given up, though only {hit} faults struck while it lived"
        else:
            problem = f"failed: {code}"
        if problem is not None:
            self.note("wrong", job.id, problem)

    def check_logs(self, logs: Collection[Path]) -> Counter[str]:
        """Note what the workers say that they ended twice; return how often each event is in their logs."""
        events = [event for log in logs for event in _events(log)]
        ended = Counter(event["job"] for event in events if event["event"] == "job finished")
        for job_id, times in ended.items():
            if times > 1:
                self.note("duplicated", job_id, f"the workers ended it {times} times")
        return Counter(event["event"] for event in events)


def _what_is_missing(job: Job, reply: Any) -> str | None:
    """Say what a reply that is done lacks, or has too much."""
    asked = job.params.get("n", 1)
    if len(reply["choices"]) != asked:
        return f"done with {len(reply['choices'])} choices instead of {asked}"
    if any(choice["finish_reason"] is None for choice in reply["choices"]):
        return "done with a choice that has not finished"
    most = asked * job.params.get("max_tokens", DEFAULT_MAX_TOKENS)
    if reply["attempt"] > 1 and asked > 1:
        # Half a character, which the tiny model likes to say, is one token when said and three when read back; and how
        # the tokens of a snapshot were shared among its choices nobody knows.
        most += 2 * sum(choice["text"].count("\N{REPLACEMENT CHARACTER}") for choice in reply["choices"])
    said = reply["usage"]["completion_tokens"]
    return f"done with {said} tokens, of at most {most}" if said > most else None


def _events(log: Path) -> Iterator[dict[str, Any]]:
    """Yield what a worker logged, but for a line that kill -9 has cut and what is no JSON."""
    for line in log.read_text("utf-8", "replace").splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and "event" in event:
            yield event
