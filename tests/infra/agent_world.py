"""The CloudWatch agent as far as we use it: which files its configuration is rendered to, and what it makes of them.

Sources: "Manually create or edit the CloudWatch agent configuration file", "Collect NVIDIA GPU metrics" and "Set up and
configure Prometheus metrics collection on Amazon EC2 instances" in the CloudWatch User Guide, and the agent's own code
where these leave something open: plugins/outputs/cloudwatch/cloudwatch.go (which sets of dimensions are sent),
plugins/inputs/prometheus (only gauges, counters and summaries; the job's name becomes the log stream).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.infra.observability_world import INSTANCE

REPOSITORY: Final = Path(__file__).parents[2]
FOLDER: Final = REPOSITORY / "ami" / "cloudwatch"
GROUP: Final = "/tl-fif/worker"
SETTINGS: Final = f"""\
AWS_USE_DUALSTACK_ENDPOINT='true'
TLFIF_ENGINE_ARGS='{{"dtype": "half"}}'
TLFIF_LOG_GROUP='{GROUP}'
TLFIF_REDIS_URL='redis://:hush@queue:6379/0'
"""
"""What cloud-init writes, cut short."""

_AGENT: Final = "opt/aws/amazon-cloudwatch-agent/etc"
CONFIG: Final = f"{_AGENT}/amazon-cloudwatch-agent.d/tl-fif.json"
SCRAPE: Final = f"{_AGENT}/tl-fif-prometheus.yaml"

EXPOSITION: Final = """\
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="model"} 3.0
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="model"} 1.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="model"} 0.25
# TYPE vllm:num_preemptions_total counter
vllm:num_preemptions_total{engine="0",model_name="model"} 0.0
# TYPE tlfif_idle_seconds_left gauge
tlfif_idle_seconds_left -1.0
# TYPE tlfif_boot_seconds gauge
tlfif_boot_seconds{phase="daemon"} 1.2
tlfif_boot_seconds{phase="imports"} 9.0
tlfif_boot_seconds{phase="engine"} 21.0
tlfif_boot_seconds{phase="ready"} 0.1
"""
"""What the worker shows, cut short; tests/process/test_scrape.py holds it against a real one. `instance` is shown only
where somebody asked for the start."""

INSTANCE_PHASE: Final = 'tlfif_boot_seconds{phase="instance"} 40.0\n'

_PLUGINS: Final[Mapping[str, tuple[str, frozenset[str]]]] = {
    "nvidia_gpu": ("nvidia_smi", frozenset({"arch", "index", "name"})),
    "mem": ("mem", frozenset()),
    "disk": ("disk", frozenset({"device", "fstype", "path"})),
}
"""By section: what its metrics' names begin with, and the dimensions that the agent gives them by itself."""

Metric = tuple[str, str, frozenset[tuple[str, str]]]
"""Namespace, name, and dimensions with their values; `*` for those that nobody should see."""


def render(root: Path, settings: str | None = SETTINGS, instance: str = INSTANCE) -> subprocess.CompletedProcess[str]:
    """Run ami/cloudwatch/render.sh on a folder that stands for /; `None` for settings that are not there."""
    for path, text in (("etc/tl-fif/worker.env", settings), ("sys/devices/virtual/dmi/id/board_asset_tag", instance)):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        if text is not None:
            (root / path).write_text(f"{text}\n", encoding="utf-8")
    environment = {"PATH": os.environ["PATH"], "TLFIF_ROOT": str(root)}
    return subprocess.run([FOLDER / "render.sh"], env=environment, capture_output=True, text=True, check=False)


def rendered(root: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what that writes: the agent's configuration and that of its scrape."""
    done = render(root)
    assert done.returncode == 0, done.stderr
    config: dict[str, Any] = json.loads((root / CONFIG).read_text(encoding="utf-8"))
    scrape: dict[str, Any] = yaml.safe_load((root / SCRAPE).read_text(encoding="utf-8"))
    return config, scrape


def published(config: Mapping[str, Any], scrape: Mapping[str, Any], exposition: str) -> set[Metric]:
    """Return every metric that the agent sends, by its configuration and what the worker shows."""
    return {*_of_the_host(config), *_of_the_worker(config, scrape, exposition)}


def _of_the_host(config: Mapping[str, Any]) -> Iterator[Metric]:
    metrics = config["metrics"]
    # With appended dimensions the agent leaves the host's name out.
    appended = set(metrics.get("append_dimensions", ())) or {"host"}
    for section, asked in metrics["metrics_collected"].items():
        prefix, own = _PLUGINS[section]
        original = own | appended
        for name in asked["measurement"]:
            sent = [] if name in asked.get("drop_original_metrics", ()) else [original]
            # Only sets that are smaller: what has just these dimensions already is not sent twice, nor in place of it.
            sent += [frozenset(each) for each in metrics["aggregation_dimensions"] if set(each) < original]
            for dimensions in sent:
                values = {each: INSTANCE if each == "InstanceId" else "*" for each in dimensions}
                yield metrics["namespace"], f"{prefix}_{name}", frozenset(values.items())


def _of_the_worker(config: Mapping[str, Any], scrape: Mapping[str, Any], exposition: str) -> Iterator[Metric]:
    processor = config["logs"]["metrics_collected"]["prometheus"]["emf_processor"]
    for sample in logged(scrape, exposition):
        for declared in processor["metric_declaration"]:
            source = ";".join(sample.get(label, "") for label in declared["source_labels"])
            is_selected = any(re.search(each, sample["__name__"]) for each in declared["metric_selectors"])
            if not is_selected or not re.search(declared["label_matcher"], source):
                continue
            for dimensions in declared["dimensions"]:
                if set(dimensions) <= sample.keys():
                    named = frozenset((each, sample[each]) for each in dimensions)
                    yield processor["metric_namespace"], sample["__name__"], named


def logged(scrape: Mapping[str, Any], exposition: str) -> Iterator[dict[str, str]]:
    """Yield the labels, with the name among them, of what a scrape keeps and so writes to the log."""
    (job,) = scrape["scrape_configs"]
    (static,) = job["static_configs"]
    (kept,) = job["metric_relabel_configs"]
    assert kept["action"] == "keep"
    for family in text_string_to_metric_families(exposition):
        if family.type not in {"gauge", "counter", "summary"}:
            continue
        for sample in family.samples:
            labels = {**static["labels"], **sample.labels, "__name__": sample.name}
            if re.fullmatch(kept["regex"], ";".join(labels.get(label, "") for label in kept["source_labels"])):
                yield labels | {"job": job["job_name"], "instance": static["targets"][0]}


def read_by_dashboard(body: str, namespace: str) -> set[Metric]:
    """Return the metrics of a namespace that a dashboard shows."""
    found = set()
    for widget in json.loads(body)["widgets"]:
        for entry in widget["properties"].get("metrics", []):
            if entry[0] == namespace:
                names = [each for each in entry if isinstance(each, str)]
                found.add((names[0], names[1], frozenset(zip(names[2::2], names[3::2], strict=True))))
    return found
