"""What /infer, /stop and /status share: who may call and how often, and what callers hear when something is away."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from router_lambda import logs
from router_lambda.budget import OVER_BUDGET
from router_lambda.ec2 import Ec2Unavailable
from router_lambda.http import Problem, Request
from router_lambda.identity import Identity
from router_lambda.queue import QueueUnavailable, translated
from router_lambda.throttle import BURST, INTERVAL_SECONDS, Allowance, Throttle, rate_key, retry_after


class Admission:
    """Who may call, and how often."""

    def __init__(self, identity: Identity, throttle: Throttle) -> None:
        self._identity = identity
        self._throttle = throttle

    def subject(self, request: Request) -> str:
        """See `Identity.subject`."""
        return self._identity.subject(request)

    def admit(self, sub: str, route: Allowance) -> None:
        """Count a call of a user.

        Raises:
            Problem: 429, it is one too many.
            QueueUnavailable: Redis, which counts, cannot be reached.
        """
        with translated():
            wait = self._throttle.take(rate_key(sub, route))
        if wait:
            logs.count("RateLimitBreaches", route=route)
            detail = f"{BURST} calls at once and one more every {INTERVAL_SECONDS} s; wait Retry-After seconds"
            raise Problem(429, detail, headers={"retry-after": str(retry_after(wait))})


@contextmanager
def explained(metric: str) -> Iterator[None]:
    """Turn what is away into a 503, and a budget that is used up into a 402, which say when to come back.

    Redis being away is counted as `metric`.

    Raises:
        Problem: instead of `QueueUnavailable` and `Ec2Unavailable`.
    """
    try:
        yield
    except QueueUnavailable as error:
        logs.count(metric, message=f"{metric}=1: {error}")
        detail = "the queue cannot be reached; send the request again after Retry-After seconds"
        raise Problem.try_later(detail) from error
    except Ec2Unavailable as error:
        # By the code: others hear of a refusal through Redis, which knows no classes.
        status = 402 if error.code == OVER_BUDGET else 503
        raise Problem(status, str(error), headers={"retry-after": str(error.retry_after)}) from error
