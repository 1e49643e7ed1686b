"""OpenAI's own client on the real vLLM: the same engine as the jobs', at the same time."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import openai
import pytest
import pytest_asyncio

from tests.fakes import MemoryStore, make_job
from tests.scripted_queue import ScriptedQueue
from worker import http
from worker.health import Health
from worker.openai_api import OpenAiApi
from worker.places import Places
from worker.pulse import Pulse
from worker.run import Services
from worker.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

KEY = "the-key-of-this-test"
FRANCE = "What is the capital of France?"
PARIS = "The capital of France is Paris."


class Served:
    """The engine behind HTTP, and a client that has the key."""

    def __init__(self, engine: VllmEngine, port: int, pulse: Pulse, places: Places) -> None:
        self.engine = engine
        self.pulse = pulse
        self.places = places
        self.url = f"http://127.0.0.1:{port}/v1"
        self.client = openai.AsyncOpenAI(base_url=self.url, api_key=KEY, max_retries=0)

    async def chat(self, content: str = FRANCE, **more: Any) -> Any:
        """Ask for a chat completion, of the likeliest tokens."""
        messages: Any = [{"role": "user", "content": content}]
        return await self.client.chat.completions.create(
            model=self.engine.model, messages=messages, **{"temperature": 0, "max_tokens": 32, **more}
        )

    async def all_has_ended(self) -> None:
        """Wait until neither the engine nor a place knows of a request."""
        with anyio.fail_after(10):
            while self.engine.unfinished or self.places.requests:  # noqa: ASYNC110 - vLLM tells nobody
                await anyio.sleep(0.01)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def served(engine: VllmEngine) -> AsyncIterator[Served]:
    """Serve as the daemon does."""
    pulse, places = Pulse(), Places(8)
    services = Services(engine, ScriptedQueue(), MemoryStore(), Health(), pulse)
    app = await engine.openai_app(pulse)
    api = OpenAiApi(app, services, places, [hashlib.sha256(KEY.encode()).digest()])
    listener = http.bind(0)
    serving = asyncio.create_task(http.serve(listener, lambda: {"state": "ready"}, api))
    made = Served(engine, listener.getsockname()[1], pulse, places)
    yield made
    await made.client.close()
    serving.cancel()
    await asyncio.wait([serving])
    listener.close()


async def test_the_model_has_its_public_name(served: Served) -> None:
    """Without the folders that it lies in."""
    (model,) = (await served.client.models.list()).data
    assert model.id == served.engine.model
    assert "/" not in model.model_dump_json()


async def test_a_chat_is_answered_as_a_job_is(served: Served) -> None:
    """By the same model through the same chat template."""
    answer = await served.chat()
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (PARIS, "stop")
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (37, 8)


async def test_a_stream_brings_the_same_token_by_token(served: Served) -> None:
    """And the usage at its end, for whoever asks."""
    parts = [part async for part in await served.chat(stream=True, stream_options={"include_usage": True})]
    said = [part.choices[0].delta.content for part in parts if part.choices and part.choices[0].delta.content]
    assert "".join(said) == PARIS
    assert len(said) > 3
    assert parts[-1].usage.completion_tokens == 8


async def test_a_completion_goes_on_with_the_text(served: Served) -> None:
    """Without the chat template; several prompts are answered in their order."""
    answer = await served.client.completions.create(
        model=served.engine.model, prompt=["The capital of France is", "1, 2, 3,"], max_tokens=4, temperature=0
    )
    assert "Paris" in answer.choices[0].text
    assert "4" in answer.choices[1].text


async def test_json_comes_as_json(served: Served) -> None:
    """What vLLM's API can do besides is there, such as a schema."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    shape = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema}}
    answer = await served.chat("Give me a number.", response_format=shape)
    assert answer.choices[0].message.content.lstrip().startswith("{")


async def test_jobs_and_requests_run_side_by_side(served: Served) -> None:
    """Each says what it says alone."""

    async def job() -> str:
        made = make_job(prompt=FRANCE, params={"temperature": 0, "max_tokens": 32})
        return "".join([delta.text async for step in served.engine.generate(made) for delta in step.deltas])

    answers = await asyncio.gather(*(served.chat() for _ in range(3)), *(job() for _ in range(3)))
    assert [each if isinstance(each, str) else each.choices[0].message.content for each in answers] == [PARIS] * 6


