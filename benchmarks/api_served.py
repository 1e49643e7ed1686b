"""One engine behind two ports: vLLM's OpenAI app by itself, and as the worker serves it. For `benchmarks.api`.

    python -m benchmarks.api_served MODEL [--args JSON]

Prints `{"alone": port, "ours": port}` once both answer; the key of the second is `KEY`.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import sys
from typing import Final

import anyio
from starlette.types import ASGIApp

from worker import http
from worker.health import Health
from worker.log import configure_logging
from worker.openai_api import OpenAiApi
from worker.places import Places
from worker.pulse import Pulse
from worker.queue import JobQueue
from worker.run import Services
from worker.store import ReplyStore
from worker.vllm_engine import VllmEngine

KEY: Final = "benchmark"
PLACES: Final = 64


async def _serve(model: str, args: dict[str, object]) -> None:
    engine = await VllmEngine.start(model, args, openai=True)
    app = await engine.openai_app(Pulse())
    # Neither Redis nor S3 is asked by a request.
    services = Services(engine, JobQueue.from_url("redis://127.0.0.1:1", "api"), ReplyStore(None, "none"), Health())
    ours = OpenAiApi(app, services, Places(PLACES), [hashlib.sha256(KEY.encode()).digest()])
    apps: dict[str, ASGIApp] = {"alone": app, "ours": ours}
    listeners = {name: http.bind(0) for name in apps}
    async with anyio.create_task_group() as tasks:
        for name, listener in listeners.items():
            tasks.start_soon(http.serve, listener, dict, apps[name])
        print(json.dumps({name: each.getsockname()[1] for name, each in listeners.items()}), flush=True)


def main(arguments: list[str]) -> int:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.api_served", description="Serves one engine twice.")
    parser.add_argument("model")
    parser.add_argument("--args", type=json.loads, default={})
    options = parser.parse_args(arguments)
    configure_logging()
    asyncio.run(_serve(options.model, options.args))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
