"""`python -m local`: exit 0 after a signal, 1 when a part did not come up; a second one ends all at once."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import sys
from collections.abc import Sequence
from typing import Final

import anyio

from local.options import Options, log_to_stderr
from local.run_directory import RunDirectory
from local.server import StartFailed
from local.stack import WORKER, Plan, running
from worker.errors import SettingsError

log = logging.getLogger("local")

_SIGN_IN: Final = """to sign in again when the token ends, in an hour, with the password in the line above:
    TLFIF_URL=%s TLFIF_COGNITO_URL=%s TLFIF_COGNITO_CLIENT_ID=%s TLFIF_USERNAME=%s tlfif login"""


def main(worker: Sequence[str] = WORKER) -> int:
    """Run the system, with `worker` as the worker's command, until a signal comes; return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="Runs the whole system on this machine, on loopback only: Redis, S3, an emulated Cognito and "
        "EC2, the worker with its model, and the gateway. Prints one line of JSON with their addresses and a token "
        "once everything is ready, shows progress on standard error, and runs until Ctrl-C or SIGTERM; a second one "
        "ends it at once.",
        epilog="TLFIF_MODEL names another model (a folder, a GGUF file or a hub id); TLFIF_ENGINE_ARGS and "
        "the worker's other settings are passed on.",
    )
    Options.add_to(parser)
    options = Options(**vars(parser.parse_args()))
    log_to_stderr()
    with RunDirectory() as directory:
        try:
            anyio.run(_serve, options.plan(directory.path, worker))
        except (StartFailed, SettingsError) as error:
            raise SystemExit(f"python -m local: {error}") from None
        except KeyboardInterrupt:  # during the conversion of a model, before there was anything to stop
            return 128 + signal.SIGINT
    return 0


async def _serve(plan: Plan) -> None:
    with anyio.CancelScope() as everything:
        _on_signals(everything)
        async with running(plan) as addresses:
            sys.stdout.write(addresses.to_json() + "\n")
            sys.stdout.flush()
            log.info("ready; Ctrl-C stops everything")
            cognito = addresses.cognito
            log.info(_SIGN_IN, addresses.gateway, cognito.url, cognito.client_id, cognito.username)
            await anyio.sleep_forever()
    log.info("everything is stopped")


def _on_signals(everything: anyio.CancelScope) -> None:
    def stop(number: int) -> None:
        if everything.cancel_called:
            # Our end is the children's end, and the janitor removes the files: nothing has to be waited for.
            os._exit(128 + number)
        log.info("stopping; once more ends everything at once")
        everything.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop, number)


if __name__ == "__main__":
    sys.exit(main())
