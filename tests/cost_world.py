"""AWS and the ECB as the cost publisher sees them, with what a test wants them to say."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from router_lambda.cost_publisher import Clients, Publisher
from router_lambda.exchange_rate import Rate
from router_lambda.watch_settings import CostSettings
from tests.router_world import Clock

NOW = datetime(2026, 11, 26, 18, tzinfo=UTC)
HOUR = 3_600.0
SETTINGS = CostSettings(
    bucket="tl-fif",
    budget_eur=20.0,
    fixed_usd_per_month=15.0,
    gpu_usd_per_hour=0.658,
    fallback_eur_per_usd=0.9,
    bill_hours=0,
)


def refusal(code: str) -> ClientError:
    """Return what boto3 raises when AWS refuses."""
    return ClientError({"Error": {"Code": code, "Message": "as the test wants"}}, "Call")


@dataclass
class World:
    """S3, CloudWatch, Cost Explorer and the ECB. Each call is noted, and goes through `gate` before it answers.

    Attributes:
        failures: what the next calls raise, by name.
        usd: what each day before the one that it is asked in has cost.
        points: the days of which CloudWatch has GPU seconds.
    """

    clock: Clock
    document: bytes | None = None
    failures: dict[str, Exception] = field(default_factory=dict)
    usd: float = 0.52
    points: dict[date, float] = field(
        default_factory=lambda: {date(2026, 11, 26): 3_600.0, date(2026, 11, 3): 41_400.0}
    )
    eur_per_usd: float = 0.8787
    calls: list[str] = field(default_factory=list)
    asked: dict[str, Any] = field(default_factory=dict)
    gate: Callable[[str], None] = lambda _: None

    def _note(self, call: str, **arguments: Any) -> None:
        self.calls.append(call)
        self.asked[call] = arguments
        self.gate(call)
        if call in self.failures:
            raise self.failures[call]

    def get_object(self, **arguments: Any) -> dict[str, Any]:
        """Return the document."""
        self._note("get_object", **arguments)
        if self.document is None:
            raise refusal("NoSuchKey")
        return {"Body": io.BytesIO(self.document)}

    def put_object(self, **arguments: Any) -> None:
        """Keep the document."""
        self._note("put_object", **arguments)
        self.document = arguments["Body"]

    def get_metric_statistics(self, **arguments: Any) -> dict[str, Any]:
        """Return the sum of each day that was asked for."""
        self._note("get_metric_statistics", **arguments)
        points = [
            {"Timestamp": datetime(day.year, day.month, day.day, tzinfo=UTC), "Sum": seconds, "Unit": "Seconds"}
            for day, seconds in self.points.items()
        ]
        begin, end = arguments["StartTime"], arguments["EndTime"]
        return {"Datapoints": [point for point in points if begin <= point["Timestamp"] < end]}

    def get_cost_and_usage(self, **arguments: Any) -> dict[str, Any]:
        """Say that each day has cost the same, and the GPU much."""
        self._note("get_cost_and_usage", **arguments)
        begin, end = (date.fromisoformat(arguments["TimePeriod"][each]) for each in ("Start", "End"))
        groups = [
            {"Keys": [usage_type], "Metrics": {"UnblendedCost": {"Amount": str(usd), "Unit": "USD"}}}
            for usage_type, usd in (("EUC1-NodeUsage:cache.t4g.micro", self.usd), ("EUC1-BoxUsage:g4dn.xlarge", 9.0))
        ]
        days = [begin + timedelta(days=each) for each in range((end - begin).days)]
        return {"ResultsByTime": [{"TimePeriod": {"Start": day.isoformat()}, "Groups": groups} for day in days]}

    def ask_rate(self, now: float) -> Rate:
        """Return the rate of the day before."""
        self._note("ask_rate", now=now)
        return Rate(self.eur_per_usd, datetime.fromtimestamp(now, UTC).date() - timedelta(days=1), now)

    def publisher(self, **changes: Any) -> Publisher:
        """Return a publisher of this world."""
        return Publisher(replace(SETTINGS, **changes), Clients(self, self, self, self.ask_rate), self.clock)

    def written(self) -> dict[str, Any]:
        """Return the document."""
        assert self.document is not None
        found: dict[str, Any] = json.loads(self.document)
        return found
