"""What has to hold over all modules of both profiles, and over the other roots, whatever their own suites say."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from tests.infra.terraform_world import DELIVERY, IMAGE, PLANS, resources

Plans = dict[str, dict[str, Any]]
Found = Mapping[str, dict[str, Any]]
"""Resources of a plan by address, each with type and values."""

WORLD = {"0.0.0.0/0", "::/0"}
SSH = 22

EXCUSED: dict[tuple[str, str], dict[str, str]] = {
    (IMAGE, "reachable"): {
        "aws_internet_gateway.this": "not all that the builder installs from speaks IPv6, and a NAT gateway costs $38",
        "aws_subnet.builder": "its public address, while it builds, is for the way out; no rule lets anybody in",
    }
}
"""By plan and rule, what breaks it on purpose, each with the reason."""


def of(found: Found, kind: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield address and values of the resources of a type."""
    return ((address, each["values"]) for address, each in found.items() if each["type"] == kind)


# The rules: each returns the addresses of what breaks it.


def open_to_the_world(found: Found) -> list[str]:
    """Nothing lets the internet in: no rule, and no group or list with rules of its own."""
    rules = [
        address
        for address, values in of(found, "aws_vpc_security_group_ingress_rule")
        if {values["cidr_ipv4"], values["cidr_ipv6"]} & WORLD or values["ip_protocol"] != "tcp"
    ]
    inline = [address for address, values in of(found, "aws_security_group") if values.get("ingress")]
    other = [a for a, each in found.items() if each["type"] in {"aws_security_group_rule", "aws_network_acl_rule"}]
    return rules + inline + other


def ports(found: Found) -> set[int]:
    """Return the ports that are open to anybody at all."""
    open_ports: set[int] = set()
    for _, values in of(found, "aws_vpc_security_group_ingress_rule"):
        open_ports.update(range(values["from_port"], values["to_port"] + 1))
    return open_ports


def ssh_open(found: Found) -> list[str]:
    """Nothing listens for SSH, from wherever."""
    rules = of(found, "aws_vpc_security_group_ingress_rule")
    return [address for address, values in rules if values["from_port"] <= SSH <= values["to_port"]]


def reachable(found: Found) -> list[str]:
    """Nothing has an address of its own, a way for IPv4 out, or a load balancer that faces outside."""
    kinds = {"aws_nat_gateway", "aws_internet_gateway", "aws_eip"}
    return [
        *(address for address, each in found.items() if each["type"] in kinds),
        *(address for address, values in of(found, "aws_subnet") if values["map_public_ip_on_launch"]),
        *(address for address, values in of(found, "aws_instance") if values.get("associate_public_ip_address")),
        *(address for address, values in of(found, "aws_lb") if not values["internal"]),
    ]


def kept_too_long(found: Found) -> list[str]:
    """Every log ends after 30 days at most."""
    logs = of(found, "aws_cloudwatch_log_group")
    return [address for address, values in logs if not 1 <= values["retention_in_days"] <= 30]


def untagged(found: Found) -> list[str]:
    """Whatever can be tagged says which system it belongs to."""
    return [
        address
        for address, each in found.items()
        if "tags_all" in each.get("values", {}) and (each["values"]["tags_all"] or {}).get("project") != "tl-fif"
    ]


def silent(found: Found) -> list[str]:
    """Every alarm is on, tells somebody, and says what to do and what missing data mean."""
    return [
        address
        for address, values in of(found, "aws_cloudwatch_metric_alarm")
        if not values["actions_enabled"]
        or not values.get("alarm_actions", ["known after apply"])
        or len(values["alarm_description"] or "") < 40
        or not values["treat_missing_data"]
    ]


def unencrypted(found: Found) -> list[str]:
    """Disks, the image's own included, and queue are encrypted where they rest, and so is every bucket."""
    disks = [a for a, v in of(found, "aws_instance") if not all(disk["encrypted"] for disk in v["root_block_device"])]
    recipes = of(found, _RECIPE)
    mapped = [(a, disk) for a, v in recipes for mapping in v["block_device_mapping"] for disk in mapping["ebs"]]
    queues = of(found, "aws_elasticache_replication_group")
    buckets = [address for address, _ in of(found, "aws_s3_bucket")]
    encrypted = {a.replace("_server_side_encryption_configuration", "") for a, _ in of(found, _ENCRYPTION)}
    return [
        *disks,
        *(address for address, disk in mapped if disk["encrypted"] != "true"),
        *(address for address, values in queues if values["at_rest_encryption_enabled"] != "true"),
        *(address for address in buckets if address not in encrypted),
    ]


_ENCRYPTION = "aws_s3_bucket_server_side_encryption_configuration"
_RECIPE = "aws_imagebuilder_image_recipe"
_BUILDER = "aws_imagebuilder_infrastructure_configuration"


def old_metadata(found: Found) -> list[str]:
    """Every instance and builder asks for IMDSv2 and has no SSH key; an instance is stopped by a shutdown."""
    instances = [
        address
        for address, values in of(found, "aws_instance")
        if values["metadata_options"][0]["http_tokens"] != "required"
        or values.get("key_name")
        or values["instance_initiated_shutdown_behavior"] != "stop"
    ]
    builders = [
        address
        for address, values in of(found, _BUILDER)
        if values["instance_metadata_options"][0]["http_tokens"] != "required" or values["key_pair"]
    ]
    return instances + builders


def without_alias(found: Found) -> list[str]:
    """Every function has the alias that its callers use, and publishes versions for it."""
    aliased = {address.rpartition(".aws_lambda_alias.prod")[0] for address, _ in of(found, "aws_lambda_alias")}
    functions = of(found, "aws_lambda_function")
    return [a for a, v in functions if not v["publish"] or a.rpartition(".aws_lambda_function.")[0] not in aliased]


