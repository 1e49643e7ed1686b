"""The cost publisher Lambda: every 15 minutes, says what the month has cost so far.

It puts the sources of `router_lambda.cost` together, shows the sum as CloudWatch's `TLFIF/Cost` `CurrentSpendEUR`, and
writes it to `guard/spend.json`, which those read who start GPUs. The bill and the exchange rate may be missing, and are
replaced; the GPU's seconds may not, as a spend without the GPU would be a lie, and nobody starts one without a spend.

The sources are asked side by side, so that a run takes as long as the slowest of them, and the two calls of S3 around
it. The clients are made in Lambda's init phase, which no event waits for.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any, Final, TypeVar

from router_lambda import cost_explorer, exchange_rate, logs
from router_lambda.aws import make_client
from router_lambda.budget import SPEND_KEY
from router_lambda.cost import DAY_SECONDS, Bill, Prices, spend
from router_lambda.cost_explorer import CostExplorerFailed
from router_lambda.exchange_rate import Rate, RateUnavailable
from router_lambda.settings import RouterConfigError
from router_lambda.spend import MOST_BYTES, Memory, document
from router_lambda.watch_settings import CostSettings

NAMESPACE: Final = "TLFIF/Cost"

CONNECT_SECONDS: Final = 0.4
READ_SECONDS: Final = 0.5
"""Of S3 and CloudWatch, which are near; there is one attempt, as Lambda repeats what failed a minute later."""

DEADLINE_SECONDS: Final = 1.8
"""Longest wait for all that is asked. With S3's two limits for the document it leaves room below Lambda's 3 s."""

METER_SECONDS: Final = 600.0
"""How late in a day the first of its GPU seconds have to be in CloudWatch: they are there after a minute or two."""

_Had = TypeVar("_Had")


class GpuSecondsUnavailable(Exception):
    """CloudWatch did not say how long GPUs ran this month; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Clients:
    """boto3's clients, and what asks the ECB at a time in Unix seconds."""

    s3: Any
    cloudwatch: Any
    cost_explorer: Any
    ask_rate: Callable[[float], Rate] = exchange_rate.ask

    @classmethod
    def make(cls) -> Clients:
        """Make those of AWS."""
        s3, cloudwatch = (
            make_client(service, connect_seconds=CONNECT_SECONDS, read_seconds=READ_SECONDS, attempts=1)
            for service in ("s3", "cloudwatch")
        )
        return cls(s3, cloudwatch, cost_explorer.client())


