"""The smoke test of a deployment: one prompt, all the way to its reply.

    python -m tests.e2e.smoke --url https://… --artifacts smoke/

Needs the client and httpx alone. See docs/smoke.md.
"""

from __future__ import annotations

import asyncio
import io
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from client.errors import InvalidSettings
from client.quoting import quote
from tests.e2e.options import Options
from tests.e2e.record import REPLY, RESULT, Record
from tests.e2e.verdict import EXIT_CODES, Outcome, Verdict
from tests.e2e.walk import Walk, World


def main(
    argv: Sequence[str] | None = None,
    environment: Mapping[str, str] = os.environ,
    world: World | None = None,
    now: Callable[[], float] = time.time,
) -> int:
    """Run the smoke test and return its exit code; `now` tells Unix seconds."""
    world = world or World()
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a character that cannot be shown must not end the walk
    try:
        options = Options.read(argv, environment)
        with Record(options.artifacts, options.summary, sys.stdout, world.clock) as record:
            return asyncio.run(_run(options, record, world, now))
    except InvalidSettings as error:
        for problem in error.problems:
            sys.stderr.write(f"smoke: {problem}\n")
        return EXIT_CODES[Verdict.SETTINGS]


async def _run(options: Options, record: Record, world: World, now: Callable[[], float]) -> int:
    """Walk, and write down what came of it, whatever that is."""
    began = now()
    walk = Walk(options, record, world)
    outcome = Outcome(Verdict.FAILED, "the smoke test itself broke; its trace is on stderr")
    exit_code = EXIT_CODES[Verdict.FAILED]
    interruption = Interruption()
    record.say(f"asking {options.url}")
    try:
        outcome = await walk.run()
        exit_code = EXIT_CODES[outcome.verdict]
    except asyncio.CancelledError:
        if interruption.signal is None:
            raise
        outcome = Outcome(Verdict.INTERRUPTED, f"the smoke test was ended by {interruption.signal.name}")
        exit_code = 128 + interruption.signal
    finally:
        _write(options, record, walk, outcome, began)
    return exit_code


class Interruption:
    """The first SIGINT or SIGTERM cancels the task, which then cancels its job; the next one cancels that, too.

    Attributes:
        signal: the first one that came, if any.
    """

    def __init__(self) -> None:
        self.signal: signal.Signals | None = None
        task = asyncio.current_task()
        assert task

        def interrupt(number: signal.Signals) -> None:
            self.signal = self.signal or number
            task.cancel()

        for number in (signal.SIGINT, signal.SIGTERM):
            # Until the loop is closed: what is being written then is not cut off.
            asyncio.get_running_loop().add_signal_handler(number, interrupt, number)


def _write(options: Options, record: Record, walk: Walk, outcome: Outcome, began: float) -> None:
    warning = "WARNING: " if outcome.verdict is Verdict.UNSTABLE else ""
    record.say(f"{warning}{outcome.verdict}: {outcome.reason}")
    if walk.reply:
        record.keep(REPLY, walk.reply.document)
    record.keep(RESULT, _result(options, walk, outcome, began))
    record.summarise(_summary(options, walk, outcome))


def _result(options: Options, walk: Walk, outcome: Outcome, began: float) -> dict[str, Any]:
    reply = walk.reply
    return {
        "verdict": outcome.verdict,
        "reason": outcome.reason,
        "seconds": _rounded(reply.elapsed_seconds if reply and reply.is_final else None),
        "first_text_seconds": _rounded(walk.first_text_seconds),
        "unstable_seconds": options.limits.unstable_seconds,
        "deadline_seconds": options.limits.deadline_seconds,
        "gpu": walk.found.state if walk.found else None,
        "job": walk.submission.id if walk.submission else None,
        "status": reply.status if reply else None,
        "model": reply.document.get("model") if reply else None,
        "answers": walk.tally.counts(),
        "url": options.url,
        "started_at": datetime.fromtimestamp(began, UTC).isoformat(timespec="seconds"),
    }


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)


def _summary(options: Options, walk: Walk, outcome: Outcome) -> str:
    lines = [f"### Smoke test: {outcome.verdict}", "", f"{outcome.reason[:1].upper()}{outcome.reason[1:]}.", ""]
    if walk.found:
        lines.append(f"- the GPU was {quote(walk.found.state)} when the prompt was sent to {options.url}")
    if walk.first_text_seconds is not None:
        lines.append(f"- first text after {walk.first_text_seconds:.1f} s")
    if walk.submission:
        lines.append(f"- job {walk.submission.id}")
    limits = options.limits
    lines.append(f"- above {limits.unstable_seconds:g} s a warning, above {limits.deadline_seconds:g} s a failure")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
