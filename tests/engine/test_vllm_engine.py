"""Every parameter of the contract on the real vLLM: what a job asks for is what its stream brings."""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import pytest

from router_lambda.job import parse_request
from tests.fakes import make_job
from worker.engine import Delta
from worker.errors import JobRejected
from worker.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

FRANCE = "What is the capital of France?"


@dataclass
class Told:
    """A finished stream: what each choice said in all."""

    prompt_tokens: int = 0
    deltas: list[Delta] = field(default_factory=list)

    def text(self, index: int = 0) -> str:
        """Return a choice's text."""
        return "".join(delta.text for delta in self.deltas if delta.index == index)

    def tokens(self, index: int = 0) -> int:
        """Return a choice's length in tokens."""
        return sum(delta.tokens for delta in self.deltas if delta.index == index)

    def reason(self, index: int = 0) -> str | None:
        """Return why a choice ended."""
        return [delta.finish_reason for delta in self.deltas if delta.index == index][-1]


async def ask(engine: VllmEngine, **body: Any) -> Told:
    """Send a body as a client would, through the router's own checks, and read the whole stream."""
    body.setdefault("params", {}).setdefault("temperature", 0)
    fields = parse_request(json.dumps(body))
    told = Told()
    async with aclosing(engine.generate(make_job(**fields))) as steps:
        async for step in steps:
            told.prompt_tokens = step.prompt_tokens
            told.deltas += step.deltas
    return told


async def test_the_answer_makes_sense(engine: VllmEngine) -> None:
    """A real chat model answers through its chat template, and ends by itself."""
    told = await ask(engine, prompt=FRANCE)
    assert told.text() == "The capital of France is Paris."
    assert (told.reason(), told.tokens()) == ("stop", 8)


async def test_messages_are_the_same_as_a_prompt(engine: VllmEngine) -> None:
    """A prompt is one user message; a system message changes the answer's basis."""
    alone = await ask(engine, messages=[{"role": "user", "content": FRANCE}])
    assert alone.text() == "The capital of France is Paris."
    told = await ask(
        engine,
        messages=[{"role": "system", "content": "You are a poet."}, {"role": "user", "content": FRANCE}],
    )
    assert told.prompt_tokens != alone.prompt_tokens


async def test_raw_prompts_bypass_the_template(engine: VllmEngine) -> None:
    """The model continues the text itself, and the prompt is only as long as its own tokens."""
    told = await ask(engine, prompt="The capital of France is", raw=True, params={"max_tokens": 4})
    assert told.prompt_tokens == 5
    assert "Paris" in told.text()


async def test_max_tokens_is_kept(engine: VllmEngine) -> None:
    """The stream ends at the limit and says so; the default is 256."""
    told = await ask(engine, prompt="Tell me a very long story.", params={"max_tokens": 5})
    assert (told.tokens(), told.reason()) == (5, "length")


async def test_a_stop_string_ends_the_text_before_it(engine: VllmEngine) -> None:
    """Neither the stop string nor any piece of it is shown, not even in passing."""
    full = (await ask(engine, prompt="Name three fruits.", params={"max_tokens": 40})).text()
    stop = full[8:14]
    told = await ask(engine, prompt="Name three fruits.", params={"max_tokens": 40, "stop": [stop]})
    assert (told.text(), told.reason()) == (full[: full.index(stop)], "stop")
    alone = await ask(engine, prompt="Name three fruits.", params={"max_tokens": 40, "stop": stop})
    assert alone.text() == told.text()


async def test_guided_json_parses_and_fits(engine: VllmEngine) -> None:
    """With a schema the answer is JSON of that shape, in OpenAI's wrapping and without it."""
    schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 20},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
        },
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    for wrapped in ({"name": "person", "schema": schema}, schema):
        answer = {"type": "json_schema", "json_schema": wrapped}
        told = await ask(engine, prompt="Invent a person.", params={"response_format": answer})
        person = json.loads(told.text())
        assert person.keys() == {"name", "age"}
        assert 0 <= person["age"] <= 120


async def test_json_object_is_json(engine: VllmEngine) -> None:
    """Whatever the model says is one JSON object as far as it goes."""
    told = await ask(
        engine,
        prompt='Answer with {"ok": true}',
        params={"response_format": {"type": "json_object"}, "max_tokens": 64},
    )
    assert told.text().lstrip().startswith("{")
    if told.reason() == "stop":
        assert isinstance(json.loads(told.text()), dict)


