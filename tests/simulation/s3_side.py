"""S3 as the workers of a simulation see it: conditional writes in memory, behind a network.

It stands where `ReplyStore` expects aiobotocore's client, so that the real store decides what its answers mean.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from botocore.exceptions import ClientError

from tests.fakes import BUCKET
from tests.simulation.ledger import Ledger
from tests.simulation.loop import Process
from tests.simulation.network import Network
from worker.store import ReplyStore


@dataclass(frozen=True)
class StoredObject:
    """One version of an object."""

    body: bytes
    etag: str
    metadata: dict[str, str]


class Bucket:
    """The objects, and the rule by which a conditional write is refused."""

    def __init__(self, network: Network, ledger: Ledger) -> None:
        self.network = network
        self._ledger = ledger
        self._objects: dict[str, StoredObject] = {}

    def get(self, operation: str, key: str) -> StoredObject:
        """Return an object."""
        if key not in self._objects:
            raise _refusal(operation, HTTPStatus.NOT_FOUND, "NoSuchKey")
        return self._objects[key]

    def put(self, process: Process, key: str, new: StoredObject, *, first: bool, after: str | None) -> str:
        """Write an object under the condition that it is the first, or that it follows a certain version."""
        current = self._objects.get(key)
        if first and current is not None:
            raise _refusal("PutObject", HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        if after is not None:
            if current is None:
                raise _refusal("PutObject", HTTPStatus.NOT_FOUND, "NoSuchKey")
            if current.etag != after:
                raise _refusal("PutObject", HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        self._objects[key] = new
        self._ledger.written(process, key.removeprefix("replies/").removesuffix(".json"), new.body)
        return new.etag


class RemoteBucket:
    """A worker's S3 client."""

    def __init__(self, bucket: Bucket, process: Process) -> None:
        self._bucket = bucket
        self._process = process

    async def get_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto's names
        """See boto3."""
        found = await self._call("GetObject", lambda: self._bucket.get("GetObject", Key))
        return {"Body": _Body(found.body), "ETag": found.etag}

    async def head_object(self, *, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: N803 - boto's names
        """See boto3."""
        found = await self._call("HeadObject", lambda: self._bucket.get("HeadObject", Key))
        return {"Metadata": found.metadata, "ETag": found.etag}

    async def put_object(
        self,
        *,
        Bucket: str,  # noqa: N803 - boto's names
        Key: str,  # noqa: N803
        Body: bytes,  # noqa: N803
        Metadata: dict[str, str],  # noqa: N803
        ContentType: str,  # noqa: N803
        IfNoneMatch: str | None = None,  # noqa: N803
        IfMatch: str | None = None,  # noqa: N803
    ) -> dict[str, Any]:
        """See boto3."""
        new = StoredObject(Body, hashlib.md5(Body, usedforsecurity=False).hexdigest(), Metadata)
        first = IfNoneMatch is not None
        etag = await self._call(
            "PutObject", lambda: self._bucket.put(self._process, Key, new, first=first, after=IfMatch)
        )
        return {"ETag": etag}

    async def _call(self, name: str, effect: Any) -> Any:
        return await self._bucket.network.call(self._process, "s3", name, effect)


class _Body:
    def __init__(self, content: bytes) -> None:
        self._content = content

    async def read(self) -> bytes:
        return self._content


def simulated_store(bucket: Bucket, process: Process) -> ReplyStore:
    """Return the real store of a worker over the simulated bucket."""
    return ReplyStore(RemoteBucket(bucket, process), BUCKET)


def _refusal(operation: str, status: HTTPStatus, code: str) -> ClientError:
    return ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": int(status)}}, operation)
