"""Reply objects in S3: conditional writes, one PUT or a multipart upload, each of them all or nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self

import anyio
from aiobotocore.config import AioConfig
from aiobotocore.session import get_session
from botocore.exceptions import BotoCoreError, ClientError

from worker.errors import ReplyConflict, StoreUnavailable
from worker.put import ANSWER_SECONDS, CONNECT_SECONDS, PreconditionFailed, Put
from worker.reply import Document

PART_BYTES: Final = 5 * 1024 * 1024
"""Smallest part that S3 takes; a document that is not larger goes up in one PUT."""

ABORT_SECONDS: Final = 10.0
"""Time that aborting a failed upload may take, even while the worker shuts down."""


class ReplyStore:
    """The bucket of the replies, through one client for the life of the daemon.

    A client costs 30 ms of CPU to make and keeps its connections, so it is made once.
    """

    def __init__(self, client: Any, bucket: str, put: Put | None = None) -> None:
        """Use the client of the SDK, and `put` for what it can do with less."""
        self._client = client
        self._put = put
        self.bucket = bucket

    @classmethod
    @asynccontextmanager
    async def open(cls, bucket: str, *, connections: int) -> AsyncIterator[Self]:
        """Open the store with as many connections as replies may be written at once."""
        config = AioConfig(
            max_pool_connections=connections,
            connect_timeout=CONNECT_SECONDS,
            read_timeout=ANSWER_SECONDS,
            retries={"mode": "standard", "total_max_attempts": 3},
            # Checksums beyond the signature cost CPU on the event loop; TLS and the signed payload already guard it.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        async with (
            get_session().create_client("s3", config=config) as client,
            Put.open(client, bucket, connections=connections) as put,
        ):
            yield cls(client, bucket, put)

    async def read(self, key: str) -> tuple[bytes, str] | None:
        """Return an object's bytes and ETag, or `None` if there is none.

        Raises:
            StoreUnavailable: S3 does not answer.
        """
        try:
            async with _translated():
                got = await self._client.get_object(Bucket=self.bucket, Key=key)
                return await got["Body"].read(), got["ETag"]
        except _NotFound:
            return None

    async def write(self, key: str, document: Document, *, after: str | None, writer: str) -> str:
        """Write a document over the version `after`, an ETag, or as the first version if that is `None`.

        `writer` names the run of the job and is kept beside the object. A write whose answer was lost may have
        arrived all the same: when S3 then reports a conflict with this very run, its version is written over.

        Returns the new ETag.

        Raises:
            ReplyConflict: the object is another run's.
            StoreUnavailable: S3 does not answer; nothing is left half-written.
        """
        try:
            return await self._write_once(key, document, after, writer)
        except _Conflict:
            own = await self._own_etag(key, writer)
        try:
            return await self._write_once(key, document, own, writer)
        except _Conflict:
            raise ReplyConflict("the reply object keeps changing") from None

    async def _write_once(self, key: str, document: Document, after: str | None, writer: str) -> str:
        if document.size <= PART_BYTES and self._put is not None:
            condition = {"If-None-Match": "*"} if after is None else {"If-Match": after}
            headers = {"Content-Type": "application/json", "x-amz-meta-writer": writer, **condition}
            try:
                if etag := await self._put.send(key, b"".join(document.blocks), headers):
                    return etag
            except PreconditionFailed:
                raise _Conflict from None
        return await self._write_by_sdk(key, document, after, writer)

    async def _write_by_sdk(self, key: str, document: Document, after: str | None, writer: str) -> str:
        condition = {"IfNoneMatch": "*"} if after is None else {"IfMatch": after}
        where = {"Bucket": self.bucket, "Key": key}
        described = {**where, "ContentType": "application/json", "Metadata": {"writer": writer}}
        try:
            async with _translated():
                if document.size > PART_BYTES:
                    return await self._upload(where, described, condition, document)
                put = await self._client.put_object(**described, **condition, Body=b"".join(document.blocks))
                return str(put["ETag"])
        except _NotFound:
            raise _Conflict from None

    async def _upload(
        self, where: dict[str, str], described: dict[str, Any], condition: dict[str, str], document: Document
    ) -> str:
        """Upload part by part, holding one part in memory, and abort unless it was completed."""
        created = await self._client.create_multipart_upload(**described)
        upload = {**where, "UploadId": created["UploadId"]}
        try:
            done = []
            for number, part in enumerate(document.parts(PART_BYTES), start=1):
                sent = await self._client.upload_part(**upload, PartNumber=number, Body=part)
                done.append({"ETag": sent["ETag"], "PartNumber": number})
            completed = await self._client.complete_multipart_upload(
                **upload, **condition, MultipartUpload={"Parts": done}
            )
        except BaseException:
            with anyio.move_on_after(ABORT_SECONDS, shield=True):
                await self._abort(upload)
            raise
        return str(completed["ETag"])

    async def _abort(self, upload: dict[str, str]) -> None:
        try:
            await self._client.abort_multipart_upload(**upload)
        except (BotoCoreError, ClientError):  # the bucket's lifecycle rule removes what cannot be aborted
            return

    async def _own_etag(self, key: str, writer: str) -> str:
        try:
            async with _translated():
                head = await self._client.head_object(Bucket=self.bucket, Key=key)
        except _NotFound:
            raise ReplyConflict("the reply object is gone") from None
        if head["Metadata"].get("writer") != writer:
            raise ReplyConflict("the reply object was written by another run")
        return str(head["ETag"])


class _Conflict(Exception):
    pass


class _NotFound(Exception):
    pass


@asynccontextmanager
async def _translated() -> AsyncIterator[None]:
    try:
        yield
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        code = error.response["Error"]["Code"]
        if status == HTTPStatus.PRECONDITION_FAILED:
            raise _Conflict from error
        if status == HTTPStatus.NOT_FOUND and code != "NoSuchBucket":
            raise _NotFound from error
        raise StoreUnavailable(f"S3 answered {status} {code}") from error
    except (BotoCoreError, OSError, TimeoutError) as error:
        raise StoreUnavailable(f"{type(error).__name__}: {error}") from error
