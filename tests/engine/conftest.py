"""One real vLLM on the CPU for all engine tests, with the demo's model in float32, whose greedy text is stable."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from local.model import default_model
from local.run_directory import RunDirectory
from worker.vllm_engine import VllmEngine


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def engine() -> AsyncIterator[VllmEngine]:
    """Yield the engine; it starts once and takes some seconds."""
    assert "flask" not in sys.modules, "a test has imported moto here: vLLM would look at flask's proxies and not start"
    with RunDirectory("tl-fif-test-engine-") as directory, pytest.MonkeyPatch.context() as patched:
        patched.setenv("VLLM_RPC_BASE_PATH", str(directory.path))  # its sockets stay behind
        started = await VllmEngine.start(str(default_model()), {"dtype": "float32", "max_model_len": 2_048})
        yield started
        await started.stop()
