"""The engine settings that follow from a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest

from worker import cpu

SKYLAKE = frozenset({"avx512f"})
ZEN5 = SKYLAKE | {"avx512_bf16"}
SAPPHIRE_RAPIDS = ZEN5 | {"amx_tile", "amx_bf16"}


@pytest.mark.parametrize(("flags", "dtype"), [(SKYLAKE, "float32"), (ZEN5, "bfloat16"), (SAPPHIRE_RAPIDS, "bfloat16")])
def test_dtype_follows_the_hardware(flags: frozenset[str], dtype: str) -> None:
    """bfloat16 only where it is not emulated."""
    assert cpu.engine_args(cpu.Cpu(flags, (0, 1)))["dtype"] == dtype


def test_amx_needs_tiles_and_bfloat16() -> None:
    """Tiles alone (for int8) do not make vLLM's bfloat16 kernels run on them."""
    assert cpu.Cpu(SAPPHIRE_RAPIDS, (0,)).has_amx
    assert not cpu.Cpu(ZEN5 | {"amx_tile"}, (0,)).has_amx


def test_all_cores_are_bound() -> None:
    """The engine gets every core, holds none while it waits, and compiles nothing in the middle of a request."""
    variables = cpu.environment(cpu.Cpu(ZEN5, (0, 2, 4)))
    assert variables["VLLM_CPU_OMP_THREADS_BIND"] == "0,2,4"
    assert int(variables["GOMP_SPINCOUNT"]) <= 2_000
    assert variables["TORCH_COMPILE_DISABLE"] == "1"


def test_probe_counts_physical_cores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two hyperthreads one is used; CPUs outside the affinity mask are not."""
    (tmp_path / "cpuinfo").write_text("processor : 0\nflags\t\t: fpu avx512_bf16\nprocessor : 1\nflags : other\n")
    for number in range(4):
        folder = tmp_path / f"cpu{number}" / "topology"
        folder.mkdir(parents=True)
        (folder / "thread_siblings_list").write_text(f"{number % 2},{number % 2 + 2}\n")
    monkeypatch.setattr("os.sched_getaffinity", lambda _pid: {0, 1, 2})
    probed = cpu.probe(tmp_path / "cpuinfo", tmp_path)
    assert probed == cpu.Cpu(frozenset({"fpu", "avx512_bf16"}), (0, 1))


def test_probe_of_this_machine() -> None:
    """The real files are there and name at least one core."""
    assert cpu.probe().cores


def test_asking_for_amx_agrees_with_the_cpu() -> None:
    """The kernel grants tiles where the CPU has them, and only there."""
    assert cpu.request_amx() == cpu.probe().has_amx
