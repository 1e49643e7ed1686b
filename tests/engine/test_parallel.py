"""Models that are bigger than one GPU: vLLM's own parallelism is reached through TLFIF_ENGINE_ARGS.

This machine has no GPU, so what is shown is that the arguments arrive: in vLLM's own arguments and, where no device is
needed for it, in the configuration that the engine is built from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from worker.errors import SettingsError
from worker.settings import Settings
from worker.vllm_engine import VllmEngine

PARALLEL = {"tensor_parallel_size": 2, "pipeline_parallel_size": 2, "distributed_executor_backend": "ray"}


@pytest.fixture(autouse=True)
def imported_by_the_adapter(engine: VllmEngine) -> None:
    """Let the adapter import vLLM first."""


def settings(monkeypatch: pytest.MonkeyPatch, args: dict[str, Any]) -> Settings:
    """Return the settings of a worker with these engine arguments."""
    monkeypatch.setenv("TLFIF_REDIS_URL", "redis://unused")
    monkeypatch.setenv("TLFIF_BUCKET", "tl-fif")
    monkeypatch.setenv("TLFIF_MODEL", "some/model")
    monkeypatch.setenv("TLFIF_ENGINE_ARGS", json.dumps(args))
    return Settings.from_environment()


async def test_the_arguments_reach_vllm(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Two GPUs for each layer, two machines one behind the other, and Ray to reach the second one."""
    from vllm import AsyncEngineArgs  # noqa: PLC0415 - see `imported_by_the_adapter`

    seen: list[AsyncEngineArgs] = []

    def look(self: AsyncEngineArgs) -> None:
        seen.append(self)
        raise ValueError("no further")

    monkeypatch.setattr(AsyncEngineArgs, "create_engine_config", look)
    with pytest.raises(SettingsError, match="no further"):
        await VllmEngine.start(str(tmp_path), settings(monkeypatch, PARALLEL).engine_args)

    assert {name: getattr(seen[0], name) for name in PARALLEL} == PARALLEL


def test_two_by_two_are_four_processes() -> None:
    """The same without Ray, which is not installed beside the CPU's vLLM."""
    from vllm.config import ParallelConfig  # noqa: PLC0415

    assert ParallelConfig(**PARALLEL | {"distributed_executor_backend": "mp"}).world_size == 4


async def test_what_vllm_does_not_know_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """With the setting's name."""
    args = settings(monkeypatch, {"tensor_paralel_size": 2}).engine_args
    with pytest.raises(SettingsError, match=r"TLFIF_ENGINE_ARGS.*tensor_paralel_size"):
        await VllmEngine.start(str(tmp_path), args)
