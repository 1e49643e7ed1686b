"""The CloudWatch agent of the node: it sends what is read and nothing else, by a configuration that it accepts.

The agent itself is not at hand: `agent_world` says what it does with the configuration, and from where that is known.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from terraform.usage import Usage
from tests.infra.agent_world import (
    CONFIG,
    EXPOSITION,
    FOLDER,
    GROUP,
    INSTANCE_PHASE,
    REPOSITORY,
    SCRAPE,
    SETTINGS,
    logged,
    published,
    read_by_dashboard,
    render,
    rendered,
)
from tests.infra.observability_world import INSTANCE, Resources, dashboard_body

NAMESPACE = "TLFIF/GPU"
SHOWN = EXPOSITION + INSTANCE_PHASE
SCHEMA = json.loads(Path(__file__).with_name("agent_schema.json").read_text(encoding="utf-8"))

Configs = tuple[dict[str, Any], dict[str, Any]]


@pytest.fixture
def configs(tmp_path: Path) -> Configs:
    """Return the agent's configuration and that of its scrape, as a boot writes them."""
    return rendered(tmp_path)


@pytest.fixture
def wanted(observability: dict[str, Resources]) -> set[Any]:
    """Return what the dashboard shows of the node."""
    return read_by_dashboard(dashboard_body(observability["lambda"]), NAMESPACE)


# The lists


def test_the_agent_sends_what_the_dashboard_reads(configs: Configs, wanted: set[Any]) -> None:
    """By these names and dimensions, and nothing that nobody reads."""
    assert len(wanted) == 12
    assert published(*configs, SHOWN) == wanted


def test_no_alarm_reads_what_a_stopped_gpu_does_not_send(observability: dict[str, Resources]) -> None:
    """It would have no data most of the day."""
    for address, values in observability["lambda"].items():
        if address.startswith("aws_cloudwatch_metric_alarm"):
            asked = [metric["namespace"] for query in values["metric_query"] for metric in query["metric"]]
            assert NAMESPACE not in asked, address


Fault = Callable[[dict[str, Any], dict[str, Any]], object]
FAULTS: dict[str, Fault] = {
    "another namespace": lambda config, _: config["metrics"].update(namespace="CWAgent"),
    "the worker's in another one": lambda config, _: emf(config).update(metric_namespace="CWAgent/Prometheus"),
    "no memory": lambda config, _: host(config).pop("mem"),
    "a temperature besides": lambda config, _: host(config)["nvidia_gpu"]["measurement"].append("temperature_gpu"),
    "each GPU's own as well": lambda config, _: host(config)["nvidia_gpu"].pop("drop_original_metrics"),
    "each disk's own as well": lambda config, _: host(config)["disk"].pop("drop_original_metrics"),
    # It has no dimension but the instance's id: there is nothing that would be sent in its place.
    "memory dropped": lambda config, _: host(config)["mem"].update(drop_original_metrics=["used_percent"]),
    "by host, not by instance": lambda config, _: config["metrics"].pop("append_dimensions"),
    "one dimension more": lambda config, _: config["metrics"]["append_dimensions"].update(ImageId="${aws:ImageId}"),
    "a selector less": lambda config, _: declared(config, 0)["metric_selectors"].pop(),
    "preemptions besides": lambda config, scrape: (
        declared(config, 0)["metric_selectors"].append("^vllm:num_preemptions_total$"),
        keep(scrape, "vllm:.+;|tlfif_idle.+;|tlfif_boot_seconds;(instance|imports|engine)"),
    ),
    "all phases": lambda config, scrape: (
        declared(config, 1).update(label_matcher="^.+$"),
        keep(scrape, ".+"),
    ),
    "phases without their label": lambda config, _: declared(config, 1).update(dimensions=[["InstanceId"]]),
    "no scrape": lambda _, scrape: keep(scrape, "nothing;"),
    "no label for the instance": lambda _, scrape: scrape["scrape_configs"][0]["static_configs"][0]["labels"].clear(),
}


def host(config: dict[str, Any]) -> dict[str, Any]:
    """Return what is measured on the machine."""
    found: dict[str, Any] = config["metrics"]["metrics_collected"]
    return found


def emf(config: dict[str, Any]) -> dict[str, Any]:
    """Return how a scrape becomes metrics."""
    found: dict[str, Any] = config["logs"]["metrics_collected"]["prometheus"]["emf_processor"]
    return found


def declared(config: dict[str, Any], index: int) -> dict[str, Any]:
    """Return one of its declarations."""
    found: dict[str, Any] = emf(config)["metric_declaration"][index]
    return found


