"""A PUT of a small object, signed and sent with as little as that takes.

The SDK's `put_object` costs 1.1 to 1.5 ms of CPU time on the event loop, this 0.4
(docs/adr/ADR-2026-11-25-plain-puts-without-the-sdk.md). Where to send it, the credentials and the signature are still
the SDK's, and so is everything that is not plain: whatever this does not bring to an end is to be tried by the SDK,
with its retries, redirects and corrections of the clock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.exceptions import BotoCoreError
from yarl import URL

CONNECT_SECONDS: Final = 3.0
ANSWER_SECONDS: Final = 10.0
"""Longest silence of S3, as the SDK is configured."""


class PreconditionFailed(Exception):
    """The object is not in the state that the condition asks for."""


class Put:
    """PUTs into one bucket, over connections of its own."""

    def __init__(self, http: aiohttp.ClientSession, bucket_url: str, region: str, credentials: Any) -> None:
        self._http = http
        self._bucket_url = bucket_url
        self._proxy = _proxy(bucket_url)
        self._region = region
        self._credentials = credentials

    @classmethod
    @asynccontextmanager
    async def open(cls, client: Any, bucket: str, *, connections: int) -> AsyncIterator[Self]:
        """Make one that does as an aiobotocore client of S3 would."""
        bucket_url = await _bucket_url(client, bucket)
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_SECONDS, sock_read=ANSWER_SECONDS)
        connector = aiohttp.TCPConnector(limit=connections)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as http:
            yield cls(http, bucket_url, client.meta.region_name, client._get_credentials())

    async def send(self, key: str, body: bytes, headers: Mapping[str, str]) -> str | None:
        """Write an object; return its ETag, or `None` if that did not come to an end, whatever the reason.

        Raises:
            PreconditionFailed: a condition among the `headers` does not hold.
        """
        if self._credentials is None:  # the SDK found none; it says so in its own words
            return None
        request = AWSRequest("PUT", self._bucket_url + quote(key), data=body, headers=dict(headers))
        try:
            credentials = await self._credentials.get_frozen_credentials()
            S3SigV4Auth(credentials, "s3", self._region).add_auth(request)
            url = URL(request.url, encoded=True)
            async with self._http.put(
                url, data=body, headers=dict(request.headers.items()), proxy=self._proxy, allow_redirects=False
            ) as answer:
                if answer.status == HTTPStatus.PRECONDITION_FAILED:
                    raise PreconditionFailed
                return answer.headers.get("ETag") if answer.status == HTTPStatus.OK else None
        except (aiohttp.ClientError, BotoCoreError, OSError, TimeoutError):
            return None


def _proxy(url: str) -> str | None:
    """Return the proxy that the environment names for an address; aiohttp itself would look anew for each request."""
    address = urlsplit(url)
    return None if proxy_bypass(address.netloc) else getproxies().get(address.scheme)


async def _bucket_url(client: Any, bucket: str) -> str:
    """Return the address of a bucket as the client resolves it: in the host name or in the path, dual stack or not.

    Not by a presigned address, for which the SDK takes the old global end point.
    """
    put = client.meta.service_model.operation_model("PutObject")
    context: dict[str, Any] = {"client_region": client.meta.region_name, "client_config": client.meta.config}
    url, *_ = await client._resolve_endpoint_ruleset(put, {"Bucket": bucket, "Key": "any"}, context)
    return f"{url.rstrip('/')}/"
