"""The floor of `benchmarks.engine`: vLLM's AsyncLLM in a loop, with nothing of ours in the way of a token.

    python -m benchmarks.engine_bare MODEL [--args JSON] [--defaults]

Reads one case a line from standard input, `{"prompts": […], "max_tokens": n}`, runs all prompts at once, and answers
with `{"seconds": s, "tokens": n, "first_s": […], "cpu_s": s}`. The engine has the arguments and the environment of the
worker, or with `--defaults` those that vLLM chooses by itself.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import sys
import time
from collections.abc import Callable
from contextlib import aclosing
from itertools import count
from typing import Any, Final

import anyio

from router_lambda.job import Job
from worker.log import configure_logging
from worker.vllm_engine import VllmEngine, _sampling

READY: Final = "ready"

_numbers = count()


async def _with_the_workers_settings(model: str, args: dict[str, Any]) -> tuple[Any, Callable[[Job], Any]]:
    """Start vLLM as the worker does; return it, and what makes a prompt of a job."""
    engine = await VllmEngine.start(model, args)
    gc.freeze()  # these two as the worker does
    gc.enable()
    return engine._llm, engine._render  # noqa: SLF001 - the floor is what lies below our adapter


async def _with_defaults(model: str, args: dict[str, Any]) -> tuple[Any, Callable[[Job], Any]]:
    """Start vLLM as somebody does who sets nothing but what `args` says."""
    from vllm import AsyncEngineArgs  # noqa: PLC0415 - it reads its environment when it is imported
    from vllm.v1.engine.async_llm import AsyncLLM  # noqa: PLC0415

    llm = AsyncLLM.from_engine_args(AsyncEngineArgs(model=model, **args))
    return llm, VllmEngine(llm, model)._render  # noqa: SLF001


async def _stream(llm: Any, render: Callable[[Job], Any], prompt: str, max_tokens: int) -> tuple[float, int]:
    """Run one prompt; return the seconds to its first token, and how many it had."""
    began = time.perf_counter()
    first = None
    tokens = 0
    job = Job("", "", prompt, None, raw=False, params={}, idle_minutes=1, reply_path="", enqueued_at=0)
    sampling = _sampling({"max_tokens": max_tokens, "temperature": 0})
    async with aclosing(llm.generate(await render(job), sampling, request_id=f"bare-{next(_numbers)}")) as outputs:
        async for output in outputs:
            tokens += len(output.outputs[0].token_ids)
            if first is None:
                first = time.perf_counter() - began
    assert first is not None, "a reply without a token"
    return first, tokens


async def _case(llm: Any, render: Callable[[Job], Any], case: dict[str, Any]) -> dict[str, Any]:
    began, cpu = time.perf_counter(), time.process_time()
    done = await asyncio.gather(*(_stream(llm, render, prompt, case["max_tokens"]) for prompt in case["prompts"]))
    return {
        "seconds": time.perf_counter() - began,
        "tokens": sum(tokens for _, tokens in done),
        "first_s": [first for first, _ in done],
        "cpu_s": time.process_time() - cpu,
    }


async def _serve(options: argparse.Namespace, answers: Any) -> None:
    start = _with_defaults if options.defaults else _with_the_workers_settings
    llm, render = await start(options.model, json.loads(options.args))
    print(READY, file=answers, flush=True)
    while line := await anyio.to_thread.run_sync(sys.stdin.readline):
        print(json.dumps(await _case(llm, render, json.loads(line))), file=answers, flush=True)
    await anyio.to_thread.run_sync(llm.shutdown, 5.0)


def main(arguments: list[str]) -> int:
    """Serve cases until standard input ends."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engine_bare", description="vLLM and nothing else.")
    parser.add_argument("model")
    parser.add_argument("--args", default="{}", help="JSON: arguments of the engine")
    parser.add_argument("--defaults", action="store_true", help="leave all else to vLLM")
    options = parser.parse_args(arguments)
    if not options.defaults:
        gc.disable()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what vLLM prints is no answer
    configure_logging()
    asyncio.run(_serve(options, answers))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
