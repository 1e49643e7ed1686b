"""The cost publisher over stubs of AWS and the ECB: what it asks when, what it shows, writes and survives."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError

import router_lambda
from router_lambda import cost_publisher as module
from router_lambda.cost_publisher import Clients, GpuSecondsUnavailable, Publisher
from router_lambda.exchange_rate import RateUnavailable
from router_lambda.settings import RouterConfigError
from tests.cost_world import HOUR, NOW, World, refusal
from tests.router_world import Clock, metrics

ENVIRONMENT = {
    "TLFIF_BUCKET": "tl-fif",
    "TLFIF_BUDGET_EUR": "20",
    "TLFIF_FIXED_USD_PER_MONTH": "15",
    "TLFIF_GPU_USD_PER_HOUR": "0.658",
    "TLFIF_FALLBACK_EUR_PER_USD": "0.9",
}


@pytest.fixture
def world() -> World:
    """Return a world at the evening of a 26th, in which nothing was ever written."""
    return World(Clock(NOW.timestamp()))


def spend_lines(output: str) -> list[dict[str, Any]]:
    """Return the lines with the metric."""
    return [line for line in map(json.loads, output.splitlines()) if "CurrentSpendEUR" in line]


# The figure


def test_the_metric_is_what_cloudwatch_takes(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """One value in EUR, which CloudWatch has no unit for, without dimensions, of now."""
    world.publisher().publish()

    usd = 25 * 0.52 + 0.5 * 18 / 24 + 12.5 * 0.658
    (line,) = spend_lines(capsys.readouterr().out)
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("TLFIF/Cost", [[]])
    assert directive["Metrics"] == [{"Name": "CurrentSpendEUR", "Unit": "None"}]
    assert line.keys() == {"_aws", "CurrentSpendEUR"}
    assert line["CurrentSpendEUR"] == round(usd * 0.8787, 4)


def test_the_document_says_the_same_and_how(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """For those who start GPUs, for an audit, and for the next run; the log keeps it when it is overwritten."""
    shown = world.publisher().publish()

    written = world.written()
    assert {name: written[name] for name in ("month", "cap_eur", "at", "parts", "rate", "bill_tried_at")} == {
        "month": "2026-11",
        "cap_eur": 20.0,
        "at": NOW.timestamp(),
        "parts": {"bill_usd": 13.0, "fixed_usd": 0.375, "gpu_usd": 8.225, "eur_per_usd": 0.8787},
        "rate": {"eur_per_usd": 0.8787, "day": "2026-11-25", "asked_at": NOW.timestamp()},
        "bill_tried_at": NOW.timestamp(),
    }
    assert written["spend_eur"] == round(21.6 * 0.8787, 4)
    assert written["bill"] == {
        "usd_by_day": {f"2026-11-{day:02}": 0.52 for day in range(1, 26)},
        "asked_at": NOW.timestamp(),
    }
    assert world.asked["put_object"]["Key"] == "guard/spend.json"
    assert world.asked["put_object"]["ContentType"] == "application/json"
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line == {"event": "spend"} | shown
    assert shown == {name: written[name] for name in ("month", "spend_eur", "cap_eur", "parts")}


def test_what_is_asked_is_this_month(world: World) -> None:
    """By days, of which CloudWatch returns 1,440 at most; the end is that of today, which goes on."""
    world.publisher().publish()

    asked = world.asked["get_metric_statistics"]
    assert (asked["Namespace"], asked["MetricName"], asked["Statistics"]) == ("TLFIF/Cost", "GpuSeconds", ["Sum"])
    assert (asked["StartTime"], asked["EndTime"]) == (
        datetime(2026, 11, 1, tzinfo=UTC),
        datetime(2026, 11, 27, tzinfo=UTC),
    )
    assert asked["Period"] == 86_400
    assert world.asked["get_cost_and_usage"]["TimePeriod"] == {"Start": "2026-11-01", "End": "2026-11-26"}
    assert world.asked["get_object"] == {"Bucket": "tl-fif", "Key": "guard/spend.json"}


def test_on_the_first_there_is_nothing_to_ask_of_the_bill(world: World) -> None:
    """Cost Explorer refuses a period without a day. At midnight there is not even a second of the GPU."""
    world.clock.now = datetime(2026, 12, 1, tzinfo=UTC).timestamp()
    world.points = {date(2026, 11, 30): 5_000.0}
    world.publisher().publish()

    assert "get_cost_and_usage" not in world.calls
    assert world.asked["get_metric_statistics"]["EndTime"] == datetime(2026, 12, 2, tzinfo=UTC)
    assert (world.written()["spend_eur"], world.written()["month"]) == (0.0, "2026-12")


# How often it asks


def test_every_run_asks_if_it_is_told_to(world: World) -> None:
    """As the requirements have it; the ECB once a day."""
    publisher = world.publisher(bill_hours=0)
    for _ in range(3):
        publisher.publish()
        world.clock.sleep(900)
    assert world.calls.count("get_cost_and_usage") == 3
    assert world.calls.count("ask_rate") == 1


def test_an_answer_is_kept_for_its_hours(world: World) -> None:
    """By the document, as Lambda forgets: each run is another process. The figure goes on meanwhile."""
    asked_at = []
    for _ in range(4 * 24 * 2):
        calls = len(world.calls)
        world.publisher(bill_hours=24).publish()
        if "get_cost_and_usage" in world.calls[calls:]:
            asked_at.append(world.clock.now)
        world.clock.sleep(900)
        world.points[datetime.fromtimestamp(world.clock.now, UTC).date()] = 0.0
    assert asked_at == [NOW.timestamp(), NOW.timestamp() + 24 * HOUR]
    # Now, on the 28th, the 26th is as it was billed on the 27th, of which Cost Explorer has said nothing yet.
    assert world.written()["parts"]["bill_usd"] == pytest.approx(26 * 0.52 + 0.5)


def test_after_a_failure_it_waits_an_hour(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A refused question may cost as much as an answered one; each is counted."""
    world.failures["get_cost_and_usage"] = refusal("DataUnavailableException")
    for _ in range(9):
        world.publisher(bill_hours=24).publish()
        world.clock.sleep(900)
    assert world.calls.count("get_cost_and_usage") == 3
    assert metrics(capsys.readouterr().out).count("CostExplorerFailures") == 3


