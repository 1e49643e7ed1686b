"""The canary over answers that the test makes up: what is a failure, and what is in the log."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from router_lambda import canary as module
from router_lambda import fetch
from router_lambda.canary import SAMPLE_BYTES, Canary
from router_lambda.settings import RouterConfigError
from router_lambda.watch_settings import CanarySettings
from tests.router_world import Clock

URL = "https://api.test/prod"
PING = fetch.Answer(200, b'{"status": "ok"}')
HEALTH = fetch.Answer(200, b'{"redis": "ok", "latencyMs": 0.41}')


class Api:
    """Answers by path, each answer after 0.0125 s, and notes what it is asked for."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.says: dict[str, fetch.Answer | Exception] = {"/ping": PING, "/queue-health": HEALTH}
        self.takes = 0.0125
        self.asked: list[tuple[str, float]] = []

    def get(self, url: str, seconds: float, most_bytes: int) -> fetch.Answer:
        """Answer."""
        self.asked.append((url, seconds))
        self.clock.sleep(self.takes)
        answer = self.says[url.removeprefix(URL)]
        if isinstance(answer, Exception):
            raise answer
        return fetch.Answer(answer.status, answer.body[:most_bytes])


@pytest.fixture
def api(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Api:
    """Return an API in good health, which every GET leads to."""
    made = Api(clock)
    monkeypatch.setattr(fetch, "get", made.get)
    return made


@pytest.fixture
def canary(clock: Clock) -> Canary:
    """Return what is tested."""
    return Canary(URL, clock)


def lines(output: str) -> list[dict[str, Any]]:
    """Return the lines of the log."""
    return [json.loads(line) for line in output.splitlines()]


def test_an_api_in_good_health_fails_nothing(canary: Canary, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Two zeros, and a sample of what clients get."""
    assert canary.look() == {"PingFailures": 0, "QueueHealthFailures": 0}
    assert api.asked == [(f"{URL}/ping", 3.0), (f"{URL}/queue-health", 3.0)]

    ping, health, metric = lines(capsys.readouterr().out)
    assert ping == {
        "event": "canary",
        "path": "/ping",
        "ok": True,
        "status": 200,
        "ms": 12.5,
        "body": '{"status": "ok"}',
        "reason": None,
    }
    assert (health["path"], health["body"]) == ("/queue-health", '{"redis": "ok", "latencyMs": 0.41}')
    directive = metric.pop("_aws")["CloudWatchMetrics"][0]
    assert metric == {"PingFailures": 0, "QueueHealthFailures": 0}
    assert (directive["Namespace"], directive["Dimensions"]) == ("TLFIF/Canary", [[]])
    assert directive["Metrics"] == [{"Name": name, "Unit": "Count"} for name in metric]


@pytest.mark.parametrize(
    "answer",
    [
        fetch.GetFailed("ConnectionRefusedError: [Errno 111] Connection refused"),
        *(fetch.Answer(status, PING.body) for status in (199, 201, 204, 301, 302, 403, 404, 429, 500, 503)),
        *(fetch.Answer(200, body) for body in (b"", b"ok", b"null", b"[]", b'"ok"', b"{}", b"\xff", b"[" * 60_000)),
        *(fetch.Answer(200, body) for body in (b'{"status": "starting"}', b'{"status": null}', b'{"Status": "ok"}')),
        fetch.Answer(200, HEALTH.body),
        fetch.Answer(200, b'{"status": "ok", "more": "' + b"x" * 70_000 + b'"}'),
    ],
)
def test_anything_else_is_a_failure_of_that_one(
    canary: Canary, api: Api, answer: fetch.Answer | Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """No answer, another status, a redirect, another body; the other path is still asked for."""
    api.says["/ping"] = answer
    assert canary.look() == {"PingFailures": 1, "QueueHealthFailures": 0}
    shown = [(line["path"], line["ok"]) for line in lines(capsys.readouterr().out)[:2]]
    assert shown == [("/ping", False), ("/queue-health", True)]


@pytest.mark.parametrize(
    "answer", [fetch.Answer(503, b'{"status": 503}'), fetch.Answer(200, b'{"redis": "slow"}'), PING]
)
def test_the_queue_has_its_own_metric(canary: Canary, api: Api, answer: fetch.Answer) -> None:
    """The API may be well where Redis is not."""
    api.says["/queue-health"] = answer
    assert canary.look() == {"PingFailures": 0, "QueueHealthFailures": 1}


def test_what_drips_in_for_too_long_is_a_failure(canary: Canary, api: Api) -> None:
    """Though no step of it took longer than it may."""
    api.takes = 3.01
    assert canary.look() == {"PingFailures": 1, "QueueHealthFailures": 1}


def test_the_reason_of_a_silence_is_in_the_log(canary: Canary, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """There is no status, and no body."""
    api.says["/ping"] = fetch.GetFailed("TimeoutError: timed out")
    canary.look()
    first = lines(capsys.readouterr().out)[0]
    assert (first["status"], first["body"], first["reason"]) == (None, "", "TimeoutError: timed out")


def test_a_sample_is_short(canary: Canary, api: Api, capsys: pytest.CaptureFixture[str]) -> None:
    """Cut by bytes, wherever in a character that is."""
    body = json.dumps({"status": "ok", "more": "é" * 400}, ensure_ascii=False).encode()
    api.says["/ping"] = fetch.Answer(200, body)
    assert canary.look()["PingFailures"] == 0
    sample = lines(capsys.readouterr().out)[0]["body"]
    assert sample == body[:SAMPLE_BYTES].decode("utf-8", "replace")
    assert len(sample) < SAMPLE_BYTES


# The settings


@pytest.mark.parametrize(
    ("url", "read"),
    [
        *(("https://api.test", "https://api.test"), ("https://api.test/", "https://api.test")),
        *(("https://api.test/prod/", "https://api.test/prod"), ("http://127.0.0.1:8080", "http://127.0.0.1:8080")),
    ],
)
def test_an_address_is_taken(url: str, read: str) -> None:
    """With a stage and without, with a slash at its end and without."""
    assert CanarySettings.from_environment({"TLFIF_URL": url}) == CanarySettings(read)


@pytest.mark.parametrize(
    "url",
    ["http://api.test", "api.test", "/", "https://", "https://api.test?x", "https://api.test#x", "ftp://localhost"],
)
def test_any_other_address_is_refused(url: str) -> None:
    """Paths are added to it, and nobody on the way may answer in the API's place."""
    with pytest.raises(RouterConfigError, match="TLFIF_URL"):
        CanarySettings.from_environment({"TLFIF_URL": url})


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Yield an environment of which nothing was read, and forget it afterwards."""
    monkeypatch.delenv("TLFIF_URL", raising=False)
    module._canary.cache_clear()
    yield monkeypatch
    module._canary.cache_clear()


def test_the_entry_point_reads_its_settings_once_they_are_there(fresh: pytest.MonkeyPatch, api: Api) -> None:
    """It names what is missing; a failure of the API is none of its own."""
    with pytest.raises(RouterConfigError, match="set TLFIF_URL"):
        module.handler({}, None)
    fresh.setenv("TLFIF_URL", URL)
    assert module.handler({}, None) == {"PingFailures": 0, "QueueHealthFailures": 0}
    fresh.delenv("TLFIF_URL")
    api.says["/ping"] = fetch.GetFailed("away")
    assert module.handler(None, None) == {"PingFailures": 1, "QueueHealthFailures": 0}
