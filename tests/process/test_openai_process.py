"""A real worker with OpenAI's own client: what becomes of requests when the worker, its engine or its client ends.

Scenarios: 1 a request beside jobs · 2 SIGTERM while one runs · 3 past the drain deadline · 4 the engine core dies
· 5 a client that does not read · 6 idle.
"""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.process.test_worker_process import LONG
from tests.process.worker_process import Surroundings, WorkerProcess, running_worker, wait_for

KEY = "the-key-of-this-test"
HASH = hashlib.sha256(KEY.encode()).hexdigest()
SECRET = "what nobody may read"
MESSAGES: Any = [{"role": "user", "content": SECRET}]


@contextmanager
def serving(around: Surroundings, log: Path, **changed: str) -> Iterator[tuple[WorkerProcess, Any]]:
    """Run a worker with a key, and yield it with what asks it for a long text, in a stream."""
    with running_worker(around, log, TLFIF_API_KEY_SHA256=HASH, **changed) as worker:
        client = openai.OpenAI(base_url=f"{worker.http}/v1", api_key=KEY, max_retries=0)
        model = client.models.list().data[0].id

        def ask(**more: Any) -> Any:
            return client.chat.completions.create(model=model, messages=MESSAGES, stream=True, **LONG | more)

        yield worker, ask
        client.close()


def rest(stream: Any) -> list[Any]:
    """Read a stream to its end."""
    return list(stream)


def test_1_a_request_beside_jobs(around: Surroundings, tmp_path: Path) -> None:
    """Both are answered; the routers see what runs, and the log names no prompt and no key."""
    log = tmp_path / "log"
    with serving(around, log) as (worker, ask):
        stream = ask()
        next(stream)
        job = around.enqueue(prompt="Hello", params={"max_tokens": 20})
        assert around.final_reply(job.id)["status"] == "done"
        assert worker.healthz()["requests"] == 1
        wait_for(lambda: around.heartbeat()["running"] == 1)
        assert around.heartbeat()["idle_deadline"] is None
        assert rest(stream)[-1].choices[0].finish_reason in {"stop", "length"}
        wait_for(lambda: worker.healthz()["requests"] == 0)
        metrics = httpx.get(f"{worker.http}/metrics").text
        assert 'tlfif_requests_total{path="/v1/chat/completions",status="200"} 1.0' in metrics
    text = log.read_text()
    assert SECRET not in text
    assert KEY not in text
    assert '"/v1/chat/completions"' in text


def test_2_sigterm_lets_a_request_finish(around: Surroundings, tmp_path: Path) -> None:
    """New ones are sent away; the worker ends once it is done."""
    with serving(around, tmp_path / "log") as (worker, ask):
        stream = ask()
        next(stream)
        worker.popen.terminate()
        wait_for(lambda: worker.healthz()["state"] == "draining")
        with pytest.raises(openai.InternalServerError) as refused:
            ask()
        assert (refused.value.status_code, refused.value.response.headers["retry-after"]) == (503, "5")
        assert rest(stream)[-1].choices[0].finish_reason in {"stop", "length"}
        assert worker.exit_code() == 0


def test_3_past_the_drain_deadline_its_connection_is_closed(around: Surroundings, tmp_path: Path) -> None:
    """The client sees that something is missing, and the worker ends in good order."""
    with serving(around, tmp_path / "log", TLFIF_DRAIN_SECONDS="0.2") as (worker, ask):
        stream = ask()
        next(stream)
        worker.popen.terminate()
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            rest(stream)
        assert worker.exit_code() == 0


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_4_a_dying_engine_core_is_an_error(around: Surroundings, tmp_path: Path, number: signal.Signals) -> None:
    """Whether it is killed, or ends in good order, which vLLM itself would call the end of the answer."""
    with serving(around, tmp_path / "log") as (worker, ask):
        stream = ask()
        next(stream)
        worker.engine_core().send_signal(number)
        with pytest.raises((openai.APIError, httpx.RemoteProtocolError)):
            rest(stream)
        assert worker.exit_code() == 70


def test_5_a_client_that_does_not_read_keeps_nobody_up(around: Surroundings, tmp_path: Path) -> None:
    """It goes without a word; its request ends in the engine, and the place is free."""
    with serving(around, tmp_path / "log") as (worker, _):
        model = httpx.get(f"{worker.http}/v1/models", headers={"authorization": f"Bearer {KEY}"}).json()["data"][0]
        body = json.dumps({"model": model["id"], "messages": MESSAGES, "stream": True, **LONG}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", int(worker.http.rpartition(":")[2]))) as client:
            client.sendall(head.encode() + body)
            assert client.recv(12) == b"HTTP/1.1 200"
        wait_for(lambda: worker.healthz()["requests"] == 0)


def test_6_a_request_keeps_an_idle_worker_up(around: Surroundings, tmp_path: Path) -> None:
    """Its own idle time begins at the request's end."""
    with serving(around, tmp_path / "log", TLFIF_IDLE_MINUTES="0.05") as (worker, ask):
        for _ in range(3):
            time.sleep(1.5)
            rest(ask(max_tokens=2))
        assert worker.popen.poll() is None
        ended = time.monotonic()
        assert worker.exit_code() == 0
        assert time.monotonic() - ended >= 2.5
