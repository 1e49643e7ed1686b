"""The whole way of OpenAI's API on the node: its client, TLS, the real nginx, the real worker with vLLM on the CPU."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from ami.pair import Pair
from tests.process.nginx_world import NginxProcess, running_nginx
from tests.process.worker_process import Surroundings, WorkerProcess, running_worker, wait_for

KEY = "the-key-of-this-test"
PROMPT = "What-nobody-may-log?"
ASKED: list[ChatCompletionMessageParam] = [{"role": "user", "content": PROMPT}]
ON = {"ignore_eos": True}
"""So that random weights do not end early."""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Return where the worker's log is."""
    return tmp_path / "worker.log"


@pytest.fixture
def worker(around: Surroundings, log: Path) -> Iterator[WorkerProcess]:
    """Yield a worker that is ready."""
    with running_worker(around, log, TLFIF_API_KEY_SHA256=hashlib.sha256(KEY.encode()).hexdigest()) as running:
        yield running


@pytest.fixture
def front(pair: Pair, worker: WorkerProcess) -> Iterator[NginxProcess]:
    """Yield nginx in front of it."""
    port = urlsplit(worker.http).port
    assert port
    with running_nginx(pair, port) as running:
        yield running


@pytest.fixture
def client(front: NginxProcess, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], openai.OpenAI]:
    """Return what makes OpenAI's client as a user does: by an address, a key, and a file to verify the node by."""
    monkeypatch.setenv("SSL_CERT_FILE", str(front.authority))
    return lambda key: openai.OpenAI(base_url=f"{front.url}/v1", api_key=key, max_retries=0, timeout=60)


def test_openai_s_client_is_served(
    client: Callable[[str], openai.OpenAI], front: NginxProcess, worker: WorkerProcess, log: Path
) -> None:
    """It lists the model, streams a chat token by token, and gets one whole; without a key that is right, nothing."""
    with client(KEY) as user:
        (model,) = user.models.list()
        ask: Any = partial(
            user.chat.completions.create, model=model.id, messages=ASKED, max_tokens=24, temperature=0, extra_body=ON
        )
        with ask(stream=True) as stream:
            parts = [part.choices[0] for part in stream if part.choices]
        text = "".join(part.delta.content or "" for part in parts)
        assert len([part for part in parts if part.delta.content]) > 5
        assert parts[-1].finish_reason == "length"

        whole = ask()
        assert whole.choices[0].message.content == text
        assert whole.usage is not None
        assert whole.usage.completion_tokens == 24
        assert user.completions.create(model=model.id, prompt="Once", max_tokens=4).choices[0].text
        with pytest.raises(openai.NotFoundError) as absent:
            user.embeddings.create(model=model.id, input="x")
        assert absent.value.code == "not_found"

    with client("another-key") as stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.models.list()
    assert refused.value.code == "invalid_api_key"

    # One request, one name, in nginx's log, in the worker's and in what the client can quote.
    assert refused.value.request_id == front.access_log()[-1]["id"]
    shown = {event.get("request") for event in worker.events()}
    assert {each["id"] for each in front.access_log()} <= shown
    written = log.read_text() + "".join(path.read_text() for path in front.logs.iterdir())
    for secret in (KEY, "another-key", PROMPT, text):
        assert secret not in written


def test_a_client_that_leaves_and_a_worker_that_dies(
    client: Callable[[str], openai.OpenAI], worker: WorkerProcess
) -> None:
    """The engine hears of the first; whoever comes after the second is told to come again."""
    with client(KEY) as user:
        (model,) = user.models.list()
        stream = user.chat.completions.create(
            model=model.id, messages=ASKED, max_tokens=1_900, stream=True, extra_body=ON
        )
        next(iter(stream))
        stream.close()
        cut = wait_for(lambda: [event for event in worker.events() if event.get("whole") is False])
        assert [(event["event"], event["path"]) for event in cut] == [("request", "/v1/chat/completions")]

        worker.popen.kill()
        worker.exit_code()
        with pytest.raises(openai.InternalServerError) as away:
            user.models.list()
    assert (away.value.status_code, away.value.code) == (503, "no_answer")
    assert away.value.response.headers["retry-after"] == "10"
