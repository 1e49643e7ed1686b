"""The budget killer: stops every GPU when the month's budget is used up, and sees to it that none is started again.

SNS calls it for AWS Budgets, at 100 % of the budget, and for the alarm on the cost publisher's `CurrentSpendEUR`. It
first writes `guard/block.json`, at which every start looks (`router_lambda.budget`), and then stops what is up. A start
that had looked just before lands within `START_SECONDS`, and EC2 may show it late: so it goes on looking for
`WATCH_SECONDS`, and until nothing is up. It needs nothing but S3 and EC2, and any number of runs do the same as one.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from functools import cache, cached_property
from typing import Any, Final

from router_lambda import logs
from router_lambda.aws import make_client
from router_lambda.budget import BLOCK_KEY, block_end
from router_lambda.ec2 import Ec2, Ec2Unavailable, Instance
from router_lambda.gpu import CALL_SECONDS, SETTLED_SECONDS, START_SECONDS
from router_lambda.heartbeat import read_object
from router_lambda.watch_settings import KillerSettings

WATCH_SECONDS: Final = float(START_SECONDS + SETTLED_SECONDS)
"""How long to look for starts that were let through before the block."""

PAUSE_SECONDS: Final = 2.0
"""Time between two looks; EC2 does not stop an instance that is just being started."""

LOOK_SECONDS: Final = 2.0 * CALL_SECONDS
"""Longest that a look takes with one instance to stop."""

CONNECT_SECONDS: Final = 1.0
READ_SECONDS: Final = 3.0
ATTEMPTS: Final = 3


class KillFailed(Exception):
    """Not all was done. Lambda counts it as an error and SNS calls again; the message says what to do by hand."""


def _client() -> Any:
    return make_client("s3", connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts=ATTEMPTS)


class Block:
    """Writes `guard/block.json` into one bucket."""

    def __init__(self, bucket: str, make_client: Callable[[], Any] = _client) -> None:
        self._bucket = bucket
        self._make_client = make_client

    @cached_property
    def _s3(self) -> Any:
        return self._make_client()

    def write(self, cap_eur: float, now: float, reason: str) -> None:
        """Let nothing be started until the block of `now`, in Unix seconds, is over or the cap is raised.

        Raises:
            Exception: whatever boto3 raises.
        """
        document = {"cap_eur": cap_eur, "at": now, "until": block_end(now), "reason": reason}
        self._s3.put_object(
            Bucket=self._bucket, Key=BLOCK_KEY, Body=json.dumps(document).encode(), ContentType="application/json"
        )


class Killer:
    """Blocks what could start and stops what is up; `cap_eur` is the budget that is used up."""

    def __init__(
        self,
        cap_eur: float,
        block: Block,
        ec2: Ec2,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Take the parts; `clock` gives Unix seconds, and `sleep` waits for so many."""
        self._cap_eur = cap_eur
        self._block = block
        self._ec2 = ec2
        self._clock = clock
        self._sleep = sleep

    def __call__(self, reason: str, seconds_left: Callable[[], float]) -> list[str]:
        """Do it; return the ids of the instances that were stopped.

        `reason` goes into the block, and `seconds_left` is the time that this invocation has.

        Raises:
            KillFailed: there is no block, or something may still be up. All that could be done was.
        """
        problems = self._write_block(reason)
        blocked_at = self._clock()
        stopped: list[str] = []
        while True:
            is_last = self._clock() - blocked_at >= WATCH_SECONDS
            trouble = self._look(stopped, reason)
            if not trouble and is_last:
                break
            if seconds_left() < PAUSE_SECONDS + LOOK_SECONDS:
                problems += trouble or ["nobody has looked for long enough whether a GPU was just being started"]
                break
            self._sleep(PAUSE_SECONDS)
        if problems:
            raise KillFailed("; ".join(problems))
        return stopped

    def _write_block(self, reason: str) -> list[str]:
        """Write the block; return what is wrong if that fails."""
        try:
            self._block.write(self._cap_eur, self._clock(), reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, what runs has to be stopped all the same
            logs.line(event="block not written", reason=f"{type(error).__name__}: {error}")
            return [f"{BLOCK_KEY} could not be written ({type(error).__name__}), so that a GPU may be started again"]
        return []

    def _look(self, stopped: list[str], reason: str) -> list[str]:
        """Stop each instance that is up, whatever becomes of the others; return what is not known to be down.

        Those that EC2 stops are added to `stopped`; they are looked at again, as its list may be late.
        """
        try:
            up = [each for each in self._ec2.find() if each.is_up]
        except Ec2Unavailable as error:
            return [f"nobody knows which GPUs run ({error.code}); look at EC2, and stop them by hand"]
        return [self._stop(each, stopped, reason) for each in up]

    def _stop(self, instance: Instance, stopped: list[str], reason: str) -> str:
        """Stop an instance; return what to do if it stays up."""
        why = "does not stop"
        try:
            self._ec2.stop([instance.id])
        except Ec2Unavailable as error:
            why = error.code
        else:
            if instance.id not in stopped:
                logs.count("BudgetStops", instance=instance.id, reason=reason)
                stopped.append(instance.id)
        return f"{instance.id} is {instance.state} ({why}); stop it by hand"


def read_reason(event: Mapping[str, Any]) -> str:
    """Return who called, by SNS's event. What is none of theirs stops the GPUs as well: better once too often."""
    try:
        sns = event["Records"][0]["Sns"]
        subject, message = str(sns.get("Subject")), str(sns["Message"])
    except (AttributeError, IndexError, KeyError, TypeError):
        return "an unknown event"
    if "AlarmName" in read_object(message):
        return "CloudWatch alarm"
    return "AWS Budgets" if "AWS Budget" in subject + message else "an unknown event"


def build(
    settings: KillerSettings, clock: Callable[[], float] = time.time, sleep: Callable[[float], None] = time.sleep
) -> Killer:
    """Put the killer together."""
    return Killer(settings.budget_eur, Block(settings.bucket), Ec2(settings.gpu_tag), clock, sleep)


@cache
def _killer() -> Killer:
    return build(KillerSettings.from_environment(os.environ))


def handler(event: Mapping[str, Any], context: Any) -> dict[str, Any]:
    """Lambda's entry point, for SNS.

    Raises:
        KillFailed: see `Killer`.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    reason = read_reason(event)
    logs.line(event="budget used up", reason=reason)
    return {"stopped": _killer()(reason, lambda: context.get_remaining_time_in_millis() / 1e3)}
