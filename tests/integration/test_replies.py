"""Signed addresses before a real S3 server that checks signatures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import boto3
import httpx
import pytest

from local.s3_server import S3Server
from router_lambda.job import reply_key
from router_lambda.replies import Replies

JOB_ID = "5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f"
REPLY = b'{"status": "streaming"}'


@pytest.fixture(scope="module", autouse=True)
def _reply(s3_server: S3Server) -> Iterator[None]:
    """Keep a reply in the bucket."""
    client: Any = boto3.Session().client(
        "s3",
        endpoint_url=s3_server.endpoint,
        region_name=s3_server.region,
        aws_access_key_id=s3_server.access_key,
        aws_secret_access_key=s3_server.secret_key,
    )
    client.put_object(Bucket=s3_server.bucket, Key=reply_key(JOB_ID), Body=REPLY)
    yield
    client.delete_object(Bucket=s3_server.bucket, Key=reply_key(JOB_ID))


def get(s3_server: S3Server, changes: Mapping[str, str]) -> httpx.Response:
    """Sign with the server's own settings but for `changes`, and fetch what is there."""
    return httpx.get(Replies(s3_server.bucket, {**s3_server.environment(), **changes}).sign_get(JOB_ID))


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST"])
def test_the_address_opens_by_number_and_by_name(s3_server: S3Server, host: str) -> None:
    """Also where the server has one name for all buckets, as in a network of containers."""
    answer = get(s3_server, {"AWS_ENDPOINT_URL_S3": f"http://{host}:{urlsplit(s3_server.endpoint).port}"})

    assert (answer.status_code, answer.content) == (200, REPLY)


@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_other_credentials_open_nothing(s3_server: S3Server, name: str) -> None:
    """The server does check."""
    assert get(s3_server, {name: "another"}).status_code == 403
