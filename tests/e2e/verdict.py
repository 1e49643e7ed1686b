"""Decides what a smoke test says of a deployment."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from client.errors import ClientError, DeadlinePassed, InvalidSettings, LoginRefused, NotAuthorized, OverBudget
from client.quoting import quote
from client.reply import Snapshot
from tests.e2e.tally import FailedFast

UNSTABLE_SECONDS: Final = 90.0
"""A reply that takes longer is late, which is a warning: what a cold start may take."""

DEADLINE_SECONDS: Final = 120.0
"""A reply that takes longer has failed."""


class Verdict(StrEnum):
    """What `result.json` calls it."""

    PASSED = "passed"
    UNSTABLE = "unstable"
    FAILED = "failed"
    SETTINGS = "wrong settings"
    INTERRUPTED = "interrupted"


EXIT_CODES: Final = {Verdict.PASSED: 0, Verdict.UNSTABLE: 0, Verdict.FAILED: 1, Verdict.SETTINGS: 2}
"""What ends the program; an interrupted one ends with 128 and the signal's number, as a shell has it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How long the way from the prompt to the final reply may take, in seconds."""

    unstable_seconds: float = UNSTABLE_SECONDS
    deadline_seconds: float = DEADLINE_SECONDS


@dataclass(frozen=True, slots=True)
class Outcome:
    """A verdict and a sentence that says why."""

    verdict: Verdict
    reason: str


def judge(reply: Snapshot, limits: Limits) -> Outcome:
    """Judge a final reply by what it says and by when it was there."""
    seconds = reply.elapsed_seconds
    took = f"the reply took {seconds:.1f} s"
    if reply.status != "done":
        why = f": {quote(reply.error.code)}, {quote(reply.error.message)}" if reply.error else ""
        return Outcome(Verdict.FAILED, f"the job ended as {reply.status}{why}")
    if not reply.text.strip():
        return Outcome(Verdict.FAILED, "the reply has no text; see the worker's log for what the model did")
    if seconds > limits.deadline_seconds:
        return Outcome(Verdict.FAILED, f"{took}, more than {limits.deadline_seconds:g} s")
    if seconds > limits.unstable_seconds:
        return Outcome(Verdict.UNSTABLE, f"{took}, more than {limits.unstable_seconds:g} s")
    return Outcome(Verdict.PASSED, took)


def judge_error(error: ClientError | FailedFast, limits: Limits, gpu: str = "") -> Outcome:
    """Judge a walk that came to no final reply; `gpu` says what the GPU was doing, if that is known."""
    verdict, reason = Verdict.FAILED, str(error)
    match error:
        case InvalidSettings():
            verdict = Verdict.SETTINGS
        case OverBudget():
            # The router did what it should, and the code before it would have done the same.
            verdict, reason = Verdict.UNSTABLE, f"nothing was asked of the GPU: {error}"
        case DeadlinePassed():
            reason = f"no final reply within {limits.deadline_seconds:g} s" + (f"; {gpu}" if gpu else "")
        case NotAuthorized():
            reason = (
                f"{error}; the smoke test takes TLFIF_TOKEN, or signs in as TLFIF_USERNAME with TLFIF_PASSWORD: "
                "check that they belong to the user pool behind this URL"
            )
        case LoginRefused():
            reason = f"{error} (TLFIF_USERNAME, TLFIF_PASSWORD and TLFIF_COGNITO_CLIENT_ID say who signs in)"
        case FailedFast():
            reason = f"failed fast: {error}"
    return Outcome(verdict, reason)