class Publisher:
    """Publishes what `settings` say; `clock` gives Unix seconds."""

    def __init__(self, settings: CostSettings, clients: Clients, clock: Callable[[], float] = time.time) -> None:
        self._settings = settings
        self._clients = clients
        self._clock = clock

    def publish(self) -> dict[str, Any]:
        """Publish once; return the document without what is only kept for the next run.

        Raises:
            GpuSecondsUnavailable: nobody knows how long GPUs ran; nothing is published.
            botocore.exceptions.ClientError, BotoCoreError: S3 did not take the document; the metric is published.
        """
        at = self._clock()
        now = datetime.fromtimestamp(at, UTC)
        # Not by `with`, which would wait for a thread that hangs.
        threads = ThreadPoolExecutor(4, "source")
        try:
            remembered = threads.submit(self._remember)
            metered = threads.submit(self._gpu_seconds, now)
            billed = threads.submit(self._ask_bill, now, remembered, metered)
            rated = threads.submit(self._ask_rate, now, remembered)
            asked: tuple[Future[Any], ...] = (remembered, metered, billed, rated)
            wait(asked, DEADLINE_SECONDS)
        finally:
            threads.shutdown(wait=False)
        gpu_seconds = _metered(metered)
        memory = remembered.result() if remembered.done() else Memory()
        memory = _with_rate(_with_bill(memory, billed, at), rated)
        return self._write(now, gpu_seconds, memory)

    # The sources

    def _remember(self) -> Memory:
        """Read what the run before has left; what cannot be read is as if there had been none."""
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `router_lambda.aws`

        try:
            answer = self._clients.s3.get_object(Bucket=self._settings.bucket, Key=SPEND_KEY)
            return Memory.read(answer["Body"].read(MOST_BYTES))
        except (ClientError, BotoCoreError) as error:
            logs.line(event="spend.json not read", reason=str(error))
            return Memory()

    def _gpu_seconds(self, now: datetime) -> float:
        """Return for how long GPUs have run since the month began.

        A month has 43,200 minutes, and CloudWatch returns 1,440 values at most: so it is asked for sums of days.

        Raises:
            GpuSecondsUnavailable: it does not say, or has nothing of today, as when nobody writes them any more.
        """
        from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415 - see `router_lambda.aws`

        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        try:
            points = self._clients.cloudwatch.get_metric_statistics(
                Namespace=NAMESPACE,
                MetricName="GpuSeconds",
                StartTime=midnight.replace(day=1),
                EndTime=midnight + timedelta(days=1),
                Period=DAY_SECONDS,
                Statistics=["Sum"],
            )["Datapoints"]
        except (ClientError, BotoCoreError) as error:
            raise GpuSecondsUnavailable(f"CloudWatch does not say how long GPUs ran: {error}") from error
        is_early = now - midnight < timedelta(seconds=METER_SECONDS)
        if not is_early and all(point["Timestamp"] < midnight for point in points):
            raise GpuSecondsUnavailable(
                "CloudWatch has no GpuSeconds of today; see why tl-fif-gauges does not write them"
            )
        return math.fsum(point["Sum"] for point in points)

    def _ask_bill(self, now: datetime, remembered: Future[Memory], metered: Future[float]) -> Bill | None:
        """Ask Cost Explorer for the days before today, if that is due; `None` if it is not.

        An answer costs money: where it is to be used for hours, it is asked for once there is somewhere to keep it
        and the run is sure to get there.

        Raises:
            CostExplorerFailed: it does not answer.
        """
        first, today = now.date().replace(day=1), now.date()
        hours = self._settings.bill_hours
        if first == today or (hours and not remembered.result().is_due(now.timestamp(), hours)):
            return None
        if hours and metered.exception() is not None:
            return None
        settings, client = self._settings, self._clients.cost_explorer
        days = cost_explorer.usd_by_day(client, first, today, settings.gpu_type, settings.cost_tag)
        return Bill(days, now.timestamp())

    def _ask_rate(self, now: datetime, remembered: Future[Memory]) -> Rate | None:
        """Ask the ECB, if it has not answered today; `None` if it has.

        Raises:
            RateUnavailable: it does not answer.
        """
        rate = remembered.result().rate
        return None if rate is not None and rate.is_of(now.date()) else self._clients.ask_rate(now.timestamp())

    # What comes of them

    def _write(self, now: datetime, gpu_seconds: float, memory: Memory) -> dict[str, Any]:
        settings, rate = self._settings, memory.rate
        prices = Prices(settings.fixed_usd_per_month, settings.gpu_usd_per_hour)
        holds = rate is not None and rate.holds(now.date())
        eur_per_usd = rate.eur_per_usd if rate is not None and holds else settings.fallback_eur_per_usd
        found = spend(now, memory.bill, gpu_seconds, prices)
        written = document(now, found, eur_per_usd, settings.budget_eur, memory)
        # The metric first: the alarm on it also works where the document cannot be written.
        logs.gauge(NAMESPACE, {"CurrentSpendEUR": (written["spend_eur"], "None")})
        shown = {name: written[name] for name in ("month", "spend_eur", "cap_eur", "parts")}
        logs.line(event="spend", **shown)
        body = json.dumps(written).encode()
        self._clients.s3.put_object(Bucket=settings.bucket, Key=SPEND_KEY, Body=body, ContentType="application/json")
        return shown


def _metered(metered: Future[float]) -> float:
    if not metered.done():
        raise GpuSecondsUnavailable(f"CloudWatch does not say within {DEADLINE_SECONDS:g} s how long GPUs ran")
    return metered.result()


def _with_bill(memory: Memory, billed: Future[Bill | None], at: float) -> Memory:
    """Return what is known of the bill by now."""
    try:
        bill = _had(billed)
    except (CostExplorerFailed, TimeoutError) as error:
        logs.count("CostExplorerFailures", reason=str(error))
        return replace(memory, tried_at=at)
    return memory if bill is None else replace(memory, bill=bill, tried_at=at)


def _with_rate(memory: Memory, rated: Future[Rate | None]) -> Memory:
    """Return what is known of the exchange rate by now."""
    try:
        rate = _had(rated)
    except (RateUnavailable, TimeoutError) as error:
        logs.count("RateFailures", reason=str(error))
        return memory
    return memory if rate is None else replace(memory, rate=rate)


def _had(asked: Future[_Had]) -> _Had:
    """Return what has come.

    Raises:
        TimeoutError: nothing has.
    """
    if not asked.done():
        raise TimeoutError(f"no answer within {DEADLINE_SECONDS:g} s")
    return asked.result()


@cache
def _publisher() -> Publisher:
    return Publisher(CostSettings.from_environment(os.environ), Clients.make())


def handler(_event: object, _context: object) -> dict[str, Any]:
    """Lambda's entry point, for a schedule; what the event says does not matter.

    Raises:
        GpuSecondsUnavailable, ClientError, BotoCoreError: see `Publisher.publish`. Lambda counts them as errors, and
            tries twice more.
        RouterConfigError: the function's environment is incomplete or wrong.
    """
    return _publisher().publish()


if "AWS_LAMBDA_FUNCTION_NAME" in os.environ:  # the init phase
    with contextlib.suppress(RouterConfigError):  # the first event says what is wrong
        _publisher()
