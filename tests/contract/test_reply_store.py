"""Reply objects, held against a bucket in memory and a real S3 server alike."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from local.s3_server import S3Server
from tests.fakes import MemoryStore
from worker.errors import ReplyConflict, StoreUnavailable
from worker.reply import Document
from worker.store import PART_BYTES, ReplyStore


def document(text: str) -> Document:
    """Return a small document in two blocks."""
    body = json.dumps({"text": text}).encode()
    return Document([body[:5], body[5:]], len(body))


@pytest.fixture
def s3_environment(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> S3Server:
    """Point the AWS SDK at the S3 server."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    return s3_server


@pytest.fixture(params=["memory", "s3"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[ReplyStore]:
    """Yield each kind of store."""
    if request.param == "memory":
        yield MemoryStore()
    else:
        server: S3Server = request.getfixturevalue("s3_environment")
        async with ReplyStore.open(server.bucket, connections=4) as opened:
            yield opened


@pytest.fixture
def key() -> str:
    """Return a key that no other test uses."""
    return f"replies/{uuid4()}.json"


async def test_what_is_written_is_read(store: ReplyStore, key: str) -> None:
    """Bytes and ETag agree."""
    etag = await store.write(key, document("one"), after=None, writer="run-1")
    assert await store.read(key) == (b'{"text": "one"}', etag)


async def test_nothing_is_read_before_the_first_write(store: ReplyStore, key: str) -> None:
    """An absent object is no error."""
    assert await store.read(key) is None


async def test_each_write_follows_the_one_before(store: ReplyStore, key: str) -> None:
    """The ETag of one write is the condition of the next."""
    first = await store.write(key, document("one"), after=None, writer="run-1")
    second = await store.write(key, document("two"), after=first, writer="run-1")
    assert first != second
    assert await store.read(key) == (b'{"text": "two"}', second)


async def test_a_second_first_write_is_refused(store: ReplyStore, key: str) -> None:
    """Another run cannot start over an object that exists."""
    await store.write(key, document("one"), after=None, writer="run-1")
    with pytest.raises(ReplyConflict):
        await store.write(key, document("two"), after=None, writer="run-2")
    assert (await store.read(key) or (b"",))[0] == b'{"text": "one"}'


async def test_a_run_that_lost_the_object_is_refused(store: ReplyStore, key: str) -> None:
    """Once a successor has written, the ETag of the loser is worth nothing."""
    first = await store.write(key, document("one"), after=None, writer="run-1")
    await store.write(key, document("two"), after=first, writer="run-2")
    with pytest.raises(ReplyConflict):
        await store.write(key, document("late"), after=first, writer="run-1")
    assert (await store.read(key) or (b"",))[0] == b'{"text": "two"}'


async def test_a_write_whose_answer_was_lost_does_not_lock_the_run_out(store: ReplyStore, key: str) -> None:
    """The same run, with an ETag that its own lost write made stale, goes on."""
    first = await store.write(key, document("one"), after=None, writer="run-1")
    await store.write(key, document("two"), after=first, writer="run-1")
    await store.write(key, document("three"), after=first, writer="run-1")
    assert (await store.read(key) or (b"",))[0] == b'{"text": "three"}'


async def test_an_object_that_was_deleted_is_not_made_again(store: ReplyStore, key: str) -> None:
    """Whoever removed it meant it."""
    with pytest.raises(ReplyConflict):
        await store.write(key, document("two"), after='"d41d8cd98f00b204e9800998ecf8427e"', writer="run-1")


def large_document() -> Document:
    """Return a document of two and a half parts whose bytes tell where they belong."""
    blocks = [b"%08d" % number * 8_192 for number in range(200)]
    return Document(blocks, sum(map(len, blocks)))


async def test_large_documents_go_up_in_parts(s3_environment: S3Server, key: str) -> None:
    """They arrive whole, conditional on the version before, and leave no open upload."""
    large = large_document()
    assert large.size > 2 * PART_BYTES
    async with ReplyStore.open(s3_environment.bucket, connections=4) as store:
        first = await store.write(key, document("one"), after=None, writer="run-1")
        etag = await store.write(key, large, after=first, writer="run-1")
        assert await store.read(key) == (b"".join(large.blocks), etag)
        assert etag.strip('"').endswith("-3")
        with pytest.raises(ReplyConflict):
            await store.write(key, large, after=first, writer="run-2")
        assert await open_uploads(store) == []


async def test_a_failed_upload_is_aborted(s3_environment: S3Server, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A part that fails leaves neither object nor open upload."""
    async with ReplyStore.open(s3_environment.bucket, connections=4) as store:
        upload_part, parts = store._client.upload_part, 0

        async def fails_at_second(**arguments: Any) -> Any:
            nonlocal parts
            parts += 1
            if parts == 2:
                raise OSError("connection reset by the test")
            return await upload_part(**arguments)

        monkeypatch.setattr(store._client, "upload_part", fails_at_second)
        with pytest.raises(StoreUnavailable):
            await store.write(key, large_document(), after=None, writer="run-1")
        assert await store.read(key) is None
        assert await open_uploads(store) == []


async def open_uploads(store: ReplyStore) -> list[Any]:
    """Return the multipart uploads that are neither completed nor aborted."""
    listed = await store._client.list_multipart_uploads(Bucket=store.bucket)
    return list(listed.get("Uploads", []))


async def test_an_unreachable_store_is_reported_as_such(
    s3_environment: S3Server, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No foreign exception gets out."""
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:1")
    async with ReplyStore.open(s3_environment.bucket, connections=1) as store:
        with pytest.raises(StoreUnavailable):
            await store.read(key)
        with pytest.raises(StoreUnavailable):
            await store.write(key, document("one"), after=None, writer="run-1")


async def test_a_missing_bucket_is_no_missing_object(s3_environment: S3Server, key: str) -> None:
    """It must not look as if nothing had been written yet."""
    async with ReplyStore.open("no-such-bucket", connections=1) as store:
        with pytest.raises(StoreUnavailable, match="NoSuchBucket"):
            await store.read(key)
