"""How the router puts jobs into Redis: the same over fakeredis and over a real server."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import fakeredis
import pytest
import redis

from local.redis_server import RedisServer
from router_lambda.job import (
    ENQUEUE_LUA,
    QUEUE_OPEN,
    QUEUE_READY,
    Job,
    is_job_id,
    job_key,
)
from router_lambda.queue import Queue, QueueUnavailable, connect
from tests.router_samples import JOB, JOB_ID, numbered_job
from tests.worker_scripts import acknowledge, claim


def everything(client: redis.Redis) -> dict[bytes, Any]:
    """Return all that Redis holds, by key."""
    read: dict[Any, Callable[[bytes], Any]] = {
        b"string": client.get,
        b"list": lambda key: client.lrange(key, 0, -1),
        b"zset": lambda key: client.zrange(key, 0, -1, withscores=True),
    }
    return {key: read[client.type(key)](key) for key in client.scan_iter()}


# What is written


def test_a_queued_job_is_its_payload_an_open_id_and_a_ready_id(client: redis.Redis) -> None:
    """Three keys change, no others, and the score is the time to the last digit."""
    Queue(client).enqueue(JOB)

    assert everything(client) == {
        job_key(JOB_ID).encode(): JOB.to_json().encode(),
        QUEUE_OPEN.encode(): [(JOB_ID.encode(), JOB.enqueued_at)],
        QUEUE_READY.encode(): [JOB_ID.encode()],
    }


def test_the_payload_is_the_job(client: redis.Redis) -> None:
    """What the worker reads is what the router meant."""
    Queue(client).enqueue(JOB)

    payload = client.get(job_key(JOB_ID))

    assert isinstance(payload, bytes)
    assert Job.from_json(payload) == JOB


def test_a_job_lives_for_five_minutes(client: redis.Redis) -> None:
    """The payload goes away by itself; the queue, which others share, does not."""
    Queue(client).enqueue(JOB)

    assert 295 <= client.ttl(job_key(JOB_ID)) <= 305
    assert client.ttl(QUEUE_OPEN) == client.ttl(QUEUE_READY) == -1


def test_jobs_wait_in_the_order_in_which_they_came(client: redis.Redis) -> None:
    """The head of the list, where the worker pops, is the oldest."""
    jobs = [numbered_job(number) for number in (3, 1, 2)]
    for job in jobs:
        Queue(client).enqueue(job)

    assert client.lrange(QUEUE_READY, 0, -1) == [job.id.encode() for job in jobs]
    assert client.zrange(QUEUE_OPEN, 0, -1) == [numbered_job(number).id.encode() for number in (1, 2, 3)]


# What is refused


def enqueue(client: redis.Redis, key: str, job_id: str) -> Any:
    """Call the script itself, as `Queue` does, with any key."""
    script = client.register_script(ENQUEUE_LUA)
    return script(keys=[key, QUEUE_OPEN, QUEUE_READY], args=[job_id, "{}", 1.5, 300])


@pytest.mark.parametrize(
    "key",
    [
        *("", "job:", "job:*", QUEUE_READY, JOB_ID, f"job{JOB_ID}", f"Job:{JOB_ID}", f"xjob:{JOB_ID}"),
        *(f"job::{JOB_ID}", f"job: {JOB_ID}", f"job:\x00{JOB_ID}", f"\njob:{JOB_ID}", f"lease:{JOB_ID}"),
        *(f"job:{JOB_ID}0", f"job:{JOB_ID}\n", f"job:{JOB_ID}\x00", f"job:{JOB_ID}\njob:{JOB_ID}"),
        *(f"job:{JOB_ID.upper()}", f"job:{JOB_ID[:-1]}", f"job:{JOB_ID.replace('-', '')}"),
        *(f"job:{JOB_ID.replace('0', 'g')}", f"job:{JOB_ID.replace('-9b', '-cb')}", f"job:{{{JOB_ID}}}"),
        "job:c232ab00-9414-11ec-b3c8-9f6bdeced846",  # version 1
    ],
)
def test_a_key_of_another_form_is_refused_and_nothing_changes(client: redis.Redis, key: str) -> None:
    """The script answers with an error before it writes, even when the id matches the key."""
    Queue(client).enqueue(numbered_job(1))
    before = everything(client)

    with pytest.raises(redis.ResponseError, match="job keys are job: and a lower-case UUID v4"):
        enqueue(client, key, key.removeprefix("job:"))

    assert everything(client) == before


@pytest.mark.parametrize("job_id", ["", numbered_job(1).id, JOB_ID.upper(), JOB_ID + "\n", job_key(JOB_ID)])
def test_an_id_that_is_not_the_keys_is_refused_and_nothing_changes(client: redis.Redis, job_id: str) -> None:
    """Queue and payload cannot come to name different jobs."""
    with pytest.raises(redis.ResponseError, match="job keys"):
        enqueue(client, job_key(JOB_ID), job_id)

    assert everything(client) == {}


def test_the_script_and_the_definition_agree_on_what_an_id_is(client: redis.Redis) -> None:
    """With any one character of an id replaced, both accept it or both refuse it."""
    for place in range(len(JOB_ID)):
        for character in "089abfgA-\n":
            job_id = JOB_ID[:place] + character + JOB_ID[place + 1 :]
            try:
                accepted = enqueue(client, job_key(job_id), job_id) == b"OK"
            except redis.ResponseError:
                accepted = False
            assert accepted == is_job_id(job_id), job_id


# What comes twice


def test_a_job_that_is_queued_twice_is_open_once(client: redis.Redis) -> None:
    """A router that lost the answer queues again: one payload, renewed, one open id, two ready ids."""
    Queue(client).enqueue(JOB)
    client.expire(job_key(JOB_ID), 10)

    Queue(client).enqueue(JOB)

    assert client.get(job_key(JOB_ID)) == JOB.to_json().encode()
    assert client.ttl(job_key(JOB_ID)) >= 295
    assert client.zrange(QUEUE_OPEN, 0, -1, withscores=True) == [(JOB_ID.encode(), JOB.enqueued_at)]
    assert client.lrange(QUEUE_READY, 0, -1) == [JOB_ID.encode()] * 2


def test_a_job_that_is_queued_twice_runs_once(client: redis.Redis) -> None:
    """The worker finds the lease taken at the second id, or, after the first has ended, the job gone."""
    for _ in range(2):
        Queue(client).enqueue(JOB)

    states = [claim(client, JOB_ID)[0] for _ in range(2)]
    acknowledge(client, JOB_ID)
    states.append(claim(client, JOB_ID)[0])

    assert states == [b"run", b"taken", b"gone"]


# What goes wrong


@contextmanager
def listening(treat: Callable[[socket.socket], object]) -> Iterator[str]:
    """Yield the address of a server that treats each connection so, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):  # the server is closed
                while True:
                    with server.accept()[0] as connection, suppress(OSError):  # the client is gone
                        treat(connection)

        threading.Thread(target=serve, daemon=True).start()
        yield f"redis://127.0.0.1:{server.getsockname()[1]}/0"
        server.shutdown(socket.SHUT_RDWR)


