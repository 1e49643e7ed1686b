"""A waker whose Redis, EC2, bucket and clock belong to the test."""

from __future__ import annotations

import redis

from router_lambda.budget import Check, unlimited
from router_lambda.ec2 import Ec2
from router_lambda.gpu import REFUSED_SECONDS, Gpu
from router_lambda.job import GPU_WAKING
from router_lambda.overdue import Overdue
from router_lambda.queue import Moot, Queue
from router_lambda.waker import Stopped, Waker
from tests.router_world import GPU_TAG, Clock, FakeEc2

INVOCATION_SECONDS = 60.0
"""Time that the function has in AWS."""


class Replies(Overdue):
    """Notes what would be written; `does_answer` tells whether S3 takes it, and each answer takes `seconds`."""

    def __init__(self, clock: Clock) -> None:
        super().__init__("tl-fif", lambda: None, clock)
        self.clock = clock
        self.does_answer = True
        self.seconds = 0.0
        self.answered: list[tuple[Moot, str | None]] = []

    def answer(self, job: Moot, refusal: str | None) -> bool:
        """See `Overdue.answer`."""
        self.answered.append((job, refusal))
        self.clock.sleep(self.seconds)
        return self.does_answer


def make_waker(client: redis.Redis, ec2: FakeEc2, clock: Clock, replies: Replies, check: Check = unlimited) -> Waker:
    """Build a waker whose pauses take no time; a refusal is forgotten meanwhile."""

    def pause(seconds: float) -> None:
        assert seconds > REFUSED_SECONDS
        clock.sleep(seconds)
        client.delete(GPU_WAKING)

    reached = Ec2(GPU_TAG, lambda: ec2)
    return Waker(reached, Gpu(reached, client, clock, clock.sleep, check), Queue(client, clock), replies, pause)


def call(waker: Waker, clock: Clock, stopped: Stopped | None = None) -> str:
    """Call it as Lambda does, with a minute to go."""
    end = clock.now + INVOCATION_SECONDS
    return waker(stopped, lambda: end - clock.now)
