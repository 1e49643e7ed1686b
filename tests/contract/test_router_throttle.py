"""How the router holds users to their rate: the same over fakeredis and over a real server.

Nobody waits here. As the script goes by the server's clock, time passes for a user by moving his stored arrival back.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

import fakeredis
import pytest
import redis

from local.redis_server import RedisServer
from router_lambda.throttle import BURST, Throttle, rate_key, retry_after

KEY = rate_key("user-1")
OTHER_KEY = rate_key("user-2")


@pytest.fixture
def throttle(client: redis.Redis) -> Throttle:
    """Return a throttle in which nobody has called yet."""
    return Throttle(client)


def server_time(client: redis.Redis) -> float:
    """Return the server's clock, in Unix seconds."""
    seconds, microseconds = client.time()
    return seconds + microseconds / 1e6


def stored(client: redis.Redis, key: str = KEY) -> int:
    """Return the arrival that is stored for a user, in microseconds."""
    value = client.get(key)
    assert isinstance(value, bytes)
    return int(value)


def let_pass(client: redis.Redis, seconds: float) -> None:
    """Do to `KEY` what this much time would do; negative, what a clock does that is set back."""
    client.set(KEY, stored(client) - round(seconds * 1e6), keepttl=True)


def admitted(throttle: Throttle, calls: int, key: str = KEY) -> int:
    """Make so many calls and return how many were admitted."""
    return [throttle.take(key) for _ in range(calls)].count(0.0)


# The rate


def test_the_sixth_of_six_rapid_calls_waits(throttle: Throttle) -> None:
    """Five at once, and the next one an interval after the first."""
    assert [throttle.take(KEY) for _ in range(5)] == [0.0] * 5
    assert 2 < throttle.take(KEY) <= 3


def test_after_a_burst_twenty_calls_a_minute_are_admitted(client: redis.Redis, throttle: Throttle) -> None:
    """Whoever asks every 100 ms for a minute gets one call each 3 seconds, neither more nor fewer."""
    assert admitted(throttle, 6) == 5
    began, skipped, times = server_time(client), 0.0, []
    for step in range(1, 601):
        ahead = step / 10 - skipped - (server_time(client) - began)  # real time passes as well
        let_pass(client, ahead)
        skipped += ahead
        if throttle.take(KEY) == 0.0:
            times.append(step / 10)

    assert len(times) == 20
    assert [round(time / 3) for time in times] == list(range(1, 21))


def test_asking_at_the_rate_itself_is_never_refused(client: redis.Redis, throttle: Throttle) -> None:
    """A call each 3 seconds never meets the throttle, even right after a burst."""
    admitted(throttle, 5)
    for _ in range(20):
        let_pass(client, 3)
        assert throttle.take(KEY) == 0.0


@pytest.mark.parametrize("idle", [15, 60, 86_400])
def test_an_idle_user_gets_the_whole_burst_again_and_no_more(
    client: redis.Redis, throttle: Throttle, idle: int
) -> None:
    """Allowance is not saved up: a day of silence is worth five calls, as are 15 seconds."""
    admitted(throttle, 6)
    let_pass(client, idle)

    assert admitted(throttle, 10) == 5


@pytest.mark.parametrize("idle", [3, 6.5, 9, 12])
def test_a_pause_is_worth_a_call_each_three_seconds(client: redis.Redis, throttle: Throttle, idle: float) -> None:
    """Part of the burst comes back with part of the time."""
    admitted(throttle, 5)
    let_pass(client, idle)

    assert admitted(throttle, 10) == idle // 3


def test_a_refused_call_costs_nothing(client: redis.Redis, throttle: Throttle) -> None:
    """Whoever keeps asking waits no longer than whoever does not, and his key lives no longer."""
    admitted(throttle, 5)
    arrival, life = stored(client), client.pttl(KEY)
    waits = [throttle.take(KEY) for _ in range(20)]

    assert (stored(client), client.pttl(KEY) <= life) == (arrival, True)
    assert 0.0 not in waits
    assert waits == sorted(waits, reverse=True)


@pytest.mark.parametrize("pause", [0, 0.5, 1, 1.5, 2])
def test_retry_after_is_truthful(client: redis.Redis, throttle: Throttle, pause: float) -> None:
    """After exactly that many seconds one call is admitted, and only one."""
    admitted(throttle, 5)
    let_pass(client, pause)
    wait = throttle.take(KEY)
    assert 2 - pause < wait <= 3 - pause

    let_pass(client, retry_after(wait))

    assert admitted(throttle, 3) == 1


def test_the_wait_is_not_longer_than_it_must_be(client: redis.Redis, throttle: Throttle) -> None:
    """Half a second before its end the call is still refused."""
    admitted(throttle, 5)
    let_pass(client, throttle.take(KEY) - 0.5)

    assert 0 < throttle.take(KEY) <= 0.5


def test_users_and_routes_do_not_share(client: redis.Redis, throttle: Throttle) -> None:
    """One who has used up his prompts slows down nobody else and can still stop the GPU."""
    admitted(throttle, 6)

    assert admitted(throttle, 6, OTHER_KEY) == 5
    assert admitted(throttle, 6, rate_key("user-1", "stop")) == 5
    assert 2 < throttle.take(KEY) <= 3


