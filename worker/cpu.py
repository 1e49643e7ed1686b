"""What this machine's CPU can do, and the engine settings that follow from it.

vLLM's own defaults leave a core idle, start three processes, take bfloat16 on CPUs that emulate it, and use AMX tiles
without asking the kernel, which ends in SIGILL.
"""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

_SYS_ARCH_PRCTL: Final = 158
_ARCH_REQ_XCOMP_PERM: Final = 0x1023
_XFEATURE_XTILEDATA: Final = 18
"""Linux x86-64, Documentation/arch/x86/xstate.rst."""

_KV_CACHE_BYTES: Final = 2**30
"""Room for 46,592 tokens of SmolLM2-135M; left to itself vLLM takes most of the memory that is free."""


@dataclass(frozen=True, slots=True)
class Cpu:
    """Features as `/proc/cpuinfo` names them, and one logical CPU of each physical core that we may use."""

    flags: frozenset[str]
    cores: tuple[int, ...]

    @property
    def has_amx(self) -> bool:
        """Whether the CPU has AMX tiles for bfloat16."""
        return {"amx_tile", "amx_bf16"} <= self.flags

    @property
    def has_bfloat16(self) -> bool:
        """Whether the CPU multiplies bfloat16 in hardware."""
        return "avx512_bf16" in self.flags or self.has_amx


def probe(proc_cpuinfo: Path = Path("/proc/cpuinfo"), topology: Path = Path("/sys/devices/system/cpu")) -> Cpu:
    """Look at the CPU under this process's affinity mask."""
    flags: frozenset[str] = frozenset()
    for line in proc_cpuinfo.read_text().splitlines():
        if line.startswith(("flags", "Features")):
            flags = frozenset(line.partition(":")[2].split())
            break
    first_of_core: dict[str, int] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        siblings = topology / f"cpu{cpu}" / "topology" / "thread_siblings_list"
        core = siblings.read_text().strip() if siblings.exists() else str(cpu)
        first_of_core.setdefault(core, cpu)
    return Cpu(flags, tuple(first_of_core.values()))


def request_amx() -> bool:
    """Ask the kernel for the AMX tile registers, for this process and all that it forks; tell whether it agreed."""
    libc = ctypes.CDLL(None, use_errno=True)
    refused: int = libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA)
    return not refused


def engine_args(cpu: Cpu) -> dict[str, Any]:
    """Return the `AsyncEngineArgs` for this CPU; what the user sets wins.

    float32 where bfloat16 is emulated, which would be slower and less exact. Eager, since compiling costs a minute at
    each start. The in-process executor saves one of vLLM's processes.
    """
    return {
        "dtype": "bfloat16" if cpu.has_bfloat16 else "float32",
        "enforce_eager": True,
        "distributed_executor_backend": "uni",
        "kv_cache_memory_bytes": _KV_CACHE_BYTES,
    }


def environment(cpu: Cpu) -> dict[str, str]:
    """Return the environment that vLLM reads on a CPU; what the user sets wins.

    All cores bound: an unbound engine is slower and erratic. Its threads spin only briefly where they wait for each
    other: with libgomp's default they hold the cores that the rest of the system needs, and beside one other busy
    process the engine then stands still (docs/adr/ADR-2026-11-23-engine-on-the-cpu.md has the figures). No
    `torch.compile` anywhere, because the first request for logprobs would compile for ten seconds while every other one
    waits, and would kill the engine on a machine without a C++ compiler.
    """
    return {
        "VLLM_CPU_OMP_THREADS_BIND": ",".join(map(str, cpu.cores)),
        "GOMP_SPINCOUNT": "2000",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "TORCH_COMPILE_DISABLE": "1",
    }