def test_a_fake_that_is_down_is_unavailable() -> None:
    """The stand-in for a dead Redis behaves like one."""
    server = fakeredis.FakeServer()
    server.connected = False

    with pytest.raises(QueueUnavailable):
        Queue(fakeredis.FakeRedis(server=server)).enqueue(JOB)


@pytest.mark.parametrize("setting", [("maxmemory", "1"), ("min-replicas-to-write", "1")], ids=["full", "no-replicas"])
def test_a_redis_that_takes_no_writes_is_unchanged(redis_url: str, setting: tuple[str, str]) -> None:
    """Out of memory or short of replicas, it takes the whole job or nothing of it."""
    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as admin:
        admin.config_set(*setting)
        try:
            with pytest.raises(QueueUnavailable):
                Queue(connect(redis_url)).enqueue(JOB)
        finally:
            admin.config_set(setting[0], "0")
        assert everything(admin) == {}


def test_a_read_only_replica_is_unavailable(redis_url: str) -> None:
    """After a failover the old address may be one."""
    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as admin:
        admin.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(QueueUnavailable):
                Queue(connect(redis_url)).enqueue(JOB)
        finally:
            admin.replicaof("NO", "ONE")
        assert everything(admin) == {}


def test_a_connection_that_died_meanwhile_is_replaced(redis_server: RedisServer, redis_url: str) -> None:
    """A Lambda that thaws after a restart of Redis queues its job at the first try."""
    queue = Queue(connect(redis_url))
    queue.enqueue(numbered_job(1))
    redis_server.restart()

    queue.enqueue(JOB)

    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as admin:
        assert admin.lrange(QUEUE_READY, 0, -1) == [JOB_ID.encode()]


@pytest.mark.parametrize(("lost", "ready"), [("command", 1), ("answer", 2)])
def test_what_a_broken_connection_loses_is_sent_again(redis_url: str, lost: str, ready: int) -> None:
    """The second try queues the job; if only the answer was lost, its id waits twice, which is harmless."""
    Queue(connect(redis_url)).enqueue(numbered_job(1))  # the server knows the script now
    address = urlsplit(redis_url)
    broken: list[bytes] = []

    def relay(connection: socket.socket) -> None:
        with socket.create_connection((str(address.hostname), address.port or 0)) as server:
            other = {connection: server, server: connection}
            while True:
                for source in select.select(other, [], [])[0]:
                    data = source.recv(65_536)
                    if b"EVAL" in data and not broken:
                        broken.append(data)
                        if lost == "answer":
                            server.sendall(data)
                            server.recv(65_536)
                        return
                    if not data:
                        return
                    other[source].sendall(data)

    with listening(relay) as url:
        Queue(connect(url)).enqueue(JOB)

    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as admin:
        assert broken
        assert admin.lrange(QUEUE_READY, 1, -1) == [JOB_ID.encode()] * ready
        assert admin.zcard(QUEUE_OPEN) == 2


def says_nothing(connection: socket.socket) -> None:
    """Keep the connection until the client loses patience."""
    while connection.recv(1_000):
        pass


def is_loading(connection: socket.socket) -> None:
    """Refuse each command as a Redis does that reads its data from disk."""
    with connection.makefile("rb") as commands:
        while count := commands.readline():
            for _ in range(int(count[1:])):
                commands.read(int(commands.readline()[1:]) + 2)
            connection.sendall(b"-LOADING Redis is loading the dataset in memory\r\n")


def speaks_http(connection: socket.socket) -> None:
    """Answer as a web server does."""
    connection.recv(1_000)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.parametrize("treat", [is_loading, speaks_http, says_nothing, socket.socket.close])
def test_whatever_is_no_redis_is_unavailable_in_bounded_time(
    treat: Callable[[socket.socket], object],
) -> None:
    """Loading, somebody else, silent or closing: two tries, each within the limit, then the caller knows."""
    with listening(treat) as url:
        began = time.monotonic()
        with pytest.raises(QueueUnavailable):
            Queue(connect(url, 0.2)).enqueue(JOB)
        assert time.monotonic() - began < 2


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis://no-such-host.invalid/0"])
def test_an_address_without_a_server_is_unavailable(url: str) -> None:
    """Nobody listens there, or there is no such host."""
    with pytest.raises(QueueUnavailable):
        Queue(connect(url)).enqueue(JOB)