def privileged(found: Found) -> list[str]:
    """No build runs as who it wants to be on its machine, or shows its log to the world."""
    return [
        address
        for address, values in of(found, "aws_codebuild_project")
        if any(each["privileged_mode"] for each in values["environment"]) or values["project_visibility"] != "PRIVATE"
    ]


RULES: list[Callable[[Found], list[str]]] = [
    *(open_to_the_world, ssh_open, reachable, kept_too_long, untagged),
    *(silent, unencrypted, old_metadata, without_alias, privileged),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_nothing_breaks_the_rule(plans: Plans, plan: str, rule: Callable[[Found], list[str]]) -> None:
    """In either profile, nor in the other roots; but what has its reason, and still breaks it."""
    assert set(rule(resources(plans[plan]))) == EXCUSED.get((plan, rule.__name__), {}).keys()


def test_two_ports_are_open(plans: Plans) -> None:
    """Redis to its clients; with the load balancer, TLS from it and to it."""
    assert ports(resources(plans["lean"])) == {6379}
    assert ports(resources(plans["seed"])) == {443, 6379}


def test_none_is_open_to_the_builder(plans: Plans) -> None:
    """It has a public address, and there is no rule at all for who comes in."""
    assert list(of(resources(plans[IMAGE]), "aws_vpc_security_group_ingress_rule")) == []


Change = tuple[str, str, dict[str, Any]]


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        (open_to_the_world, ("lean", "aws_vpc_security_group_ingress_rule", {"cidr_ipv4": "0.0.0.0/0"})),
        (open_to_the_world, ("lean", "aws_vpc_security_group_ingress_rule", {"cidr_ipv6": "::/0"})),
        (open_to_the_world, ("lean", "aws_vpc_security_group_ingress_rule", {"ip_protocol": "-1"})),
        (open_to_the_world, ("lean", "aws_security_group", {"ingress": [{"from_port": 22}]})),
        (ssh_open, ("seed", "aws_vpc_security_group_ingress_rule", {"from_port": 22, "to_port": 22})),
        (ssh_open, ("lean", "aws_vpc_security_group_ingress_rule", {"from_port": 0, "to_port": 65535})),
        (reachable, ("lean", "aws_subnet", {"map_public_ip_on_launch": True})),
        (reachable, ("lean", "aws_instance", {"associate_public_ip_address": True})),
        (reachable, ("seed", "aws_lb", {"internal": False})),
        (kept_too_long, ("lean", "aws_cloudwatch_log_group", {"retention_in_days": 0})),
        (kept_too_long, (IMAGE, "aws_cloudwatch_log_group", {"retention_in_days": 0})),
        (kept_too_long, (DELIVERY, "aws_cloudwatch_log_group", {"retention_in_days": 90})),
        (untagged, ("lean", "aws_instance", {"tags_all": None})),
        (untagged, (IMAGE, "aws_imagebuilder_image_pipeline", {"tags_all": {}})),
        (untagged, (DELIVERY, "aws_codebuild_project", {"tags_all": {}})),
        (privileged, (DELIVERY, "aws_codebuild_project", {"environment": [{"privileged_mode": True}]})),
        (silent, ("lean", "aws_cloudwatch_metric_alarm", {"actions_enabled": False})),
        (silent, ("lean", "aws_cloudwatch_metric_alarm", {"alarm_actions": []})),
        (silent, ("lean", "aws_cloudwatch_metric_alarm", {"alarm_description": "bad"})),
        (unencrypted, ("lean", "aws_instance", {"root_block_device": [{"encrypted": False}]})),
        (unencrypted, (IMAGE, _RECIPE, {"block_device_mapping": [{"ebs": [{"encrypted": None}]}]})),
        (unencrypted, ("lean", "aws_elasticache_replication_group", {"at_rest_encryption_enabled": "false"})),
        (old_metadata, ("lean", "aws_instance", {"metadata_options": [{"http_tokens": "optional"}]})),
        (old_metadata, ("lean", "aws_instance", {"key_name": "mine"})),
        (old_metadata, (IMAGE, _BUILDER, {"instance_metadata_options": [{"http_tokens": "optional"}]})),
        (old_metadata, (IMAGE, _BUILDER, {"key_pair": "mine"})),
        (old_metadata, ("lean", "aws_instance", {"instance_initiated_shutdown_behavior": "terminate"})),
        (without_alias, ("lean", "aws_lambda_function", {"publish": False})),
    ],
    ids=lambda value: value.__name__ if callable(value) else f"{value[1]} {next(iter(value[2]))}",
)
def test_a_rule_finds_what_breaks_it(plans: Plans, rule: Callable[[Found], list[str]], change: Change) -> None:
    """Each can fail."""
    profile, kind, values = change
    found = copy.deepcopy(resources(plans[profile]))
    changed = [address for address, each in found.items() if each["type"] == kind]
    assert changed
    for address in changed:
        found[address]["values"] |= values
    assert set(rule(found)) == set(changed)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (reachable, "aws_nat_gateway"),
        (reachable, "aws_internet_gateway"),
        (open_to_the_world, "aws_security_group_rule"),
    ],
)
def test_a_rule_finds_what_should_not_be_there(plans: Plans, rule: Callable[[Found], list[str]], kind: str) -> None:
    """Kinds of which there is to be none."""
    found = resources(plans["lean"]) | {f"{kind}.x": {"type": kind, "values": {}}}
    assert rule(found) == [f"{kind}.x"]
