"""Final replies without a worker, in a real S3 server that honours conditions."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import boto3
import pytest

from local.ports import free_ports
from local.s3_server import S3Server
from router_lambda.job import reply_key
from router_lambda.overdue import SLOWEST_SECONDS, Overdue
from router_lambda.queue import Moot
from tests.openapi import schema, validator
from tests.router_world import NOW, Clock, metrics, refusal
from worker.earlier import EarlierReply
from worker.engine import Delta, Step
from worker.reply import Reply


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, s3_server: S3Server) -> None:
    """Point the AWS SDK at the server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def job() -> Moot:
    """Return a job that was queued five minutes ago and that no other test knows."""
    return Moot(str(uuid4()), NOW - 305, "expired")


class ReplyObject:
    """The job's reply object, as others see and change it."""

    def __init__(self, client: Any, job: Moot) -> None:
        self.client = client
        self._where = {"Bucket": S3Server.bucket, "Key": reply_key(job.id)}

    def put(self, body: bytes) -> None:
        """Write it, whatever is there."""
        self.client.put_object(**self._where, Body=body)

    def read(self) -> bytes:
        """Return what it holds."""
        body: bytes = self.client.get_object(**self._where)["Body"].read()
        return body

    def delete(self) -> None:
        """Take it away."""
        self.client.delete_object(**self._where)

    @property
    def content_type(self) -> str:
        """What it is said to be."""
        return str(self.client.head_object(**self._where)["ContentType"])


@pytest.fixture
def there(job: Moot) -> Iterator[ReplyObject]:
    """Yield the reply object."""
    client = boto3.Session().client("s3")
    yield ReplyObject(client, job)
    client.close()


@pytest.fixture
def overdue() -> Overdue:
    """Return what is tested."""
    return Overdue(S3Server.bucket, clock=Clock())


def streaming(job: Moot) -> Reply:
    """Return the reply of a worker that has said something."""
    reply = Reply(job.id, "m", attempt=2, enqueued_at=job.enqueued_at, now=job.enqueued_at + 1)
    reply.add(Step(12, [Delta(0, "Zürich 😀 is", 4)]), job.enqueued_at + 2)
    return reply


def written(reply: Reply) -> bytes:
    """Return the document that a worker would put there."""
    return b"".join(reply.document(NOW - 300).blocks)


