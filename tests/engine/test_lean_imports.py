"""What a start of the engine leaves out or does at another time, held against the vLLM and transformers installed.

In processes of their own, which import everything for the first time. A later release may make any of it useless; the
worker would start all the same, only slower.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from local.tiny_model import write_tiny_model

ROOT = Path(__file__).resolve().parents[2]

START = """
import asyncio, gc, json, os, sys, threading
import psutil
from worker import vllm_engine

gc.disable()
told = {}

def watch():
    import torch
    from vllm.v1.engine import async_llm, core
    load, init = async_llm.renderer_from_config, core.EngineCore.__init__

    def loaded(config):
        told["thread"] = threading.current_thread().name
        told["cores"] = [child.name() for child in psutil.Process().children()]
        return load(config)

    def ready(*args, **kwargs):
        init(*args, **kwargs)
        with open(sys.argv[2], "w") as file:
            json.dump([gc.isenabled(), gc.get_freeze_count()], file)

    async_llm.renderer_from_config, core.EngineCore.__init__ = loaded, ready
    told["compiles"] = torch.compile(watch) is not watch
    told["compiler"] = sorted(sys.modules.keys() & {"torch._inductor.lowering", "torch._inductor.compile_fx"})
    told["frozen"] = len(gc.get_objects())

async def main():
    engine = await vllm_engine.VllmEngine.start(sys.argv[1], {"dtype": "float32", "max_model_len": 512}, watch)
    told["warm"] = engine._llm.renderer is engine._llm.input_processor.renderer
    await engine.stop()

asyncio.run(main())
with open(sys.argv[2]) as file:
    told["core_collects"], told["core_frozen"] = json.load(file)
print(json.dumps(told), file=sys.stderr)
os._exit(0)
"""

NO_TOKENIZER = """
import asyncio, json, os, sys
import psutil
from worker import vllm_engine
from worker.errors import EngineDied

def refuse(config):
    raise ValueError("no such tokenizer")

def watch():
    from vllm.v1.engine import async_llm
    async_llm.renderer_from_config = refuse

async def main():
    try:
        await vllm_engine.VllmEngine.start(sys.argv[1], {"dtype": "float32", "max_model_len": 512}, watch)
    except EngineDied as died:
        print(json.dumps([str(died), len(psutil.Process().children())]), file=sys.stderr)

asyncio.run(main())
os._exit(0)
"""

INDEX = """
import json, sys
from worker import imports

with imports._with_kept_index():
    import transformers
from transformers.utils import import_utils

models = transformers.__path__[0] + "/models"
kept = import_utils.define_import_structure
json.dump({
    "is_kept": hasattr(kept, "__wrapped__"),
    "is_the_same": kept(models) == kept.__wrapped__(models),
    "has": [name for name in ("LlamaConfig", "NobodyConfig") if name in dir(transformers)],
    "imports": transformers.AutoConfig.__module__,
}, sys.stderr)
"""


def run(script: str, *arguments: str, **variables: str) -> Any:
    """Run a script in a process of its own and return what it says at the end of its errors."""
    ran = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env=os.environ | variables,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=200,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-3_000:]
    return json.loads(ran.stderr.splitlines()[-1])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny model."""
    return write_tiny_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def started(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what was seen of a start."""
    folder = tmp_path_factory.mktemp("start")
    return run(START, str(model), str(folder / "core.json"), VLLM_RPC_BASE_PATH=str(folder))


def test_no_compiler_is_imported(started: Any) -> None:
    """On the CPU nothing is compiled."""
    assert (started["compiler"], started["compiles"]) == ([], False)


def test_the_tokenizer_is_loaded_once_the_core_is_forked(started: Any) -> None:
    """In a thread, beside the core that loads the model; the engine then has that very renderer."""
    assert started["thread"] == "renderer"
    assert len(started["cores"]) == 1
    assert started["warm"]


def test_a_tokenizer_that_cannot_be_loaded_ends_the_core_too(model: Path, tmp_path: Path) -> None:
    """The core is up by then, and would wait for requests for ever."""
    said, left = run(NO_TOKENIZER, str(model), VLLM_RPC_BASE_PATH=str(tmp_path))
    assert (said, left) == ("vLLM did not start: no such tokenizer", 0)


def test_the_core_collects_its_own_garbage_alone(started: Any) -> None:
    """What was imported before the fork it does not look at; what it makes itself it does not keep for ever."""
    assert started["core_collects"]
    assert started["core_frozen"] > started["frozen"] > 100_000


def test_the_index_of_transformers_is_kept(tmp_path: Path) -> None:
    """Made by the first process, taken by the second, and the same as ever."""
    first = run(INDEX, XDG_CACHE_HOME=str(tmp_path))
    assert first == {
        "is_kept": True,
        "is_the_same": True,
        "has": ["LlamaConfig"],
        "imports": "transformers.models.auto.configuration_auto",
    }
    (file,) = (tmp_path / "tl-fif").iterdir()
    index = json.loads(file.read_text())
    next(modules for needs, modules in index if not needs)["nobody"] = ["NobodyConfig"]
    file.write_text(json.dumps(index))
    second = run(INDEX, XDG_CACHE_HOME=str(tmp_path))
    assert second == first | {"is_the_same": False, "has": ["LlamaConfig", "NobodyConfig"]}
