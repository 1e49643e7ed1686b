"""What the Lambdas write: one line of JSON each, and metrics as CloudWatch takes them."""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Iterator
from typing import Any, Final

import pytest
from jsonschema import Draft202012Validator

from router_lambda import logs

EMBEDDED_METRIC_FORMAT: Final = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "additionalProperties": False,
            "properties": {
                "Timestamp": {"type": "integer", "minimum": 1_000_000_000_000},
                "CloudWatchMetrics": {
                    "type": "array",
                    "minItems": 1,
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "additionalProperties": False,
                        "properties": {
                            "Namespace": {
                                "type": "string",
                                "minLength": 1,
                                "maxLength": 1_024,
                                "not": {"pattern": "^AWS/"},
                            },
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {
                                    "type": "array",
                                    "maxItems": 30,
                                    "items": {"type": "string", "minLength": 1, "maxLength": 250},
                                },
                            },
                            "Metrics": {
                                "type": "array",
                                "minItems": 1,
                                "maxItems": 100,
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "additionalProperties": False,
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1, "maxLength": 1_024},
                                        "Unit": {
                                            "enum": ["None", "Count", "Seconds", "Milliseconds", "Bytes", "Percent"]
                                        },
                                        "StorageResolution": {"enum": [1, 60]},
                                    },
                                },
                            },
                        },
                    },
                },
            },
        }
    },
}
"""What CloudWatch's specification asks of the metadata, which the module names as its source."""


@pytest.fixture(autouse=True)
def _to_standard_output_again() -> Iterator[None]:
    yield
    logs.send_to(None)


def the_line(output: str) -> dict[str, Any]:
    """Return what the only line says."""
    assert output.endswith("\n")
    assert output.count("\n") == 1
    assert output.isascii()
    said: dict[str, Any] = json.loads(output)
    return said


# Lines


def test_a_line_holds_its_fields_in_order(capsys: pytest.CaptureFixture[str]) -> None:
    """As JSON, and on standard output alone."""
    logs.line(requestId="request-1", status=202, latencyMs=1.25, job=None)
    captured = capsys.readouterr()

    assert captured.out == '{"requestId": "request-1", "status": 202, "latencyMs": 1.25, "job": null}\n'
    assert captured.err == ""


@pytest.mark.parametrize("text", ["a\nb", "a\r\nb", "\u2028", "\x00\x1b[2J", '"}', "é😀", "\ud800", ""])
def test_no_field_makes_two_lines_of_one(capsys: pytest.CaptureFixture[str], text: str) -> None:
    """Nobody forges a line by what he sends, and every terminal and reader takes what comes out."""
    logs.line(ip=text)
    assert the_line(capsys.readouterr().out) == {"ip": text}


def test_each_line_is_out_at_once() -> None:
    """A Lambda is frozen right after its answer, with whatever its buffers hold."""
    raw = io.BytesIO()
    logs.send_to(io.TextIOWrapper(raw, encoding="utf-8"))
    logs.line(a=1)
    assert raw.getvalue() == b'{"a": 1}\n'


# Where they go


def test_lines_may_go_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    """Lines and metrics alike, until standard output is chosen again."""
    elsewhere = io.StringIO()
    logs.send_to(elsewhere)
    logs.line(a=1)
    logs.count("EC2Starts")
    assert len(elsewhere.getvalue().splitlines()) == 2
    assert capsys.readouterr().out == ""

    logs.send_to(None)
    logs.line(b=2)
    assert the_line(capsys.readouterr().out) == {"b": 2}
    assert len(elsewhere.getvalue().splitlines()) == 2


def test_standard_output_is_the_one_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lambda's runtime replaces it after the import."""
    replaced = io.StringIO()
    monkeypatch.setattr(sys, "stdout", replaced)
    logs.line(a=1)
    assert the_line(replaced.getvalue()) == {"a": 1}


# Metrics


@pytest.mark.parametrize("metric", ["EC2Starts", "RateLimitBreaches", "RedisEnqueueFail"])
@pytest.mark.parametrize("fields", [{}, {"requestId": "request-1", "sub": "user-1"}])
def test_a_metric_is_what_cloudwatch_takes(
    capsys: pytest.CaptureFixture[str], metric: str, fields: dict[str, Any]
) -> None:
    """One line by the specification, whose every metric and dimension is a member of it."""
    logs.count(metric, **fields)

    said = the_line(capsys.readouterr().out)
    Draft202012Validator(EMBEDDED_METRIC_FORMAT).validate(said)
    (directive,) = said["_aws"]["CloudWatchMetrics"]
    assert directive["Metrics"] == [{"Name": metric, "Unit": "Count"}]
    assert said[metric] == 1
    assert all(isinstance(said[name], str) for dimensions in directive["Dimensions"] for name in dimensions)
    assert said.keys() == {"_aws", metric, *fields}
    assert {name: said[name] for name in fields} == fields


def test_a_metric_is_of_the_project_and_without_dimensions(capsys: pytest.CaptureFixture[str]) -> None:
    """The alarms name namespace and metric alone; a dimension would make it another metric."""
    logs.count("EC2Starts", requestId="request-1")
    (directive,) = the_line(capsys.readouterr().out)["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("TLFIF/Router", [[]])


def test_a_metric_is_of_now_in_milliseconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CloudWatch drops what is two weeks old or two hours ahead; seconds would be of 1970."""
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.1239)
    logs.count("EC2Starts")
    assert the_line(capsys.readouterr().out)["_aws"]["Timestamp"] == 1_790_000_000_124


# Gauges


def test_a_gauge_is_what_cloudwatch_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """Several values in one line, each with its unit, in the namespace that is said."""
    logs.gauge("TLFIF/Queue", {"QueueDepth": (3, "Count"), "GpuSeconds": (59.75, "Seconds")})

    said = the_line(capsys.readouterr().out)
    Draft202012Validator(EMBEDDED_METRIC_FORMAT).validate(said)
    (directive,) = said["_aws"]["CloudWatchMetrics"]
    assert (directive["Namespace"], directive["Dimensions"]) == ("TLFIF/Queue", [[]])
    units = [{"Name": "QueueDepth", "Unit": "Count"}, {"Name": "GpuSeconds", "Unit": "Seconds"}]
    assert directive["Metrics"] == units
    assert said.keys() == {"_aws", "QueueDepth", "GpuSeconds"}
    assert (said["QueueDepth"], said["GpuSeconds"]) == (3, 59.75)


@pytest.mark.parametrize(("at", "milliseconds"), [(None, 1_790_000_000_124), (1_789_999_980.0, 1_789_999_980_000)])
def test_a_gauge_is_of_now_or_of_the_time_that_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, at: float | None, milliseconds: int
) -> None:
    """What is measured late belongs to where it was measured."""
    monkeypatch.setattr(time, "time", lambda: 1_790_000_000.1239)
    logs.gauge("TLFIF/Cost", {"CurrentSpendEUR": (12.34, "None")}, at=at)
    said = the_line(capsys.readouterr().out)
    Draft202012Validator(EMBEDDED_METRIC_FORMAT).validate(said)
    assert said["_aws"]["Timestamp"] == milliseconds
