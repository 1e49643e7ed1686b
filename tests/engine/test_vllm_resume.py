"""Going on behind shown text on the real vLLM: nothing twice, nothing missing, nothing that the job did not ask for."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import pytest

from router_lambda.job import Job, parse_request
from tests.fakes import make_job
from worker.continuation import encode, shown_tokens
from worker.engine import Delta
from worker.vllm_engine import VllmEngine

pytestmark = pytest.mark.asyncio(loop_scope="session")

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}


def asked(**body: Any) -> Job:
    """Return a job as the router makes it of a body; greedy unless the body says otherwise."""
    body.setdefault("params", {}).setdefault("temperature", 0)
    return make_job(**parse_request(json.dumps(body)))


async def whole(engine: VllmEngine, job: Job) -> tuple[list[Delta], int]:
    """Run a job without interruption; return its deltas and the length of its prompt."""
    deltas: list[Delta] = []
    prompt_tokens = 0
    async with aclosing(engine.generate(job)) as steps:
        async for step in steps:
            deltas += step.deltas
            prompt_tokens = step.prompt_tokens
    return deltas, prompt_tokens


def said(deltas: list[Delta]) -> str:
    """Return the text of some deltas."""
    return "".join(delta.text for delta in deltas)


def tokens(deltas: list[Delta]) -> int:
    """Return the length of some deltas in tokens."""
    return sum(delta.tokens for delta in deltas)


async def rest(engine: VllmEngine, job: Job, shown: str, index: int = 0) -> tuple[str, list[Delta], int]:
    """Go on behind a text; return what follows it, the deltas and the length of the prompt."""
    deltas: list[Delta] = []
    prompt_tokens = 0
    async with aclosing(engine.resume(job, index, shown, engine.count_tokens(shown))) as steps:
        async for step in steps:
            deltas += step.deltas
            prompt_tokens = step.prompt_tokens
    return said(deltas), deltas, prompt_tokens


@pytest.mark.parametrize(
    "params",
    [{"max_tokens": 40}, {"max_tokens": 40, "frequency_penalty": 1.5}, {"max_tokens": 40, "logprobs": 1}],
    ids=["plain", "penalty", "logprobs"],
)
async def test_a_greedy_text_is_the_same_wherever_it_was_cut(engine: VllmEngine, params: dict[str, Any]) -> None:
    """Text, end, length of the prompt, and number of tokens: a reader cannot tell that there were two workers."""
    job = asked(prompt="Name five animals of the forest.", params=params)
    full, prompt_tokens = await whole(engine, job)
    for cut in (1, len(full) // 3, len(full) // 2, len(full) - 2):
        shown = said(full[:cut])
        following, deltas, same_prompt_tokens = await rest(engine, job, shown)
        assert shown + following == said(full)
        assert (deltas[-1].finish_reason, same_prompt_tokens) == (full[-1].finish_reason, prompt_tokens)
        assert engine.count_tokens(shown) + tokens(deltas) == tokens(full)
        entries = sum(len(delta.logprobs or []) for delta in deltas)
        assert entries == (tokens(deltas) if "logprobs" in params else 0)


@pytest.mark.parametrize("text", ["Hello", " world", "größer 🦙", "a\n\n  b", "what\ufffdever", "<|im_end|>"])
async def test_tokens_spell_the_shown_text(engine: VllmEngine, text: str) -> None:
    """Behind the prompt they are the text, also where it looks like a control token, which then controls nothing."""
    tokenizer = engine._llm.get_tokenizer()
    prompt = encode(tokenizer, "Say something:")
    found = shown_tokens(tokenizer, prompt, text)
    assert found is not None
    assert len(found) == engine.count_tokens(text)
    assert tokenizer.convert_tokens_to_ids("<|im_end|>") not in found


async def test_json_goes_on_where_it_was_cut_be_it_in_the_middle_of_a_word(engine: VllmEngine) -> None:
    """The grammar begins behind the shown text, not at its own start; the whole fits the schema."""
    answer = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}
    job = asked(prompt="Invent a person.", params={"response_format": answer, "max_tokens": 120})
    text = said((await whole(engine, job))[0])
    for cut in range(1, len(text), 4):
        following, deltas, _ = await rest(engine, job, text[:cut])
        if deltas[-1].finish_reason == "stop":
            assert json.loads(text[:cut] + following).keys() == {"name", "age"}
        else:  # white space without end is JSON, too
            assert (text[:cut] + following).startswith("{")
    following, deltas, _ = await rest(engine, job, text)
    assert (following, deltas[-1].finish_reason) == ("", "stop")


async def test_the_asked_length_is_that_of_the_whole(engine: VllmEngine) -> None:
    """What is shown counts; with nothing left the choice ends at once, and the engine is not asked."""
    job = asked(prompt="Tell me a very long story.", params={"max_tokens": 12})
    full, prompt_tokens = await whole(engine, job)
    shown = said(full[:2])
    _, deltas, _ = await rest(engine, job, shown)
    assert (tokens(deltas), deltas[-1].finish_reason) == (12 - engine.count_tokens(shown), "length")
    assert await rest(engine, job, said(full)) == ("", [Delta(0, "", 0, "length")], prompt_tokens)


async def test_the_context_ends_where_it_would_have_ended(engine: VllmEngine) -> None:
    """A shown text that fills it is complete."""
    job = asked(prompt="x " * 1_000, raw=True, params={"max_tokens": 2_048})
    _, deltas, prompt_tokens = await rest(engine, job, " y" * (2_048 - 1_001))
    assert (prompt_tokens, deltas) == (1_001, [Delta(0, "", 0, "length")])
    _, deltas, _ = await rest(engine, job, " y" * (2_048 - 1_001 - 5))
    assert tokens(deltas) == 5


async def test_a_stop_string_is_found_behind_the_seam_and_never_shown(engine: VllmEngine) -> None:
    """Snapshots hold back as many characters as it might take, so that none can lie across."""
    plain = asked(prompt="Name three fruits.", params={"max_tokens": 40})
    text = said((await whole(engine, plain))[0])
    stop = text[-9:-3]
    job = asked(prompt="Name three fruits.", params={"max_tokens": 40, "stop": [stop]})
    full, _ = await whole(engine, job)
    assert (said(full), full[-1].finish_reason) == (text[: text.index(stop)], "stop")
    shown = said(full[:3])
    following, deltas, _ = await rest(engine, job, shown)
    assert stop not in shown + following
    assert deltas[-1].finish_reason is not None


async def test_a_seeded_continuation_is_repeatable(engine: VllmEngine) -> None:
    """The same choice at the same place goes on in the same way, another one in another."""
    job = asked(prompt="Tell me something surprising.", params={"temperature": 1, "seed": 7, "max_tokens": 24, "n": 2})
    shown = "Did you know that"
    once, deltas, _ = await rest(engine, job, shown)
    assert {delta.index for delta in deltas} == {0}
    assert (await rest(engine, job, shown))[0] == once
    other, deltas, _ = await rest(engine, job, shown, index=1)
    assert {delta.index for delta in deltas} == {1}
    assert other != once


async def test_closing_it_early_aborts_the_request(engine: VllmEngine) -> None:
    """A continuation that nobody reads costs nothing."""
    job = asked(prompt="Tell me a very long story.", params={"max_tokens": 2_000})
    async with aclosing(engine.resume(job, 0, "Once upon a time", 4)) as steps:
        await anext(steps)
        assert engine.unfinished == 1
    assert engine.unfinished == 0
