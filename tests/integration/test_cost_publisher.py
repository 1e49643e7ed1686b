"""The cost publisher with an emulated AWS, which it reaches as it would reach AWS: by boto3, over HTTP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import httpx
import pytest

from local.aws_server import AwsServer
from router_lambda import exchange_rate
from router_lambda.budget import OVER_BUDGET, SPEND_KEY, refusal
from router_lambda.cost_publisher import NAMESPACE, Clients, GpuSecondsUnavailable, Publisher
from router_lambda.exchange_rate import Rate
from router_lambda.watch_settings import CostSettings
from tests.integration.ec2_world import configure
from tests.router_world import Clock, metrics

BUCKET = "tl-fif-spend"
SETTINGS = CostSettings(
    bucket=BUCKET,
    budget_eur=20.0,
    fixed_usd_per_month=0.0,
    gpu_usd_per_hour=0.658,
    fallback_eur_per_usd=0.9,
    bill_hours=24,
)


@pytest.fixture
def now() -> datetime:
    """Return noon of today, or of the last month's end in the first days of one: a month that has days to ask for."""
    today = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
    return today if today.day > 3 else today - timedelta(days=today.day)


@pytest.fixture
def clients(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer) -> Iterator[Clients]:
    """Yield the clients, beside an empty bucket; what other tests asked of Cost Explorer is forgotten."""
    configure(monkeypatch, redis_url, aws_server)
    s3 = aws_server.client("s3")
    s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": aws_server.region})
    made = Clients.make()
    yield Clients(made.s3, made.cloudwatch, made.cost_explorer, lambda now: Rate(0.8, date(2026, 11, 25), now))
    s3.delete_object(Bucket=BUCKET, Key=SPEND_KEY)
    s3.delete_bucket(Bucket=BUCKET)


def preload(aws_server: AwsServer, first: date, days: int) -> None:
    """Let Cost Explorer say that each day has cost USD 1, in two usage types, and the GPU 9."""
    usd = {"EUC1-NodeUsage:cache.t4g.micro": "0.75", "EUC1-Requests": "0.25", "EUC1-BoxUsage:g4dn.xlarge": "9"}
    groups = [
        {"Keys": [usage_type], "Metrics": {"UnblendedCost": {"Amount": amount, "Unit": "USD"}}}
        for usage_type, amount in usd.items()
    ]
    results = [
        {
            "TimePeriod": {
                "Start": (first + timedelta(days=number)).isoformat(),
                "End": (first + timedelta(days=number + 1)).isoformat(),
            },
            "Total": {},
            "Groups": groups,
            "Estimated": False,
        }
        for number in range(days)
    ]
    answer = httpx.post(
        f"{aws_server.endpoint}/moto-api/static/ce/cost-and-usage-results",
        json={
            "account_id": aws_server.client("sts").get_caller_identity()["Account"],
            "results": [{"ResultsByTime": results, "DimensionValueAttributes": []}],
        },
    )
    assert answer.status_code == 201


def meter(clients: Clients, at: datetime, seconds: float) -> None:
    """Write seconds of a GPU, as the gauges do by way of the log."""
    point = {"MetricName": "GpuSeconds", "Timestamp": at, "Value": seconds, "Unit": "Seconds"}
    clients.cloudwatch.put_metric_data(Namespace=NAMESPACE, MetricData=[point])


def test_the_spend_is_put_together(
    aws_server: AwsServer, clients: Clients, now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    """From Cost Explorer, CloudWatch and the rate, into a document that those can read who start GPUs."""
    first = now.date().replace(day=1)
    days = now.day - 1
    preload(aws_server, first, days)
    clock = Clock(now.timestamp())
    publisher = Publisher(SETTINGS, clients, clock)
    midnight = now.replace(hour=0)
    for minute in range(30):
        meter(clients, midnight + timedelta(minutes=minute), 60.0)
    meter(clients, midnight - timedelta(days=1), 1_800.0)  # moto's days begin with their first value
    meter(clients, datetime(first.year, first.month, 1, tzinfo=UTC) - timedelta(seconds=60), 60_000.0)  # last month's
    shown = publisher.publish()

    assert shown["parts"] == {
        "bill_usd": pytest.approx(days),
        "fixed_usd": 0.0,
        "gpu_usd": pytest.approx(0.658),
        "eur_per_usd": 0.8,
    }
    assert shown["spend_eur"] == pytest.approx((days + 0.658) * 0.8)
    assert metrics(capsys.readouterr().out) == ["CurrentSpendEUR"]
    kept = clients.s3.get_object(Bucket=BUCKET, Key=SPEND_KEY)["Body"].read()
    assert json.loads(kept)["spend_eur"] == shown["spend_eur"]
    assert refusal(kept, None, shown["spend_eur"] + 0.01, clock.now) is None
    refused = refusal(kept, None, shown["spend_eur"], clock.now)
    assert refused is not None
    assert refused.code == OVER_BUDGET

    # The next run asks Cost Explorer nothing, of which it would get no day at all: it goes on by what is kept.
    clock.sleep(900)
    assert publisher.publish()["parts"]["bill_usd"] == pytest.approx(days)


def test_the_entry_point_s_own_sources_may_be_away(
    aws_server: AwsServer, clients: Clients, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the ECB the rate of the settings counts; the ECB is asked over HTTPS, and nobody is here."""
    meter(clients, now.replace(hour=0), 0.0)
    monkeypatch.setattr(exchange_rate, "URL", "https://127.0.0.1:1/rates.xml")
    away = Clients(clients.s3, clients.cloudwatch, clients.cost_explorer)
    shown: dict[str, Any] = Publisher(SETTINGS, away, Clock(now.timestamp())).publish()
    assert shown["parts"]["eur_per_usd"] == 0.9


def test_without_a_second_of_today_there_is_no_spend(clients: Clients, now: datetime) -> None:
    """A month in which nobody has metered: no figure, no document."""
    later = Clock((now + timedelta(days=62)).timestamp())
    with pytest.raises(GpuSecondsUnavailable, match="tl-fif-gauges"):
        Publisher(SETTINGS, clients, later).publish()
    assert "Contents" not in clients.s3.list_objects_v2(Bucket=BUCKET)