async def test_the_pulse_hears_of_the_tokens(served: Served) -> None:
    """So that an engine that hangs is noticed, and a client that reads slowly is not taken for one."""
    before = served.pulse.token_at
    stream = await served.chat("Count to a hundred.", stream=True, max_tokens=40)
    await anext(stream)
    await anyio.sleep(0.2)
    assert served.pulse.token_at != before
    assert [part async for part in stream]
    assert served.pulse.streams == 0


async def test_a_client_that_goes_ends_its_request(served: Served) -> None:
    """In the engine, and in its place."""
    stream = await served.chat("Count to a thousand.", stream=True, max_tokens=1_500)
    await anext(stream)
    assert served.engine.unfinished == 1
    await stream.close()
    await served.all_has_ended()


async def test_a_client_that_goes_before_the_answer_ends_its_request(served: Served) -> None:
    """One that wants it in one piece."""
    with pytest.raises(openai.APITimeoutError):
        await served.chat("Count to a thousand.", max_tokens=1_500, timeout=1.0)
    await served.all_has_ended()


async def test_an_end_that_nobody_wanted_is_an_error(served: Served) -> None:
    """As when the engine core dies: vLLM would call half an answer a whole one."""
    stream = await served.chat("Count to a thousand.", stream=True, max_tokens=1_500)
    await anext(stream)
    (request,) = served.engine._llm.output_processor.request_states
    await served.engine._llm.abort(request, internal=True)
    with pytest.raises(openai.APIError):
        async for _ in stream:
            pass


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"content": "word " * 3_000}, openai.BadRequestError),
        ({"temperature": -1}, openai.BadRequestError),
        ({"n": 9}, openai.BadRequestError),
        ({"extra_body": {"messages": "none"}}, openai.BadRequestError),
        ({"model": "another"}, openai.NotFoundError),
    ],
)
async def test_what_vllm_refuses_is_an_error(
    served: Served, more: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    """Of the kind that OpenAI's client knows, and with a reason in it."""
    with pytest.raises(error) as refused:
        await served.client.chat.completions.create(
            **{
                "model": served.engine.model,
                "messages": [{"role": "user", "content": more.pop("content", FRANCE)}],
                **more,
            }
        )
    assert isinstance(refused.value.body, dict)
    assert refused.value.body["message"]


async def test_the_wrong_key_is_an_error(served: Served) -> None:
    """Which OpenAI's client knows, too."""
    stranger = openai.AsyncOpenAI(base_url=served.url, api_key="wrong", max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        await stranger.models.list()
    await stranger.close()


async def test_no_prompt_gets_into_the_log(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    """Of requests that are answered, refused, or no requests at all."""
    secret = "Xylophone-Quagmire"
    with caplog.at_level(logging.DEBUG):
        await served.chat(secret, max_tokens=2)
        for body in (
            {"model": served.engine.model, "messages": [{"role": "user", "content": secret * 3_000}]},
            {"model": served.engine.model, "messages": [{"role": secret, "content": [secret]}], "n": secret},
            {"model": secret, "messages": secret},
        ):
            async with httpx.AsyncClient() as raw:
                answer = await raw.post(
                    f"{served.url}/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"}
                )
            assert answer.status_code in {400, 404}
    ours = [each for each in caplog.records if not each.name.startswith(("openai", "httpx", "httpcore"))]
    assert secret not in "\n".join(f"{each.getMessage()} {each.exc_text}" for each in ours)


async def test_nothing_else_of_vllms_server_is_there(served: Served) -> None:
    """Such as what would load adapters, or put the engine to sleep."""
    async with httpx.AsyncClient(headers={"authorization": f"Bearer {KEY}"}) as client:
        for path in ("/v1/load_lora_adapter", "/v1/responses", "/tokenize", "/docs", "/openapi.json", "/version"):
            base = served.url.removesuffix("/v1")
            assert (await client.post(base + path)).status_code == 404
            assert (await client.get(base + path)).status_code == 404
