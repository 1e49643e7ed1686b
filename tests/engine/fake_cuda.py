"""What vLLM makes of engine arguments on a GPU that is not there: run by test_gpu_settings.py, in a process of its own.

    python -m tests.engine.fake_cuda MODEL < cases

Reads lines of `{"capability": [7, 5], "args": {…}}` and answers each with a line of JSON. The configuration is vLLM's
own, made by the code for CUDA, of which the CPU build has all but the kernels; only what the driver says is made up.
"""

from __future__ import annotations

import json
import sys
from pkgutil import resolve_name
from types import ModuleType, SimpleNamespace
from typing import Any

MEMORY_BYTES = 15 * 2**30


def pretend() -> Any:
    """Let this process believe that it has a GPU; return vLLM's platform for it."""
    sys.modules["vllm._C_stable_libtorch"] = ModuleType("vllm._C_stable_libtorch")  # the kernels
    driver = resolve_name("vllm.third_party.pynvml")
    memory = SimpleNamespace(total=MEMORY_BYTES, free=MEMORY_BYTES, used=0)
    for name, answer in {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": 0,
        "nvmlDeviceGetName": "Tesla T4",
        "nvmlDeviceGetMemoryInfo": memory,
    }.items():
        setattr(driver, name, lambda *_, answer=answer: answer)
    platform = resolve_name("vllm.platforms.cuda:NvmlCudaPlatform")()
    platforms: Any = resolve_name("vllm.platforms")
    platforms._current_platform = platform
    config: Any = resolve_name("vllm.config.vllm")
    config.HAS_TRITON = True  # the CUDA build brings it
    return platform


def describe(model: str, args: dict[str, Any]) -> dict[str, Any]:
    """Return what counts of the configuration that vLLM makes, or why it makes none."""
    try:
        config = resolve_name("vllm:AsyncEngineArgs")(model=model, **args).create_engine_config()
    except (TypeError, ValueError) as error:
        return {"refused": str(error)}
    compilation = config.compilation_config
    return {
        "dtype": str(config.model_config.dtype),
        "compiles": compilation.mode.name,
        "graphs": compilation.cudagraph_mode.name,
        "graph_sizes": compilation.cudagraph_capture_sizes,
        "warms_kernels_up": config.kernel_config.enable_jit_warmup,
        "sequences": config.scheduler_config.max_num_seqs,
        "executor": config.parallel_config.distributed_executor_backend,
        "v2_runner": config.use_v2_model_runner,
        "max_model_len": config.model_config.max_model_len,
        "attention": _attention(config),
        "hash": config.compute_hash(),
    }


def _attention(config: Any) -> dict[str, str]:
    """Return the kinds of attention that this GPU and build can run, and in which steps CUDA graphs may hold them."""
    asked = resolve_name("vllm.v1.attention.selector:AttentionSelectorConfig")(
        head_size=config.model_config.get_head_size(),
        dtype=config.model_config.dtype,
        kv_cache_dtype="auto",
        block_size=None,
    )
    platform = resolve_name("vllm.platforms:current_platform")
    found, _ = platform.get_valid_backends(platform.get_device_capability(), asked)
    return {each.backend.name: each.backend_class.get_builder_cls()._cudagraph_support.name for each in found}


def main(model: str) -> None:
    """Answer every line of standard input."""
    platform = pretend()
    driver: Any = resolve_name("vllm.third_party.pynvml")
    for line in sys.stdin:
        case = json.loads(line)
        driver.nvmlDeviceGetCudaComputeCapability = lambda _, case=case: tuple(case["capability"])
        type(platform).get_device_capability.cache_clear()
        sys.stdout.write(json.dumps(describe(model, case["args"])) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