def test_a_job_that_nobody_took_gets_its_only_reply(
    overdue: Overdue, job: Moot, there: ReplyObject, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON of the described form, counted once; a second waker finds it done."""
    assert overdue.answer(job, "AWS has no GPU left")
    first = there.read()
    assert overdue.answer(job, None)

    document = json.loads(first)
    assert validator(schema("ReplyDocument")).is_valid(document)
    assert (document["status"], document["attempt"], document["choices"][0]["text"]) == ("expired", 0, "")
    assert "AWS has no GPU left" in document["error"]["message"]
    assert there.read() == first
    assert there.content_type == "application/json"
    assert metrics(capsys.readouterr().out) == ["JobsExpired"]


def test_a_cancelled_one_is_counted_as_such(
    overdue: Overdue, job: Moot, there: ReplyObject, capsys: pytest.CaptureFixture[str]
) -> None:
    """It did not run out of time."""
    assert overdue.answer(Moot(job.id, job.enqueued_at, "cancelled"), None)
    assert json.loads(there.read())["status"] == "cancelled"
    assert metrics(capsys.readouterr().out) == ["JobsCancelled"]


def test_text_of_a_worker_that_died_stays(overdue: Overdue, job: Moot, there: ReplyObject) -> None:
    """Character by character; a worker that comes later can read it all the same, and sees that it is final."""
    there.put(written(streaming(job)))

    assert overdue.answer(job, None)

    document = json.loads(there.read())
    assert validator(schema("ReplyDocument")).is_valid(document)
    assert document["choices"][0]["text"] == "Zürich 😀 is"
    assert (document["status"], document["attempt"], document["model"]) == ("expired", 2, "m")
    assert document["usage"] == {"prompt_tokens": 12, "completion_tokens": 4}
    earlier = EarlierReply.from_json(there.read())
    assert earlier is not None
    assert earlier.is_final


@pytest.mark.parametrize("status", ["done", "failed", "cancelled", "expired"])
def test_a_final_reply_is_left_alone(
    overdue: Overdue, job: Moot, there: ReplyObject, capsys: pytest.CaptureFixture[str], status: str
) -> None:
    """Its worker died before it could acknowledge: the job has its reply, and nothing is counted."""
    reply = streaming(job)
    reply.finish(status, NOW - 290)
    there.put(written(reply))

    assert overdue.answer(job, "AWS has no GPU left")

    assert there.read() == written(reply)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("garbage", [b"", b"\xff", b"{", b"[]", b"[" * 100_000, b"{}", b'{"status": ["done"]}', b"NaN"])
def test_garbage_is_replaced(overdue: Overdue, job: Moot, there: ReplyObject, garbage: bytes) -> None:
    """Its client waits for a document that can be read."""
    there.put(garbage)
    assert overdue.answer(job, None)
    assert validator(schema("ReplyDocument")).is_valid(json.loads(there.read()))


class Meanwhile:
    """A client of S3 before whose write somebody else writes."""

    def __init__(self, client: Any, write: Callable[[], None]) -> None:
        self._client = client
        self._write = write

    def get_object(self, **where: Any) -> Any:
        """Read, and let the other one write."""
        try:
            return self._client.get_object(**where)
        finally:
            self._write()

    def put_object(self, **what: Any) -> Any:
        """Write."""
        return self._client.put_object(**what)


@pytest.mark.parametrize("is_there", [False, True], ids=["first", "next"])
def test_who_writes_in_between_has_the_job(
    job: Moot, there: ReplyObject, capsys: pytest.CaptureFixture[str], *, is_there: bool
) -> None:
    """A worker has come after all: its text is not written over, and the job stays open; that is no failure."""
    if is_there:
        there.put(written(streaming(job)))
    longer = streaming(job)
    longer.add(Step(12, [Delta(0, " in Switzerland", 3)]), NOW)
    overdue = Overdue(S3Server.bucket, lambda: Meanwhile(there.client, lambda: there.put(written(longer))), Clock())

    assert not overdue.answer(job, None)

    assert there.read() == written(longer)
    assert capsys.readouterr().out == ""


def test_one_that_is_deleted_in_between_is_looked_at_again(job: Moot, there: ReplyObject) -> None:
    """Nothing is written on the strength of what is no longer there; the next look begins anew."""
    there.put(written(streaming(job)))

    assert not Overdue(S3Server.bucket, lambda: Meanwhile(there.client, there.delete), Clock()).answer(job, None)
    assert Overdue(S3Server.bucket, clock=Clock()).answer(job, None)


def test_a_bucket_that_is_missing_is_counted(job: Moot, capsys: pytest.CaptureFixture[str]) -> None:
    """And is no absent object."""
    assert not Overdue("no-such-bucket", clock=Clock()).answer(job, None)
    assert metrics(capsys.readouterr().out) == ["OverdueFailures"]


def test_an_s3_that_is_away_is_counted(
    job: Moot, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The job stays open, in bounded time."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{free_ports(1)[0]}")
    began = time.monotonic()

    assert not Overdue("tl-fif", clock=Clock()).answer(job, None)

    assert time.monotonic() - began < SLOWEST_SECONDS
    assert metrics(capsys.readouterr().out) == ["OverdueFailures"]


class Denying:
    """A client of one who may write but not list."""

    def __init__(self, client: Any) -> None:
        self.put_object = client.put_object

    def get_object(self, **_: Any) -> Any:
        """Be refused."""
        raise refusal("AccessDenied")


def test_one_that_may_not_be_seen_looks_absent(job: Moot, there: ReplyObject) -> None:
    """So S3 has it without ListBucket; the condition of the write decides then, and nothing is written over."""
    overdue = Overdue(S3Server.bucket, lambda: Denying(there.client), Clock())
    assert overdue.answer(job, None)
    assert not overdue.answer(job, None)