async def test_a_schema_that_cannot_be_followed_rejects_the_job(engine: VllmEngine) -> None:
    """The job fails with a reason, and the engine goes on."""
    answer = {
        "type": "json_schema",
        "json_schema": {"type": "object", "properties": {"x": {"type": "no-type"}}},
    }
    with pytest.raises(JobRejected):
        await ask(engine, prompt="x", params={"response_format": answer})
    assert (await ask(engine, prompt=FRANCE)).reason() == "stop"


async def test_a_seed_makes_sampling_repeatable(engine: VllmEngine) -> None:
    """The same seed gives the same text, another one another."""

    async def told(seed: int) -> str:
        params = {"temperature": 1, "seed": seed, "max_tokens": 24}
        return (await ask(engine, prompt="Tell me something surprising.", params=params)).text()

    assert await told(7) == await told(7)
    assert await told(7) != await told(8)


async def test_several_choices_are_told_apart(engine: VllmEngine) -> None:
    """With `n` each choice has its own text and end."""
    params = {"n": 3, "temperature": 1, "seed": 3, "max_tokens": 8}
    told = await ask(engine, prompt="Tell me something surprising.", params=params)
    assert {delta.index for delta in told.deltas} == {0, 1, 2}
    assert len({told.text(index) for index in range(3)}) > 1
    assert all(told.tokens(index) <= 8 and told.reason(index) for index in range(3))


async def test_logprobs_come_one_a_token(engine: VllmEngine) -> None:
    """Each token has its own logprob and the asked number of alternatives."""
    told = await ask(engine, prompt=FRANCE, params={"logprobs": 3, "max_tokens": 4})
    entries = [entry for delta in told.deltas for entry in delta.logprobs or []]
    assert len(entries) == told.tokens() == 4
    assert "".join(entry["token"] for entry in entries) == told.text()
    for entry in entries:
        top = [alternative["logprob"] for alternative in entry["top_logprobs"]]
        assert len(top) == 3
        assert entry["logprob"] == max(top) <= 0


async def test_logprobs_zero_gives_the_token_alone(engine: VllmEngine) -> None:
    """Zero alternatives still tell the chosen token's logprob."""
    told = await ask(engine, prompt=FRANCE, params={"logprobs": 0, "max_tokens": 2})
    assert all(len(entry["top_logprobs"]) <= 1 for delta in told.deltas for entry in delta.logprobs or [])
    assert sum(len(delta.logprobs or []) for delta in told.deltas) == 2


@pytest.mark.parametrize(
    "params",
    [
        {"top_p": 0.5, "temperature": 1},
        {"top_k": 1, "temperature": 1},
        {"top_k": -1, "temperature": 1},
        {"min_p": 1, "temperature": 1},
        {"presence_penalty": 2},
        {"frequency_penalty": -2},
        {"response_format": {"type": "text"}},
    ],
)
async def test_every_other_parameter_is_taken(engine: VllmEngine, params: dict[str, Any]) -> None:
    """Whatever the router lets through, the engine runs."""
    assert (await ask(engine, prompt=FRANCE, params={"max_tokens": 3, **params})).tokens() == 3


async def test_penalties_and_cutoffs_reach_the_sampler(engine: VllmEngine) -> None:
    """`top_k` of one is greedy at any temperature; a strong penalty ends a repetition."""
    greedy = await ask(engine, prompt=FRANCE)
    assert (await ask(engine, prompt=FRANCE, params={"top_k": 1, "temperature": 2})).text() == greedy.text()
    again = {"max_tokens": 30}
    plain = await ask(engine, prompt="a a a a a a a a a a", raw=True, params=again)
    other = await ask(engine, prompt="a a a a a a a a a a", raw=True, params={**again, "frequency_penalty": 2})
    assert plain.text() != other.text()


async def test_sixteen_jobs_at_once_say_what_each_says_alone(engine: VllmEngine) -> None:
    """Nothing of one job shows in another."""
    cities = ["France", "Italy", "Spain", "Germany"]
    alone = [(await ask(engine, prompt=f"What is the capital of {city}?")).text() for city in cities]
    together = await asyncio.gather(
        *(ask(engine, prompt=f"What is the capital of {cities[number % 4]}?") for number in range(16))
    )
    for number, told in enumerate(together):
        # Batched kernels may round differently; the city must not change.
        capital = alone[number % 4].split()[-1]
        assert capital in told.text()
    assert engine.unfinished == 0


