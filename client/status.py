"""`tlfif status`: tells what the GPU does, once or as long as it does something."""

from __future__ import annotations

import argparse
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, TextIO

from client.errors import Busy
from client.exits import ExitCode
from client.gpu import STOPPED, Status
from client.live_line import LiveLine
from client.pacing import STATUS_SECONDS, status_again
from client.quoting import quote

if TYPE_CHECKING:  # as in client.infer
    from client.session import Client


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what `tlfif status` takes."""
    parser.add_argument(
        "--watch",
        action="store_true",
        help=f"ask again every {STATUS_SECONDS:g} s, until the GPU has stopped or Ctrl-C",
    )
    parser.add_argument(
        "--output",
        choices=["text", "json"],
        default="text",
        help="print a line about the GPU, or the service's answer as JSON (default text)",
    )


async def run(client: Client, out: TextIO, *, watch: bool, output: str) -> ExitCode:
    """Say on `out` what the GPU does; with `watch`, until it has stopped.

    A terminal has one line of text that is rewritten, anything else a line for each change.

    Raises:
        ClientError: the service does not tell; while watching, 429 is waited out.
    """
    words = summary if output == "text" else _document
    if not watch:
        print(words(await client.status()), file=out, flush=True)
        return ExitCode.DONE
    async with aclosing(_statuses(client)) as statuses:
        if output == "text" and out.isatty():
            await _rewrite(statuses, out)
        else:
            await _list_changes(statuses, words, out)
    return ExitCode.DONE


def summary(status: Status) -> str:
    """Return the line about this status."""
    details = [
        quote(status.model) if status.state == "ready" and status.model else status.activity,
        None if status.eta_seconds is None else f"ready in about {status.eta_seconds:.0f} s",
        _jobs(status),
        None if status.idle_seconds is None else f"stops in {_duration(status.idle_seconds)}",
    ]
    said = ", ".join(detail for detail in details if detail)
    line = f"{quote(status.state)}: {said}" if said else quote(status.state)
    return f"{line}; {quote(status.problem)}" if status.problem else line


def _jobs(status: Status) -> str | None:
    running, waiting = status.running, status.waiting
    if not running and not waiting:
        return "idle" if status.state == "ready" else None
    runs = f"{_counted(running)} {'runs' if running == 1 else 'run'}"
    wait = "waits" if waiting == 1 else "wait"
    if not running:
        return f"{_counted(waiting)} {wait}"
    return f"{runs}, {waiting} {wait}" if waiting else runs


def _counted(jobs: int) -> str:
    return "1 job" if jobs == 1 else f"{jobs} jobs"


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _document(status: Status) -> str:
    """Return what was received. In ASCII, so that no locale can damage it."""
    return json.dumps(status.document)


async def _statuses(client: Client) -> AsyncGenerator[Status, None]:
    """Yield what the GPU does, at intervals, until it has stopped."""
    while True:
        try:
            status = await client.status()
        except Busy as error:
            if error.status != HTTPStatus.TOO_MANY_REQUESTS:
                raise
            wait = status_again(error)
        else:
            yield status
            if status.state == STOPPED:
                return
            wait = status_again()
        await client.sleep(wait)


async def _rewrite(statuses: AsyncGenerator[Status, None], out: TextIO) -> None:
    line = LiveLine(out)
    try:
        async for status in statuses:
            line.show(summary(status))
    finally:
        line.keep()


async def _list_changes(statuses: AsyncGenerator[Status, None], words: Callable[[Status], str], out: TextIO) -> None:
    shown: Status | None = None
    async for status in statuses:
        if shown is None or not status.is_like(shown):
            print(words(status), file=out, flush=True)
            shown = status
