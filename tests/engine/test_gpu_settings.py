"""The settings for a GPU held against the vLLM that is installed, whose code for CUDA decides here without a GPU."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest

from local.tiny_model import write_tiny_model
from worker import gpu
from worker.vllm_engine import VllmEngine

ROOT = Path(__file__).parents[2]
T4 = (7, 5)
A10G = (8, 6)

# Whatever a user may want to have otherwise: vLLM has to take it beside what is left of our choice.
WANTED: list[dict[str, Any]] = [
    {"enforce_eager": True},
    {"max_num_seqs": 32, "dtype": "float32"},
    {"optimization_level": 1},
    {"cudagraph_capture_sizes": [1, 2]},
    {"max_cudagraph_capture_size": 16},
    {"compilation_config": {"mode": 3}},
    {"gpu_memory_utilization": 0.5, "max_model_len": 512},
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a tiny model whose file says bfloat16, as most of them do."""
    folder = write_tiny_model(tmp_path_factory.mktemp("model"))
    config = folder / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"dtype": "bfloat16"}))
    return folder


@pytest.fixture(scope="module")
def answers(model: Path) -> list[dict[str, Any]]:
    """Ask vLLM's code for CUDA, once: for a T4, the same again, an A10G, and a T4 with everything that is wanted."""
    cases = [(T4, {}), (T4, {}), (A10G, {}), *((T4, wanted) for wanted in WANTED)]
    lines = [{"capability": capability, "args": gpu.engine_args(wanted) | wanted} for capability, wanted in cases]
    done = subprocess.run(
        [sys.executable, "-m", "tests.engine.fake_cuda", str(model)],
        cwd=ROOT,
        env=os.environ | gpu.environment(os.environ) | {"VLLM_CONFIGURE_LOGGING": "0", "HF_HUB_OFFLINE": "1"},
        input="\n".join(map(json.dumps, lines)),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_on_a_t4_nothing_is_compiled_and_decoding_is_replayed(answers: list[dict[str, Any]]) -> None:
    """What the decision record says; the graphs that one attention on a T4 allows in every step are taken for one."""
    found = answers[0]
    assert found["compiles"] == "NONE"
    assert found["graphs"] == "FULL_DECODE_ONLY"
    assert found["graph_sizes"] == [1, 2, 4, 8, 16, 32, 64, 128]
    assert found["sequences"] == 128
    assert found["attention"]["TRITON_ATTN"] == "ALWAYS"
    assert found["warms_kernels_up"]  # or the first user would wait for their compilation
    assert found["executor"] == "uni"
    assert found["max_model_len"] == 2_048


def test_half_precision_where_the_gpu_has_no_bfloat16(answers: list[dict[str, Any]]) -> None:
    """That is done by vLLM, which is why the worker does not set it."""
    assert [each["dtype"] for each in answers[1:3]] == ["torch.float16", "torch.bfloat16"]


def test_the_startup_plan_is_found_again(answers: list[dict[str, Any]]) -> None:
    """Its key has the hash of the whole configuration, which must not change from start to start."""
    first, again, other, *_ = (each["hash"] for each in answers)
    assert first == again != other


@pytest.mark.parametrize("number", range(len(WANTED)), ids=lambda number: ",".join(WANTED[number]))
def test_what_the_user_wants_wins(answers: list[dict[str, Any]], number: int) -> None:
    """And never makes a configuration that vLLM refuses."""
    found, wanted = answers[3 + number], WANTED[number]
    assert "refused" not in found
    if "enforce_eager" in wanted:
        assert found["graphs"] == "NONE"
    if "compilation_config" in wanted or "optimization_level" in wanted:
        assert found["compiles"] == "VLLM_COMPILE"
    if "cudagraph_capture_sizes" in wanted:
        assert found["graph_sizes"] == wanted["cudagraph_capture_sizes"]
    if "max_cudagraph_capture_size" in wanted:
        assert max(found["graph_sizes"]) == wanted["max_cudagraph_capture_size"]
    if "max_num_seqs" in wanted:
        assert found["sequences"] == max(found["graph_sizes"]) == wanted["max_num_seqs"]


def test_every_argument_and_variable_exists(
    engine: VllmEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An argument that vLLM does not know it would refuse; a variable it would ignore."""
    arguments = {field.name for field in dataclasses.fields(resolve_name("vllm:AsyncEngineArgs"))}
    assert gpu.engine_args({}).keys() | gpu._OWN_GRAPHS <= arguments

    variables: Mapping[str, Any] = resolve_name("vllm.envs:environment_variables")
    ours = gpu.environment({"VLLM_CACHE_ROOT": str(tmp_path)})
    assert {name for name in ours if name.startswith("VLLM_")} <= variables.keys()
    for name, value in ours.items():
        monkeypatch.setenv(name, value)
    caches: Any = resolve_name("torch._inductor.runtime.cache_dir_utils")
    assert caches.cache_dir() == ours["TORCHINDUCTOR_CACHE_DIR"]
    assert caches.triton_cache_dir(0) == ours["TRITON_CACHE_DIR"]
