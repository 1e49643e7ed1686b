"""`python -m local.demo`: a real model's answer arrives token by token, having gone through every part.

Starts the system, runs the real client against it as a user would, and stops everything again. With `--asleep` the GPU
is stopped at first, wakes for the prompt, and stops itself when nobody asks any more.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

import anyio

from local.options import Options, log_to_stderr
from local.run_directory import RunDirectory
from local.server import StartFailed
from local.stack import Addresses, Plan, running
from worker.errors import SettingsError

log = logging.getLogger("local")

PROMPT: Final = "What is the capital of France, and what is it famous for?"

IDLE_MINUTES: Final = "0.25"
"""Idle time after which a demo that began with a stopped GPU ends with one."""

_ROOT: Final = Path(__file__).resolve().parents[1]

_AFTERWARDS: Final = """
To keep it running, type

    {python} -m local

in one terminal, copy url and token out of the line it prints, and in another

    curl -i -H "Authorization: Bearer $TOKEN" -d '{{"prompt": "Name three fruits."}}' "$URL/infer"
    curl "<the Location that it answers with>"
"""


def main() -> int:
    """Run the demo and return the client's exit code."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("prompt", nargs="?", default=PROMPT, help="what to ask (default: %(default)s)")
    Options.add_to(parser)
    arguments = vars(parser.parse_args())
    prompt = arguments.pop("prompt")
    if arguments["asleep"]:
        os.environ.setdefault("TLFIF_IDLE_MINUTES", IDLE_MINUTES)
    log_to_stderr()
    with RunDirectory() as directory:
        try:
            code = anyio.run(_demo, Options(**arguments).plan(directory.path), prompt)
        except (StartFailed, SettingsError) as error:
            raise SystemExit(f"python -m local.demo: {error}") from None
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
    python = min(sys.executable, os.path.relpath(sys.executable), key=len)
    sys.stdout.write(_AFTERWARDS.format(python=python))
    return code


async def _demo(plan: Plan, prompt: str) -> int:
    async with running(plan) as addresses:
        if plan.asleep:
            log.info("the GPU is stopped, and no worker runs")
        log.info("asking: %s\n", prompt)
        code = await _run_client(addresses, "infer", "--temperature", "0", "--", prompt)
        if code == 0 and plan.asleep:
            log.info("nobody asks any more: the GPU stops when its idle time is over")
            code = await _run_client(addresses, "status", "--watch")
        return code


async def _run_client(addresses: Addresses, *command: str) -> int:
    # By the environment, as users do it: command lines can be read by everybody on the machine.
    where = {"TLFIF_URL": addresses.gateway, "TLFIF_TOKEN": addresses.token}
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "client.cli", *command),
        cwd=_ROOT,
        env=os.environ | where,
    )
    return await client.wait()


if __name__ == "__main__":
    sys.exit(main())