# What Redis holds


def test_the_state_is_one_number_to_the_microsecond(client: redis.Redis, throttle: Throttle) -> None:
    """Each call of a burst adds an interval to the server's time, and no digit is lost."""
    before, arrivals, after = server_time(client), [], 0.0
    for _ in range(5):
        throttle.take(KEY)
        arrivals.append(stored(client))
        after = after or server_time(client)

    assert before + 3 <= arrivals[0] / 1e6 <= after + 3
    assert arrivals == [arrivals[0] + 3_000_000 * number for number in range(5)]
    assert client.keys() == [KEY.encode()]


def test_the_key_expires_when_it_would_change_nothing_any_more(client: redis.Redis, throttle: Throttle) -> None:
    """Not before, or a call too many were admitted; and not a second later."""
    for calls in range(1, BURST + 1):
        began = server_time(client)
        throttle.take(KEY)
        life = client.pttl(KEY) / 1_000
        now = server_time(client)
        left = stored(client) / 1e6 - now
        took = now - began  # the fake counts the key's life from the beginning of the script
        assert left - took - 0.001 <= life <= 3 * calls, calls


def test_the_key_expires_although_calls_are_refused(client: redis.Redis, throttle: Throttle) -> None:
    """Nothing leaks: within 15 seconds of the last admitted call the user is forgotten."""
    admitted(throttle, 50)

    assert 0 < client.pttl(KEY) <= 15_000


# What goes wrong


@pytest.mark.parametrize("step", [1, 3_600, 10 * 365 * 86_400])
def test_a_clock_that_is_set_back_locks_nobody_out(client: redis.Redis, throttle: Throttle, step: int) -> None:
    """After a failover to a server whose clock is behind, a call is admitted at once and the rate goes on."""
    admitted(throttle, 6)
    let_pass(client, -step)

    assert throttle.take(KEY) == 0.0
    assert 2 < throttle.take(KEY) <= 3
    assert 0 < client.pttl(KEY) <= 15_000


def test_a_clock_that_is_set_forward_is_a_pause(client: redis.Redis, throttle: Throttle) -> None:
    """The whole burst comes back, not more."""
    admitted(throttle, 6)
    let_pass(client, 10 * 365 * 86_400)

    assert admitted(throttle, 10) == 5


@pytest.mark.parametrize(
    "value",
    ["", "x", "nan", "inf", "-1", "0x7f", "1e99", "1.5", b"\xff\x00", "9999999999999999\n", "x9999999999999999"],
)
def test_a_value_that_is_no_number_of_ours_is_forgotten(
    client: redis.Redis, throttle: Throttle, value: str | bytes
) -> None:
    """Somebody wrote rubbish: the user starts with a whole burst, and the key expires again."""
    client.set(KEY, value)

    assert admitted(throttle, 6) == 5
    assert 0 < client.pttl(KEY) <= 15_000


def test_a_number_beyond_all_time_is_a_clock_set_back(client: redis.Redis, throttle: Throttle) -> None:
    """400 digits are infinity to Lua, and lock nobody out either."""
    client.set(KEY, "9" * 400)

    assert throttle.take(KEY) == 0.0
    assert 2 < throttle.take(KEY) <= 3


@pytest.mark.parametrize("kind", ["list", "hash", "set", "zset", "stream"])
def test_a_key_of_another_type_is_forgotten(client: redis.Redis, throttle: Throttle, kind: str) -> None:
    """Nothing but the user's own state belongs there, so what else lies there is overwritten."""
    write: dict[str, Callable[[], object]] = {
        "list": lambda: client.rpush(KEY, "1"),
        "hash": lambda: client.hset(KEY, "1", "1"),
        "set": lambda: client.sadd(KEY, "1"),
        "zset": lambda: client.zadd(KEY, {"1": 1}),
        "stream": lambda: client.xadd(KEY, {"1": "1"}),
    }
    write[kind]()

    assert admitted(throttle, 6) == 5
    assert stored(client)


def test_a_flushed_script_is_loaded_again(client: redis.Redis, throttle: Throttle) -> None:
    """The state outlives it."""
    admitted(throttle, 3)
    client.script_flush()

    assert admitted(throttle, 3) == 2


def test_a_restarted_server_is_asked_as_before(redis_server: RedisServer, redis_url: str) -> None:
    """It has forgotten script and state, and the connection is dead; the user has his burst again."""
    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as client:
        throttle = Throttle(client)
        admitted(throttle, 6)
        redis_server.restart()

        assert admitted(throttle, 6) == 5


def test_the_caller_hears_that_redis_is_down() -> None:
    """Whether to let a user in then is for the caller to say."""
    server = fakeredis.FakeServer()
    server.connected = False

    with pytest.raises(redis.RedisError):
        Throttle(fakeredis.FakeRedis(server=server)).take(KEY)


def test_the_caller_hears_that_redis_takes_no_writes(redis_url: str) -> None:
    """An old primary after a failover is one."""
    with closing(redis.Redis.from_url(redis_url, socket_timeout=5)) as client:
        client.replicaof("127.0.0.1", "1")
        try:
            with pytest.raises(redis.RedisError):
                Throttle(client).take(KEY)
        finally:
            client.replicaof("NO", "ONE")