async def test_a_job_alone_gets_every_token_by_itself(engine: VllmEngine) -> None:
    """And the next one does, too, once those beside it have ended."""
    for _ in range(2):
        told = await ask(engine, prompt="Count to thirty.", params={"max_tokens": 20})
        assert [delta.tokens for delta in told.deltas] == [1] * 20
        await asyncio.gather(*(ask(engine, prompt="Hello", params={"max_tokens": 2}) for _ in range(4)))


async def test_jobs_beside_each_other_get_several_tokens_a_step(engine: VllmEngine) -> None:
    """The first one at once, then as many as jobs were there when it began, at most eight; nothing is left out."""
    asked: dict[str, Any] = {"prompt": "Count to thirty.", "params": {"max_tokens": 40, "logprobs": 1}}
    together = await asyncio.gather(*(ask(engine, **asked) for _ in range(10)))
    steps = [[delta.tokens for delta in told.deltas] for told in together]
    assert [each[0] for each in steps] == [1] * 10
    assert [max(each) for each in steps] == [1, 2, 3, 4, 5, 6, 7, 8, 8, 8]
    for told in together:
        assert (told.tokens(), told.reason()) == (40, "length")
        assert [len(delta.logprobs or ()) for delta in told.deltas] == [delta.tokens for delta in told.deltas]
        assert "".join(entry["token"] for delta in told.deltas for entry in delta.logprobs or ()) == told.text()


@pytest.mark.parametrize("text", ["Grüße aus Köln", "日本の首都は東京です", "👩‍👩‍👧‍👦🎉🏳️‍🌈", "مرحبا", "नमस्ते"])
async def test_no_character_is_ever_split(engine: VllmEngine, text: str) -> None:
    """Every piece of a non-ASCII answer is whole characters, though its tokens are not."""
    schema = {"type": "string", "enum": [text]}
    answer = {
        "type": "json_schema",
        "json_schema": {"type": "object", "properties": {"t": schema}, "required": ["t"]},
    }
    told = await ask(engine, prompt="Go", params={"response_format": answer, "max_tokens": 400})
    assert json.loads(told.text())["t"] == text
    assert all("\ufffd" not in delta.text for delta in told.deltas)


async def test_a_prompt_longer_than_the_context_is_rejected(engine: VllmEngine) -> None:
    """With a message that names both lengths, and none of the prompt."""
    with pytest.raises(JobRejected) as caught:
        await ask(engine, prompt="x y" * 2_000)
    assert caught.value.code == "prompt_too_long"
    assert "2048" in str(caught.value)
    assert "x y" not in str(caught.value)


async def test_messages_that_the_chat_template_refuses_reject_the_job(
    engine: VllmEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some models' templates take no system message; that is the job's end, not the worker's."""

    async def refuse(*_: object) -> None:
        raise ValueError("System role not supported")

    monkeypatch.setattr(engine._llm.renderer, "render_chat_async", refuse)
    with pytest.raises(JobRejected, match="System role not supported") as caught:
        await ask(engine, prompt="x")
    assert caught.value.code == "chat_template_failed"


async def test_more_tokens_than_the_context_has_left_are_clipped(engine: VllmEngine) -> None:
    """A prompt that nearly fills the context gets what is left."""
    told = await ask(engine, prompt="x " * 2_000, raw=True, params={"max_tokens": 2_048})
    assert told.prompt_tokens + told.tokens() <= 2_048


async def test_cancelling_in_the_middle_aborts_the_request(engine: VllmEngine) -> None:
    """The engine stops working on it at once."""
    fields = parse_request(json.dumps({"prompt": "Tell me a very long story.", "params": {"max_tokens": 2_000}}))
    begun = asyncio.Event()

    async def read() -> None:
        async with aclosing(engine.generate(make_job(**fields))) as steps:
            async for _ in steps:
                begun.set()

    task = asyncio.create_task(read())
    await begun.wait()
    assert engine.unfinished == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert engine.unfinished == 0


async def test_closing_the_stream_early_aborts_the_request(engine: VllmEngine) -> None:
    """A reader that has had enough costs nothing more."""
    fields = parse_request(json.dumps({"prompt": "Tell me a very long story.", "params": {"max_tokens": 2_000}}))
    async with aclosing(engine.generate(make_job(**fields))) as steps:
        await anext(steps)
    assert engine.unfinished == 0


async def test_a_living_engine_passes_its_check(engine: VllmEngine) -> None:
    """Nothing is raised while the core runs."""
    await engine.check()
    assert engine.model.startswith("SmolLM2-135M-Instruct")
