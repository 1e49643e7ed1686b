"""Signed addresses, held byte for byte against those that botocore makes of the same at the same moment."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any

import boto3
import botocore.auth
import pytest
from botocore.config import Config
from hypothesis import given
from hypothesis import strategies as st

from router_lambda.job import reply_key
from router_lambda.replies import URL_SECONDS, Replies
from router_lambda.settings import RouterConfigError
from router_lambda.signing import Signer

NOW = 1_790_000_000.75
JOB_ID = "5f0c2b9e-7f4d-4c1a-9b1e-2f6a3c8d9e0f"
TOKEN = "IQoJb3JpZ2luX2VjE+/=a+b/c=="
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "ASIAEXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "eu-central-1",
}

_SDK = boto3.Session()
"""One for all tests: it reads the description of S3 once."""


@pytest.fixture(scope="module", autouse=True)
def _frozen() -> Iterator[None]:
    """Stop botocore's clock."""
    moment = dt.datetime.fromtimestamp(NOW, dt.UTC)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.auth, "get_current_datetime", lambda: moment)
        yield


def ours(
    changes: Mapping[str, str] = ENVIRONMENT, *, job_id: str = JOB_ID, bucket: str = "tl-fif", now: float = NOW
) -> str:
    """Sign in an environment that differs from the usual one by `changes`."""
    return Replies(bucket, {**ENVIRONMENT, **changes}, lambda: now).sign_get(job_id)


def botocores(
    changes: Mapping[str, str],
    *,
    job_id: str = JOB_ID,
    bucket: str = "tl-fif",
    in_path: bool = False,
    key: str | None = None,
    seconds: int = URL_SECONDS,
) -> str:
    """Sign the same by the SDK, which has to be told where the bucket's name goes."""
    environment = {**ENVIRONMENT, **changes}
    # Regional also in us-east-1, where its old default is one host name for the world.
    style = {"addressing_style": "path" if in_path else "virtual", "us_east_1_regional_endpoint": "regional"}
    client: Any = _SDK.client(
        "s3",
        aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"],
        aws_session_token=environment.get("AWS_SESSION_TOKEN"),
        region_name=environment["AWS_REGION"],
        endpoint_url=environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL"),
        config=Config(signature_version="s3v4", s3=style),
    )
    what = {"Bucket": bucket, "Key": key or reply_key(job_id)}
    url: str = client.generate_presigned_url("get_object", Params=what, ExpiresIn=seconds)
    return url


# As the SDK does it


@pytest.mark.parametrize("token", ["", TOKEN], ids=["no-token", "token"])
@pytest.mark.parametrize(
    "region", ["eu-central-1", "us-east-1", "ap-southeast-3", "us-gov-west-1", "cn-north-1", "cn-northwest-1"]
)
def test_the_address_is_that_of_the_sdk_in_every_region(region: str, token: str) -> None:
    """By the bucket's own host name, in China under the Chinese domain."""
    changes = {"AWS_REGION": region} | ({"AWS_SESSION_TOKEN": token} if token else {})

    assert ours(changes) == botocores(changes)
    assert ours(changes).startswith(f"https://tl-fif.s3.{region}.amazonaws.com")


@pytest.mark.parametrize("region", ["eu-central-1", "cn-north-1"])
@pytest.mark.parametrize("bucket", ["abc", "a1-b2", "a" * 63])
def test_a_bucket_that_is_a_host_label_is_in_the_host_name(bucket: str, region: str) -> None:
    """From the shortest to the longest name."""
    url = ours({"AWS_REGION": region}, bucket=bucket)

    assert url == botocores({"AWS_REGION": region}, bucket=bucket)
    assert url.startswith(f"https://{bucket}.s3.{region}.")


@pytest.mark.parametrize("region", ["eu-central-1", "cn-north-1"])
@pytest.mark.parametrize("bucket", ["replies.example.org", "Old_Bucket", "ab", "a" * 64])
def test_any_other_bucket_is_in_the_path(bucket: str, region: str) -> None:
    """The certificate covers one label before `s3`, and no host has capitals or underscores."""
    url = ours({"AWS_REGION": region}, bucket=bucket)

    assert url == botocores({"AWS_REGION": region}, bucket=bucket, in_path=True)
    assert url.startswith(f"https://s3.{region}.amazonaws.com")
    assert f"/{bucket}/replies/" in url


@pytest.mark.parametrize(
    "endpoint",
    [
        "http://127.0.0.1:8333",
        "http://127.0.0.1:8333/",
        "http://minio:9000/s3/base",
        "https://minio.example.org/s3/",
        "http://minio:80",
        "https://minio:443",
        "http://minio:443",
        "https://Minio.Example.org:9000",
        "http://[::1]:9000",
    ],
)
@pytest.mark.parametrize("bucket", ["tl-fif", "replies.example.org"])
def test_under_an_endpoint_the_bucket_is_in_the_path(endpoint: str, bucket: str) -> None:
    """So that a server is found that has one host name for all buckets; a usual port is no part of `Host`."""
    url = ours({"AWS_ENDPOINT_URL_S3": endpoint}, bucket=bucket)

    assert url == botocores({"AWS_ENDPOINT_URL_S3": endpoint}, bucket=bucket, in_path=True)
    assert url.startswith(f"{endpoint.rstrip('/')}/{bucket}/replies/{JOB_ID}.json?")


texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(job_id=texts, token=texts, key=texts.map(lambda text: f"A{text}"), secret=texts)
def test_whatever_needs_an_escape_is_escaped_as_the_sdk_does_it(job_id: str, token: str, key: str, secret: str) -> None:
    """In the path a slash stays, in the query nothing does but letters, digits and `-._~`."""
    changes = {"AWS_SESSION_TOKEN": token, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    assert ours(changes, job_id=job_id) == botocores(changes, job_id=job_id)


def test_any_object_is_signed_for_likewise() -> None:
    """Not the replies alone, and for other times."""
    signed = Signer("tl-fif", ENVIRONMENT, lambda: NOW).sign_get("guard/spend.json", 60)

    assert signed == botocores({}, key="guard/spend.json", seconds=60)
    assert "X-Amz-Expires=60" in signed


# What the environment says


def test_the_endpoint_for_s3_comes_first() -> None:
    """As in every SDK: the service's own before the one for all."""
    both = {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_S3": "http://s3:2"}

    assert ours(both).startswith("http://s3:2/")
    assert ours({"AWS_ENDPOINT_URL": "http://all:1"}).startswith("http://all:1/")
    assert ours(both | {"AWS_ENDPOINT_URL_S3": ""}).startswith("http://all:1/")


def test_the_region_may_come_by_its_older_name() -> None:
    """`AWS_REGION`, else `AWS_DEFAULT_REGION`."""
    older = {"AWS_DEFAULT_REGION": "us-west-2"}

    assert ours(older) == ours()
    assert ours(older | {"AWS_REGION": ""}) == ours({"AWS_REGION": "us-west-2"})


def test_credentials_that_change_are_signed_with() -> None:
    """Also when a session token goes."""
    environment = ENVIRONMENT | {"AWS_SESSION_TOKEN": TOKEN}
    replies = Replies("tl-fif", environment, lambda: NOW)
    new = {"AWS_ACCESS_KEY_ID": "AKIDNEW", "AWS_SECRET_ACCESS_KEY": "new"}

    before = replies.sign_get(JOB_ID)
    environment |= new
    environment["AWS_SESSION_TOKEN"] = ""

    assert before == ours({"AWS_SESSION_TOKEN": TOKEN})
    assert replies.sign_get(JOB_ID) == ours(new)


def test_each_address_is_of_its_moment() -> None:
    """One clock for both dates in it, also around midnight UTC."""
    midnight = 1_790_035_200  # 2026-09-22T00:00:00Z

    before, after = ours(now=midnight - 0.001), ours(now=midnight)

    assert "%2F20260921%2F" in before
    assert "X-Amz-Date=20260921T235959Z" in before
    assert "%2F20260922%2F" in after
    assert "X-Amz-Date=20260922T000000Z" in after


# What goes wrong


def test_everything_that_is_missing_is_named_at_once() -> None:
    """One look at the log is enough."""
    with pytest.raises(RouterConfigError) as raised:
        Replies("tl-fif", {"AWS_ACCESS_KEY_ID": "", "AWS_ENDPOINT_URL": "minio:9000"})

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION", "AWS_ENDPOINT_URL"):
        assert name in str(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    [
        "minio",
        "minio:9000",
        "ftp://minio",
        "http://",
        "http://:9000",
        "http://[::1",
        "http://minio:port",
        "http://minio:99999",
        "http://me:hunter2@minio",
        "http://minio?hunter2",
        "http://minio#hunter2",
    ],
)
@pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
def test_an_endpoint_that_is_none_is_named_and_not_repeated(name: str, endpoint: str) -> None:
    """It might hold a password, which must reach neither log nor client."""
    with pytest.raises(RouterConfigError, match=rf"write {name} like http://") as raised:
        ours({name: endpoint})

    assert endpoint not in str(raised.value).replace("http://minio:9000", "")


def test_credentials_that_are_gone_are_named_and_not_repeated() -> None:
    """An empty key would make an address that S3 refuses an hour later."""
    environment = dict(ENVIRONMENT)
    replies = Replies("tl-fif", environment, lambda: NOW)
    del environment["AWS_ACCESS_KEY_ID"]

    with pytest.raises(RouterConfigError, match="set AWS_ACCESS_KEY_ID") as raised:
        replies.sign_get(JOB_ID)

    assert ENVIRONMENT["AWS_SECRET_ACCESS_KEY"] not in str(raised.value)
