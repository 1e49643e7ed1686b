"""The dashboard, its alarms, and what both are fed with: CloudWatch takes them, and the code writes what they show."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.infra.cloudwatch_dashboard import problems
from tests.infra.observability_world import CANARIES, Resources, dashboard_body
from tests.infra.terraform_world import REGION, REPOSITORY
from worker.engine import Delta, Step
from worker.reply import Reply
from worker.report import report


@pytest.fixture(params=CANARIES)
def planned(request: pytest.FixtureRequest, observability: dict[str, Resources]) -> Resources:
    """Return what the module makes, with either canary."""
    return observability[request.param]


def thresholds(planned: Resources) -> dict[str, float]:
    """Return those of the alarms, by their short names."""
    found = {}
    for address, values in planned.items():
        if match := re.fullmatch(r'aws_cloudwatch_metric_alarm\.this\["(.+)"]', address):
            found[match[1]] = values["threshold"]
    return found


def filters(planned: Resources) -> list[dict[str, Any]]:
    """Return the metric filters of logs."""
    return [each for address, each in planned.items() if address.startswith("aws_cloudwatch_log_metric_filter")]


# The dashboard


def test_is_as_cloudwatch_and_we_want_it(planned: Resources) -> None:
    """Nothing overlaps or is missing, and every alarm has its line."""
    alarms = thresholds(planned)
    assert len(alarms) == 11
    assert problems(dashboard_body(planned), alarms, REGION) == []


def test_marks_warning_and_cap(planned: Resources) -> None:
    """The spend is drawn against both."""
    widgets = json.loads(dashboard_body(planned))["widgets"]
    (spend,) = [each for each in widgets if each["properties"]["title"] == "Spend of the month (EUR)"]
    assert [line["value"] for line in spend["properties"]["annotations"]["horizontal"]] == [15, 20]


Spoil = Callable[[dict[str, Any]], None]


def drop(title: str) -> Spoil:
    """Take a widget away."""
    return lambda widgets: widgets.pop(title)


def place(title: str, **grid: int) -> Spoil:
    """Put a widget elsewhere."""
    return lambda widgets: widgets[title].update(grid)


def change(title: str, **properties: Any) -> Spoil:
    """Change what a widget shows."""
    return lambda widgets: widgets[title]["properties"].update(properties)


STARTS = ["TLFIF/Router", "EC2Starts"]
MISTAKES: dict[str, Spoil] = {
    "Alarms covers Boots": place("Alarms", height=18),
    "Boots: outside the grid of 24 columns": place("Boots", x=17, y=100),
    "no widget VRAM (%)": drop("VRAM (%)"),
    "no widget with the states of the alarms": drop("Alarms"),
    "Boots: has to name the region, eu-central-1": change("Boots", region="us-east-1"),
    "Redis memory (%): shows 0 metrics": change("Redis memory (%)", metrics=[]),
    "no line at 70 for the alarm redis-memory": change("Redis memory (%)", annotations={}),
    "Boots: a line needs a label and a value": change("Boots", annotations={"horizontal": [{"value": 1}]}),
    "First token (ms): JobMs has no statistic": change("First token (ms)", metrics=[["TLFIF/Worker", "JobMs"]]),
    "Stops: AutoStops has none of the periods (60, 300, 900)": change("Stops", period=7),
    "Queue depth: lacks TLFIF/Queue QueueDepth": change("Queue depth", metrics=[["TLFIF/Queue", "GpusUp"]]),
    "Boots: ['TLFIF/Router'] is no namespace, name and pairs of dimensions": change("Boots", metrics=[STARTS[:1]]),
    "VRAM (%): no metric has the id total0": change("VRAM (%)", metrics=[[{"expression": "100 * used0 / total0"}]]),
    "51 metrics; a free dashboard has 50 at most": change("Boots", metrics=[STARTS] * 4),
}


@pytest.mark.parametrize("planned", ["lambda"], indirect=True)
@pytest.mark.parametrize("problem", MISTAKES)
def test_the_check_finds_mistakes(planned: Resources, problem: str) -> None:
    """Each of these is found, so that the first test can fail."""
    body = json.loads(dashboard_body(planned))
    widgets = {each["properties"]["title"]: each for each in body["widgets"]}
    MISTAKES[problem](widgets)
    body["widgets"] = list(widgets.values())
    assert problem in problems(json.dumps(body), thresholds(planned), REGION)


# CloudFormation's linter, which knows both forms


def cfn_lint(template: dict[str, Any], folder: Path) -> str:
    """Return what the linter has to say."""
    path = folder / "template.json"
    path.write_text(json.dumps(template), encoding="utf-8")
    command = [str(Path(sys.executable).with_name("cfn-lint")), str(path), "--regions", REGION]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def test_linter_takes_the_dashboard(planned: Resources, tmp_path: Path) -> None:
    """As a template around the body."""
    made = planned["aws_cloudwatch_dashboard.this"]
    properties = {"DashboardName": made["dashboard_name"], "DashboardBody": made["dashboard_body"]}
    board = {"Type": "AWS::CloudWatch::Dashboard", "Properties": properties}
    assert cfn_lint({"Resources": {"Board": board}}, tmp_path) == ""


@pytest.mark.parametrize("planned", ["synthetics"], indirect=True)
def test_linter_takes_the_canary(planned: Resources, tmp_path: Path) -> None:
    """The stack is what CloudFormation's schema of a canary asks for; a wrong word in it is found."""
    template = json.loads(planned["aws_cloudformation_stack.canary[0]"]["template_body"])
    assert cfn_lint(template, tmp_path) == ""
    template["Resources"]["Ping"]["Properties"]["VPCConfig"]["Ipv6"] = True
    assert "E3002" in cfn_lint(template, tmp_path)