def keep(scrape: dict[str, Any], regex: str) -> object:
    """Let a scrape keep something else."""
    return scrape["scrape_configs"][0]["metric_relabel_configs"][0].update(regex=regex)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_list_that_differs_is_found(configs: Configs, wanted: set[Any], fault: str) -> None:
    """Each of these leaves the dashboard without something, or the bill with something that nobody reads."""
    FAULTS[fault](*configs)
    assert published(*configs, SHOWN) != wanted


def test_nothing_is_logged_that_is_no_metric(configs: Configs) -> None:
    """The agent writes to the log what a scrape keeps, whether it becomes a metric or not."""
    kept = list(logged(configs[1], SHOWN))
    sent = {name for _, name, _ in published(*configs, SHOWN) if re.match("vllm|tlfif", name)}
    assert {each["__name__"] for each in kept} == sent
    assert [each["phase"] for each in kept if "phase" in each] == ["imports", "engine", "instance"]
    assert {each["job"] for each in kept} == {f"{INSTANCE}-metrics"}, "it is the stream's name"


def test_the_bill_knows_of_them(wanted: set[Any]) -> None:
    """As metrics that cost something only while the GPU runs."""
    assert len(wanted) < Usage().metrics_with_gpu


# The form


def problems(config: dict[str, Any]) -> list[str]:
    """Return what the schema has against a configuration."""
    checker = jsonschema.Draft7Validator(SCHEMA, format_checker=jsonschema.FormatChecker())
    return [each.message for each in checker.iter_errors(config)]


def test_the_configuration_has_the_agent_s_form(configs: Configs) -> None:
    """Of the part of it that we use; the agent's own schema lies on the node, and is asked there at each boot."""
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    assert problems(configs[0]) == []


WRONG: dict[str, Callable[[dict[str, Any]], object]] = {
    "'measurment' was unexpected": lambda config: host(config)["mem"].update(measurment=["used"]),
    "'metrics' is a required property": lambda config: config.pop("metrics"),
    "'log_stream_name' is a required property": lambda config: files(config)[0].pop("log_stream_name"),
    "'retention_in_days' was unexpected": lambda config: files(config)[0].update(retention_in_days=30),
    "'ImageId' was unexpected": lambda config: config["metrics"]["append_dimensions"].update(ImageId="x"),
    "True was expected": lambda config: config["agent"].update(use_dualstack_endpoint=False),
    "'60' is not of type 'integer'": lambda config: config["agent"].update(metrics_collection_interval="60"),
    "'@LOG_GROUP@' does not match": lambda config: files(config)[1].update(log_group_name="@LOG_GROUP@"),
    "'vllm' does not match": lambda config: declared(config, 0)["metric_selectors"].append("vllm"),
    "[] should be non-empty": lambda config: host(config)["disk"].update(measurement=[]),
    "'cpu' was unexpected": lambda config: host(config).update(cpu={"measurement": ["usage_active"]}),
    "'/var/log/*.log' does not match": lambda config: files(config)[0].update(file_path="/var/log/*.log"),
}


