"""A bucket with the documents under guard/, and a budget killer whose EC2, bucket and clock belong to the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from router_lambda.budget import BLOCK_KEY, SPEND_KEY, month_of
from router_lambda.budget_killer import Block, Killer
from router_lambda.ec2 import Ec2
from tests.router_world import GPU_TAG, NOW, Clock, FakeEc2

CAP = 20.0
INVOCATION_SECONDS = 60.0
"""Time that the killer has in AWS."""


@dataclass
class Guarded:
    """The bucket, as boto3's client of S3 and as `router_lambda.budget.Guard` reads it.

    Attributes:
        objects: what lies there, by key.
        failure: what the next puts raise.
        puts: how often somebody wrote.
    """

    objects: dict[str, bytes] = field(default_factory=dict)
    failure: Exception | None = None
    puts: int = 0

    def spend(self, eur: float, at: float = NOW) -> None:
        """Write what the cost publisher writes."""
        self.objects[SPEND_KEY] = json.dumps({"month": month_of(at), "spend_eur": eur, "at": at}).encode()

    def put_object(self, Bucket: str, Key: str, Body: bytes, ContentType: str) -> None:  # noqa: N803 - boto3's names
        """Write an object."""
        self.puts += 1
        if self.failure is not None:
            raise self.failure
        assert (Bucket, ContentType) == ("tl-fif", "application/json")
        self.objects[Key] = Body

    def read(self) -> tuple[bytes | None, bytes | None]:
        """See `router_lambda.budget.Guard.read`."""
        return self.objects.get(SPEND_KEY), self.objects.get(BLOCK_KEY)

    @property
    def block(self) -> dict[str, Any]:
        """The killer's document."""
        found: dict[str, Any] = json.loads(self.objects[BLOCK_KEY])
        return found


def make_killer(
    guarded: Guarded, ec2: FakeEc2, clock: Clock, sleep: Callable[[float], None] | None = None, cap_eur: float = CAP
) -> Killer:
    """Build a killer whose pauses take no time."""
    return Killer(cap_eur, Block("tl-fif", lambda: guarded), Ec2(GPU_TAG, lambda: ec2), clock, sleep or clock.sleep)


def kill(killer: Killer, clock: Clock, reason: str = "AWS Budgets") -> list[str]:
    """Call it as Lambda does, with a minute to go."""
    end = clock.now + INVOCATION_SECONDS
    return killer(reason, lambda: end - clock.now)
