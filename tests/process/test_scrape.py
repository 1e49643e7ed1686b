"""What the CloudWatch agent finds on a worker: its `/metrics` and its log, of a real one."""

from __future__ import annotations

import json
import time
from pathlib import Path

import httpx
import jsonschema
from prometheus_client.parser import text_string_to_metric_families

from router_lambda.job import GPU_WAKING
from tests.infra.agent_world import EXPOSITION, INSTANCE_PHASE, published, rendered
from tests.process.worker_process import Surroundings, running_worker

EMF = {
    "type": "object",
    "required": ["_aws"],
    "properties": {
        "_aws": {
            "type": "object",
            "required": ["Timestamp", "CloudWatchMetrics"],
            "properties": {
                "Timestamp": {"type": "integer"},
                "CloudWatchMetrics": {
                    "type": "array",
                    "items": {
                        "type": "object",
                        "required": ["Namespace", "Dimensions", "Metrics"],
                        "properties": {
                            "Namespace": {"type": "string", "minLength": 1, "maxLength": 1024},
                            "Dimensions": {
                                "type": "array",
                                "minItems": 1,
                                "items": {"type": "array", "items": {"type": "string", "minLength": 1}, "maxItems": 30},
                            },
                            "Metrics": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "required": ["Name"],
                                    "properties": {
                                        "Name": {"type": "string", "minLength": 1, "maxLength": 1024},
                                        "Unit": {"enum": ["Count"]},
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
"""The form of a line that CloudWatch takes metrics from.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
"""


def shapes(exposition: str) -> set[tuple[str, str, frozenset[str], str]]:
    """Return what is shown: names with their types, and labels, a phase with its value."""
    return {
        (sample.name, family.type, frozenset(sample.labels), sample.labels.get("phase", ""))
        for family in text_string_to_metric_families(exposition)
        for sample in family.samples
    }


def test_a_scrape_finds_what_the_agent_is_to_send(around: Surroundings, tmp_path: Path) -> None:
    """Every metric under its name; and the sample by which tests/infra/test_agent.py judges the lists is no fiction."""
    sample = EXPOSITION + INSTANCE_PHASE
    around.redis.set(GPU_WAKING, f"started:{time.time() - 30}")
    with running_worker(around, tmp_path / "worker.log") as worker:
        answer = httpx.get(f"{worker.http}/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    assert shapes(sample) <= shapes(answer.text)
    configs = rendered(tmp_path)
    assert published(*configs, answer.text) == published(*configs, sample)


def test_cloudwatch_finds_metrics_in_the_log(around: Surroundings, tmp_path: Path) -> None:
    """Each line that the agent ships is one JSON object; in that of a count, the figure stands at the top.

    CloudWatch looks into every event, whoever sent it; no header and no format has to be said.
    """
    log = tmp_path / "worker.log"
    with running_worker(around, log, TLFIF_IDLE_MINUTES="0.02") as worker:
        worker.exit_code()
        lines = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()]
    assert all(isinstance(line, dict) for line in lines)
    (counted,) = [line for line in lines if "_aws" in line]
    jsonschema.validate(counted, EMF)
    (directive,) = counted["_aws"]["CloudWatchMetrics"]
    (metric,) = directive["Metrics"]
    assert (directive["Namespace"], metric["Name"], counted[metric["Name"]]) == ("TLFIF/Worker", "AutoStops", 1)
    assert all(dimension in counted for dimensions in directive["Dimensions"] for dimension in dimensions)
