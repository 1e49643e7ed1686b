"""The bundled Redis and S3 servers: real ones, which refuse what the real services refuse."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import boto3
import pytest
import redis
from botocore.exceptions import ClientError

from local.ports import free_ports
from local.redis_server import RedisServer
from local.s3_server import S3Server
from local.server import StartFailed


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """Yield a Redis that the test may stop and kill."""
    server = RedisServer(tmp_path)
    server.start()
    yield server
    server.stop()


def s3_client(server: S3Server, **changed: str) -> Any:
    """Return a client with the server's credentials, but for what is changed."""
    arguments: dict[str, Any] = {
        "endpoint_url": server.endpoint,
        "region_name": server.region,
        "aws_access_key_id": server.access_key,
        "aws_secret_access_key": server.secret_key,
    }
    return boto3.client("s3", **arguments | changed)


def refusal(call: Any, **arguments: Any) -> int:
    """Return the HTTP status with which S3 refuses a call."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    status: int = refused.value.response["ResponseMetadata"]["HTTPStatusCode"]
    return status


def test_redis_is_a_real_6_2(redis_url: str) -> None:
    """It speaks for itself, keeps what it is given, and starts empty in every test."""
    with redis.Redis.from_url(redis_url) as client:
        assert str(client.info("server")["redis_version"]).startswith("6.2.")
        assert client.dbsize() == 0
        assert client.set("key", "value")


def test_redis_comes_back_at_the_same_address(own_redis: RedisServer) -> None:
    """After a crash and after a restart the same URL answers, with nothing in it."""
    with redis.Redis.from_url(own_redis.url) as client:
        for end in (own_redis.kill, own_redis.stop):
            client.set("key", "value")
            end()
            with pytest.raises(redis.ConnectionError):
                client.ping()
            own_redis.restart()
            assert client.dbsize() == 0


def test_pid_of_a_stopped_server(own_redis: RedisServer) -> None:
    """Asking for the pid of what does not run says what to do."""
    own_redis.stop()
    with pytest.raises(RuntimeError, match=r"redis is not running; call start\(\) first"):
        _ = own_redis.pid


def test_taken_port_is_survived(own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that is taken between choice and start costs a second try, not the start."""
    taken = int(own_redis.url.rsplit(":", 1)[1].split("/")[0])
    choices = iter([[taken], free_ports(1)])
    monkeypatch.setattr("local.server.free_ports", lambda _count: next(choices))
    second = RedisServer(tmp_path)
    second.start()
    try:
        assert second.url != own_redis.url
    finally:
        second.stop()


def test_start_failure_shows_the_log(own_redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that cannot start says why, in its own words."""
    taken = int(own_redis.url.rsplit(":", 1)[1].split("/")[0])
    monkeypatch.setattr("local.server.free_ports", lambda _count: [taken])
    with pytest.raises(StartFailed, match="Address already in use"):
        RedisServer(tmp_path).start()


def test_ports_differ_and_lie_below_the_ephemeral_range() -> None:
    """No port comes twice, and none can be given to an outgoing connection."""
    lowest_ephemeral = int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    ports = free_ports(50)
    assert len(set(ports)) == 50
    assert max(ports) < lowest_ephemeral


def test_s3_conditional_writes(s3_server: S3Server) -> None:
    """`If-None-Match` lets the first writer in, `If-Match` only who knows the present version."""
    client, where = s3_client(s3_server), {"Bucket": s3_server.bucket, "Key": f"test/{uuid4()}"}
    first = client.put_object(**where, Body=b"1", IfNoneMatch="*")["ETag"]
    assert refusal(client.put_object, **where, Body=b"2", IfNoneMatch="*") == 412
    second = client.put_object(**where, Body=b"2", IfMatch=first)["ETag"]
    assert refusal(client.put_object, **where, Body=b"3", IfMatch=first) == 412
    answer = client.get_object(**where)
    assert (answer["Body"].read(), answer["ETag"]) == (b"2", second)


def test_s3_refuses_bad_signatures_and_strangers(s3_server: S3Server) -> None:
    """A wrong secret, an unknown key and a bucket that is not there are refused."""
    where = {"Bucket": s3_server.bucket, "Key": "test/refused"}
    assert refusal(s3_client(s3_server, aws_secret_access_key="wrong").put_object, **where, Body=b"") == 403
    assert refusal(s3_client(s3_server, aws_access_key_id="wrong").get_object, **where) == 403
    assert refusal(s3_client(s3_server).put_object, Bucket="other", Key="k", Body=b"") == 404


def test_s3_data_survive_a_crash(s3_server: S3Server) -> None:
    """A killed server has its objects again after a restart, at the same address."""
    where = {"Bucket": s3_server.bucket, "Key": f"test/{uuid4()}"}
    s3_client(s3_server).put_object(**where, Body=b"still here")
    s3_server.kill()
    s3_server.restart()
    assert s3_client(s3_server).get_object(**where)["Body"].read() == b"still here"


def test_s3_environment_is_all_that_an_sdk_needs(s3_server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """An SDK without any argument finds the server and is let in."""
    for name, value in s3_server.environment().items():
        monkeypatch.setenv(name, value)
    client = boto3.session.Session().client("s3")
    assert [bucket["Name"] for bucket in client.list_buckets()["Buckets"]] == [s3_server.bucket]