def test_what_is_kept_for_hours_is_not_asked_for_in_vain(world: World) -> None:
    """Where the run fails anyway there is no place to keep it, and every run would ask again."""
    world.failures["get_metric_statistics"] = refusal("AccessDenied")
    with pytest.raises(GpuSecondsUnavailable):
        world.publisher(bill_hours=24).publish()
    assert "get_cost_and_usage" not in world.calls


# What may be missing


def test_without_cost_explorer_the_days_accrue(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """If it has never answered."""
    world.failures["get_cost_and_usage"] = EndpointConnectionError(endpoint_url="https://ce.test")
    world.publisher().publish()

    assert metrics(capsys.readouterr().out) == ["CostExplorerFailures", "CurrentSpendEUR"]
    assert world.written()["parts"]["bill_usd"] == pytest.approx(25 * 0.5)
    assert world.written()["bill"] is None


def test_without_cost_explorer_its_last_answer_goes_on(world: World) -> None:
    """And is kept as of when it was given."""
    world.usd = 2.0
    world.publisher().publish()
    world.failures["get_cost_and_usage"] = refusal("LimitExceededException")
    world.clock.sleep(4 * 86_400)
    world.points[date(2026, 11, 30)] = 0.0
    world.publisher().publish()

    assert world.written()["parts"]["bill_usd"] == pytest.approx(25 * 2.0 + 4 * 0.5)
    assert world.written()["bill"]["asked_at"] == NOW.timestamp()
    assert world.written()["bill_tried_at"] == world.clock.now


def test_without_the_ecb_the_last_rate_goes_on_for_a_week(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Then the one of the settings."""
    world.publisher().publish()
    world.failures["ask_rate"] = RateUnavailable("the answer was 503")
    used = []
    for _ in range(8):
        world.clock.sleep(86_400)
        world.points[datetime.fromtimestamp(world.clock.now, UTC).date()] = 0.0
        world.publisher().publish()
        used.append(world.written()["parts"]["eur_per_usd"])
    # The rate was of the 25th.
    assert used == [*[0.8787] * 6, 0.9, 0.9]
    assert metrics(capsys.readouterr().out).count("RateFailures") == 8


def test_without_the_ecb_from_the_beginning_the_settings_rate_counts(world: World) -> None:
    """And no rate is written as the ECB's."""
    world.failures["ask_rate"] = RateUnavailable("TimeoutError: timed out")
    world.publisher().publish()
    assert world.written()["parts"]["eur_per_usd"] == 0.9
    assert world.written()["rate"] is None


@pytest.mark.parametrize(
    "document", [None, b"", b"null", b"[]", b"\xff", b"{" * 100_000, b'{"bill": 5, "rate": [], "bill_tried_at": "x"}']
)
def test_an_unreadable_document_is_none(world: World, document: bytes | None) -> None:
    """All is asked anew, and it is written over."""
    world.document = document
    world.publisher(bill_hours=24).publish()
    assert set(world.calls) == {"get_object", "get_metric_statistics", "get_cost_and_usage", "ask_rate", "put_object"}
    assert world.written()["bill"]["asked_at"] == NOW.timestamp()


def test_a_document_that_s3_does_not_give_is_none(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """The log says why."""
    world.failures["get_object"] = refusal("AccessDenied")
    world.publisher(bill_hours=24).publish()
    assert "get_cost_and_usage" in world.calls
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["event"] == "spend.json not read"
    assert "AccessDenied" in first["reason"]


# What may not


@pytest.mark.parametrize("failure", [refusal("AccessDenied"), EndpointConnectionError(endpoint_url="https://cw.test")])
def test_without_gpu_seconds_nothing_is_said(
    world: World, failure: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    """What was said before grows old, and with it the right to start a GPU."""
    world.document = b"{}"
    world.failures["get_metric_statistics"] = failure
    with pytest.raises(GpuSecondsUnavailable, match="CloudWatch does not say"):
        world.publisher().publish()
    assert world.document == b"{}"
    assert spend_lines(capsys.readouterr().out) == []


def test_gpu_seconds_that_nobody_writes_are_missed(world: World) -> None:
    """The gauges write 0 where no GPU runs; a day of nothing means that they do not run. Just after midnight it may."""
    del world.points[date(2026, 11, 26)]
    with pytest.raises(GpuSecondsUnavailable, match="tl-fif-gauges"):
        world.publisher().publish()
    world.clock.now = datetime(2026, 11, 26, 0, 9, 59, tzinfo=UTC).timestamp()
    world.publisher().publish()
    assert world.written()["parts"]["gpu_usd"] == pytest.approx(41_400 / 3_600 * 0.658)
    world.clock.sleep(1)
    with pytest.raises(GpuSecondsUnavailable, match="tl-fif-gauges"):
        world.publisher().publish()


def test_a_document_that_s3_does_not_take_is_an_error(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """After the metric, whose alarm stops GPUs without it."""
    world.failures["put_object"] = refusal("SlowDown")
    with pytest.raises(ClientError):
        world.publisher().publish()
    assert len(spend_lines(capsys.readouterr().out)) == 1


# The entry point


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Yield an environment of which nothing was read, and forget it afterwards."""
    for name in (*ENVIRONMENT, "AWS_LAMBDA_FUNCTION_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-central-1")
    module._publisher.cache_clear()
    yield monkeypatch
    module._publisher.cache_clear()


def test_the_entry_point_publishes(fresh: pytest.MonkeyPatch, world: World) -> None:
    """Once its settings are there, which it reads once; before, it names what is missing."""
    fresh.setattr(Clients, "make", lambda: Clients(world, world, world, world.ask_rate))
    fresh.setattr(module, "Publisher", partial(Publisher, clock=world.clock))
    with pytest.raises(RouterConfigError, match=r"TLFIF_BUCKET.*TLFIF_BUDGET_EUR"):
        module.handler({}, None)
    for name, value in ENVIRONMENT.items():
        fresh.setenv(name, value)
    assert json.loads(json.dumps(module.handler({}, None)))["month"] == "2026-11"
    fresh.delenv("TLFIF_BUCKET")
    assert module.handler(None, None)["cap_eur"] == 20.0


def imported_anew(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the module as a process that begins imports it."""
    monkeypatch.setattr(router_lambda, "cost_publisher", module)  # so that it is put back in the end
    monkeypatch.delitem(sys.modules, module.__name__)
    return importlib.import_module(module.__name__)


def test_lambda_s_init_phase_makes_the_clients(fresh: pytest.MonkeyPatch) -> None:
    """boto3's import takes longer than all the rest; nobody's event waits for it."""
    for name, value in ENVIRONMENT.items():
        fresh.setenv(name, value)
    assert imported_anew(fresh)._publisher.cache_info().currsize == 0

    fresh.setenv("AWS_LAMBDA_FUNCTION_NAME", "tl-fif-cost-publisher")
    made = imported_anew(fresh)._publisher
    assert made.cache_info().currsize == 1
    clients = made()._clients
    assert [each.meta.region_name for each in (clients.s3, clients.cloudwatch)] == ["eu-central-1", "eu-central-1"]
    assert clients.cost_explorer.meta.endpoint_url == "https://ce.us-east-1.amazonaws.com"
    assert [each.meta.config.retries["total_max_attempts"] for each in (clients.s3, clients.cost_explorer)] == [1, 1]


def test_wrong_settings_do_not_end_the_init_phase(fresh: pytest.MonkeyPatch) -> None:
    """The first event tells of them, as with every other function."""
    fresh.setenv("AWS_LAMBDA_FUNCTION_NAME", "tl-fif-cost-publisher")
    found = imported_anew(fresh)
    assert found._publisher.cache_info().currsize == 0
    with pytest.raises(RouterConfigError):
        found.handler({}, None)