def files(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the log files that are shipped."""
    found: list[dict[str, Any]] = config["logs"]["logs_collected"]["files"]["collect_list"]
    return found


@pytest.mark.parametrize("said", WRONG)
def test_a_configuration_of_another_form_is_refused(configs: Configs, said: str) -> None:
    """So that the test above can fail."""
    config = copy.deepcopy(configs[0])
    WRONG[said](config)
    assert said in "\n".join(problems(config))


# What a boot writes


def test_every_log_goes_to_the_group_of_the_settings(configs: Configs) -> None:
    """And to a stream of its own; nothing is left to fill in."""
    config, scrape = configs
    prometheus = config["logs"]["metrics_collected"]["prometheus"]
    assert {each["log_group_name"] for each in [*files(config), prometheus]} == {GROUP}
    streams = [each["log_stream_name"] for each in files(config)] + [scrape["scrape_configs"][0]["job_name"]]
    assert len(set(streams)) == len(streams)
    assert "{instance_id}" in streams
    assert prometheus["prometheus_config_path"] == f"/{SCRAPE}"
    assert "@" not in json.dumps([config, scrape])


def test_the_scrape_asks_the_port_of_the_settings(tmp_path: Path) -> None:
    """The worker's own default, if they say none."""
    assert rendered(tmp_path)[1]["scrape_configs"][0]["static_configs"][0]["targets"] == ["127.0.0.1:8000"]
    assert render(tmp_path, f'{SETTINGS}TLFIF_HTTP_PORT="9000"\n').returncode == 0
    assert "127.0.0.1:9000" in (tmp_path / SCRAPE).read_text(encoding="utf-8")


@pytest.mark.parametrize("line", ["TLFIF_LOG_GROUP=/x/y", "TLFIF_LOG_GROUP='/x/y'", 'TLFIF_LOG_GROUP="/x/y"'])
def test_settings_are_read_as_systemd_reads_them(tmp_path: Path, line: str) -> None:
    """With quotes or without; the last line wins."""
    assert render(tmp_path, f"{SETTINGS}{line}\n").returncode == 0
    assert '"/x/y"' in (tmp_path / CONFIG).read_text(encoding="utf-8")


def test_a_second_boot_writes_the_same(tmp_path: Path) -> None:
    """And leaves no file besides, which the agent would read as well."""
    rendered(tmp_path)
    before = (tmp_path / CONFIG).read_bytes()
    rendered(tmp_path)
    assert (tmp_path / CONFIG).read_bytes() == before
    assert [path.name for path in (tmp_path / CONFIG).parent.iterdir()] == ["tl-fif.json"]
    assert sorted(path.name for path in (tmp_path / SCRAPE).parent.iterdir()) == [
        "amazon-cloudwatch-agent.d",
        "tl-fif-prometheus.yaml",
    ]


def test_no_secret_is_written(tmp_path: Path) -> None:
    """Of the settings, the agent gets the log group and the port."""
    rendered(tmp_path)
    written = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "opt").rglob("*") if path.is_file())
    assert "hush" not in written


@pytest.mark.parametrize(
    ("settings", "instance", "said"),
    [
        (None, INSTANCE, "worker.env cannot be read; cloud-init writes it at the first boot"),
        ("TLFIF_BUCKET=x", INSTANCE, "worker.env has to name a log group; it is ''"),
        ("TLFIF_LOG_GROUP='a|b'", INSTANCE, "it is 'a|b'"),
        (f"{SETTINGS}TLFIF_HTTP_PORT=0", INSTANCE, "has to be a port; it is '0'"),
        (SETTINGS, "Amazon EC2", "has to hold an instance's id; it holds 'Amazon EC2'"),
    ],
)
def test_a_boot_says_what_is_missing(tmp_path: Path, settings: str | None, instance: str, said: str) -> None:
    """And writes nothing."""
    done = render(tmp_path, settings, instance)
    assert done.returncode == 1
    assert said in done.stderr
    assert not (tmp_path / CONFIG).exists()


# What it may


def test_the_role_allows_what_the_agent_does_and_no_more(configs: Configs) -> None:
    """Streams and events in that one group, metrics in that one namespace: no group, no retention, no tags."""
    policies = (REPOSITORY / "terraform/modules/gpu/policies.tf").read_text(encoding="utf-8")
    log, measure = (re.search(rf'Sid += "{sid}"\n(.*?)\n +\}},', policies, re.DOTALL) for sid in ("Log", "Measure"))
    assert log is not None
    assert measure is not None
    assert re.findall(r'"(\w+:\w+)"', log[1]) == [
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
    ]
    assert '"${aws_cloudwatch_log_group.worker.arn}:*"' in log[1]
    assert re.findall(r'"cloudwatch:namespace" = "([^"]+)"', measure[1]) == [configs[0]["metrics"]["namespace"]]
    # Metrics out of a log need no right of their own, but all others do.
    assert emf(configs[0])["metric_namespace"] == NAMESPACE


def test_the_group_is_terraform_s_with_its_retention(observability: dict[str, Resources]) -> None:
    """The worker's settings name it, so that agent, role and filters mean the same."""
    gpu = (REPOSITORY / "terraform/modules/gpu/main.tf").read_text(encoding="utf-8")
    assert re.search(r"TLFIF_LOG_GROUP += aws_cloudwatch_log_group\.worker\.name\n", gpu)
    assert re.search(r"retention_in_days = var\.log_retention_days\n", gpu)
    groups = {
        values["log_group_name"]
        for address, values in observability["lambda"].items()
        if address.startswith("aws_cloudwatch_log_metric_filter")
    }
    assert groups == {GROUP}


def test_there_is_nothing_in_the_folder_that_nobody_uses() -> None:
    """Each file is installed, run by a unit, or read by what is."""
    texts = "".join(path.read_text(encoding="utf-8") for path in FOLDER.rglob("*") if path.is_file())
    for path in FOLDER.iterdir():
        if path.name not in {"README.md", "install.sh"}:
            assert path.name in texts, path.name
