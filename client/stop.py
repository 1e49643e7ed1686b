"""`tlfif stop`: cancels a job, or stops the GPU."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final, TextIO

from client.exits import ExitCode

if TYPE_CHECKING:  # as in client.infer
    from client.session import Client

_WORDS: Final = {
    "stopping": "the GPU stops as soon as no job is running",
    "stopped": "the GPU is down already",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `tlfif stop` takes."""
    parser.add_argument(
        "id", nargs="?", help="the job to cancel; without one, the GPU stops as soon as no job is running"
    )


async def run(client: Client, job_id: str | None, out: TextIO) -> ExitCode:
    """Cancel the job, or without an id stop the GPU, and say on `out` what comes of it.

    Raises:
        ClientError: nothing is known to come of it.
    """
    if job_id is None:
        status = await client.stop()
        print(f"{status}: {_WORDS[status]}", file=out, flush=True)
    else:
        await client.cancel(job_id)
        print(f"cancelling {job_id}", file=out, flush=True)
    return ExitCode.DONE