# What the dashboard and the alarms are fed with


def test_somebody_writes_every_metric(planned: Resources) -> None:
    """Each of our metrics is written by the code, by a filter of a log, or by the CloudWatch agent."""
    folders = (REPOSITORY / "router_lambda", REPOSITORY / "worker")
    code = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    filtered = {each["metric_transformation"][0]["name"] for each in filters(planned)}
    names = set(re.findall(r'"TLFIF/(?:Canary|Cost|Queue|Router|Worker)","(\w+)"', dashboard_body(planned)))
    for address, values in planned.items():
        if address.startswith("aws_cloudwatch_metric_alarm"):
            asked = [metric for query in values["metric_query"] for metric in query["metric"]]
            names |= {metric["metric_name"] for metric in asked if metric["namespace"].startswith("TLFIF/")}
    assert {"QueueDepth", "CurrentSpendEUR", "FirstTokenMs"} <= names
    assert sorted(name for name in names - filtered if f'"{name}"' not in code) == []


FILTER = re.compile(r'\{ \$\.event = "(?P<event>[^"]+)" && \$\.(?P<field>\w+) >= 0 \}')
"""The two conditions that our filters are made of. CloudWatch compares numbers alone: what is null is left out."""


def figure(log_filter: dict[str, Any], line: dict[str, Any]) -> float | None:
    """Return what a filter makes of a line of the log, `None` if it leaves it out."""
    match = FILTER.fullmatch(log_filter["pattern"])
    assert match is not None
    (made,) = log_filter["metric_transformation"]
    value = line.get(match["field"])
    assert made["value"] == f"$.{match['field']}"
    return value if line["event"] == match["event"] and isinstance(value, float) and value >= 0 else None


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([Step(3, [Delta(0, "Hello", tokens=1)])], {"FirstTokenMs": 1000.0, "JobMs": 2000.0}),
        ([], {"FirstTokenMs": None, "JobMs": 2000.0}),
    ],
    ids=["answered", "failed before its first token"],
)
def test_filters_match_the_line_of_a_job(
    planned: Resources, steps: list[Step], expected: dict[str, float | None]
) -> None:
    """They find the figures in the line that the worker writes, and skip those that are null."""
    reply = Reply("a1b2", "model", attempt=1, enqueued_at=100.0, now=100.5)
    for step in steps:
        reply.add(step, now=101.0)
    reply.finish("done", now=102.0)
    with capture_logs() as logs:
        report(reply)
    line = json.loads(json.dumps(logs[0]))
    found = {each["metric_transformation"][0]["name"]: figure(each, line) for each in filters(planned)}
    assert found == expected


def test_query_reads_fields_of_the_access_log() -> None:
    """The saved query asks for nothing that the access log does not have."""
    query = (REPOSITORY / "terraform" / "queries" / "api_latency.cwi").read_text(encoding="utf-8")
    api = (REPOSITORY / "terraform" / "modules" / "api" / "main.tf").read_text(encoding="utf-8")
    logged = set(re.findall(r"(\w+) += \"\$context\.", api))
    (fields,) = re.findall(r"^fields (.+)$", query, re.MULTILINE)
    assert set(fields.split(", ")) <= logged == {"requestId", "ip", "route", "status", "latencyMs"}
