"""The module terraform/modules/observability by itself, planned with either canary."""

from __future__ import annotations

import json
from typing import Any, Final

from tests.infra.terraform_world import REGION, Workspace, resources

FUNCTIONS: Final = (
    "router",
    "authorizer",
    "queue-health",
    "waker",
    "reaper",
    "gauges",
    "canary",
    "cost-publisher",
    "budget-killer",
)
INSTANCE: Final = "i-0123456789abcdef0"
"""The one GPU."""

_MODULE: Final = {
    "source": "../modules/observability",
    "name": "tl-fif",
    "region": REGION,
    "account_id": "123456789012",
    "api_id": "a1b2c3d4e5",
    "api_log_group_name": "/apigw/tl-fif",
    "function_names": {name: f"tl-fif-{name}" for name in FUNCTIONS},
    "queue_cluster_id": "tl-fif-001",
    "gpu_instance_ids": [INSTANCE],
    "worker_log_group_name": "/tl-fif/worker",
    "cap_eur": 20,
    "budget_alarm_names": ["tl-fif-spend-warning", "tl-fif-spend-cap"],
}
_SYNTHETICS: Final = {
    "ping_url": f"https://a1b2c3d4e5.execute-api.{REGION}.amazonaws.com/ping",
    "subnet_ids": ["subnet-0123456789abcdef0"],
    "security_group_ids": ["sg-0123456789abcdef0"],
}
CANARIES: Final[dict[str, dict[str, Any]]] = {
    "lambda": {"canary": "lambda"},
    "synthetics": {"canary": "synthetics", "synthetics": _SYNTHETICS},
}
_SKIP: Final = ("credentials_validation", "metadata_api_check", "region_validation", "requesting_account_id")

Resources = dict[str, dict[str, Any]]


def planned_with(canary: str, workspace: Workspace) -> Resources:
    """Return what the module makes, by addresses within it."""
    folder = workspace.folder / f"with_{canary}"
    folder.mkdir()
    root = {
        "provider": {"aws": {"region": REGION, **{f"skip_{what}": True for what in _SKIP}}},
        "module": {"it": _MODULE | CANARIES[canary]},
    }
    (folder / "main.tf.json").write_text(json.dumps(root), encoding="utf-8")
    workspace.init(folder.name)
    workspace.run("plan", "-input=false", "-no-color", "-out=it.tfplan", within=folder.name)
    shown = json.loads(workspace.run("show", "-json", "it.tfplan", within=folder.name))
    return {address.removeprefix("module.it."): each["values"] for address, each in resources(shown).items()}


def dashboard_body(planned: Resources) -> str:
    """Return what CloudWatch gets."""
    body: str = planned["aws_cloudwatch_dashboard.this"]["dashboard_body"]
    return body
