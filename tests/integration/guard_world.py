"""What lies under guard/ in a real bucket."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import boto3

from local.s3_server import S3Server
from router_lambda.budget import BLOCK_KEY, SPEND_KEY, month_of


class Bucket:
    """The bucket as its owner sees it."""

    def __init__(self, server: S3Server) -> None:
        self._name = server.bucket
        self._s3: Any = boto3.Session().client(
            "s3",
            endpoint_url=server.endpoint,
            region_name=server.region,
            aws_access_key_id=server.access_key,
            aws_secret_access_key=server.secret_key,
        )

    def put(self, key: str, content: bytes) -> None:
        """Write an object."""
        self._s3.put_object(Bucket=self._name, Key=key, Body=content)

    def spend(self, eur: float) -> None:
        """Write what the cost publisher writes."""
        now = time.time()
        self.put(SPEND_KEY, json.dumps({"month": month_of(now), "spend_eur": eur, "at": now}).encode())

    def get(self, key: str) -> Any:
        """Return a document."""
        return json.loads(self._s3.get_object(Bucket=self._name, Key=key)["Body"].read())

    def clear(self) -> None:
        """Let nothing lie under guard/."""
        for key in (SPEND_KEY, BLOCK_KEY):
            self._s3.delete_object(Bucket=self._name, Key=key)

    def close(self) -> None:
        """Give up its connections."""
        self._s3.close()


@contextmanager
def emptied(server: S3Server) -> Iterator[Bucket]:
    """Yield the bucket, with nothing under guard/ before and after."""
    made = Bucket(server)
    made.clear()
    try:
        yield made
    finally:
        made.clear()
        made.close()
