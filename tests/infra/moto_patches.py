"""`python -m tests.infra.moto_patches HOST PORT`: moto, mended and completed so that Terraform can apply against it.

What moto 5.2.5 gets wrong or does not know is added here rather than left out of the configuration, so that the very
files that go to AWS are applied. Each handler says what it is for; it keeps no more than a later read has to return.
"""

from __future__ import annotations

import json
import os
import sys
import uuid
from collections.abc import Callable
from typing import Any, Final

from moto.apigatewayv2.responses import ApiGatewayV2Response
from moto.budgets.models import budgets_backends
from moto.budgets.responses import BudgetsResponse
from moto.cognitoidp.models import DEFAULT_USER_POOL_CONFIG
from moto.core.exceptions import ServiceException
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.models import EC2Backend
from moto.ec2.models.security_groups import SecurityGroupRule
from moto.ec2.models.subnets import Subnet
from moto.elasticache.models import CacheCluster, ElastiCacheBackend, ReplicationGroup
from moto.elasticache.responses import ElastiCacheResponse
from moto.iam.access_control import IAMPolicy, PermissionResult
from moto.logs.responses import LogsResponse
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from moto.s3.models import FakeBucket
from werkzeug.serving import run_simple

from tests.infra.code_pipeline import with_code_pipeline
from tests.infra.image_builder import with_image_builder
from tests.infra.recorded_calls import recording
from tests.infra.repeated_calls import remembering

_PARAMETER_GROUPS: Final[dict[str, dict[str, Any]]] = {}
_QUERIES: Final[dict[str, dict[str, Any]]] = {}
_BUDGET_TAGS: Final[dict[str, list[dict[str, str]]]] = {}

_Method = Callable[..., Any]


# EC2: an association's state is nested one level too deep, and Terraform waits three minutes for it.


def _associations(self: Subnet) -> list[dict[str, Any]]:
    return [
        {
            "ipv6CidrBlock": each["ipv6CidrBlock"],
            "associationId": each["associationId"],
            "ipv6CidrBlockState": {"state": each["ipv6CidrBlockState"]["State"]},
        }
        for each in self.ipv6_cidr_block_associations.values()
    ]


# EC2: rules for a group or a prefix list lose their description, and an instance its groups at any change of it.


def _with_description(init: _Method) -> _Method:
    def __init__(self: Any, *arguments: Any, **named: Any) -> None:  # noqa: N807 - takes its place
        init(self, *arguments, **named)
        sources = arguments[5:8]  # addresses, a group, a prefix list: one of them is there
        self.described = next((each.get("Description") for each in sources if each), None)

    return __init__


def _unless_none(modify: _Method) -> _Method:
    def modify_instance_security_groups(self: EC2Backend, instance_id: str, groups: list[str]) -> None:
        if groups:
            modify(self, instance_id, groups)

    return modify_instance_security_groups


# S3: conditions are not read, so that a bucket that denies what is not TLS denies everything.


def get_permission(self: FakeBucket, action: str, resource: str) -> PermissionResult:
    """Hold a call against the bucket's policy as if it came by TLS, as those to AWS do."""
    document = json.loads(self.policy or '{"Statement": []}')
    plaintext = {"Bool": {"aws:SecureTransport": "false"}}
    document["Statement"] = [each for each in document["Statement"] if each.get("Condition") != plaintext]
    permission: PermissionResult = IAMPolicy(json.dumps(document)).is_action_permitted(action, resource)
    return permission


# API Gateway and Cognito: what moto forgets of what was asked for.


def _with_address_type(create: _Method) -> _Method:
    def create_api(self: ApiGatewayV2Response) -> Any:
        status, headers, body = create(self)
        asked, answer = json.loads(self.body), json.loads(body)
        api = self.apigatewayv2_backend.get_api(answer["apiId"])
        kept = {"ipAddressType": asked.get("ipAddressType", "ipv4")}
        to_json = api.to_json
        api.to_json = lambda: to_json() | kept  # type: ignore[method-assign]
        return status, headers, json.dumps(answer | kept)

    return create_api


# ElastiCache: no parameter groups, no members of a replication group, and a group that is never gone.


def list_tags_for_resource(self: ElastiCacheBackend, arn: str) -> dict[str, list[dict[str, str]]]:
    """Return a resource's tags, those of a parameter group too."""
    return self.tagging_service.list_tags_for_resource(arn)


def create_cache_parameter_group(self: ElastiCacheResponse) -> ActionResult:
    """Keep a parameter group."""
    name = self._get_param("CacheParameterGroupName")
    _PARAMETER_GROUPS[name] = {
        "CacheParameterGroupName": name,
        "CacheParameterGroupFamily": self._get_param("CacheParameterGroupFamily"),
        "Description": self._get_param("Description"),
        "IsGlobal": False,
        "ARN": f"arn:aws:elasticache:{self.region}:{self.current_account}:parametergroup:{name}",
        "parameters": {},
    }
    if tags := self._get_param("Tags", []):
        self.elasticache_backend.add_tags_to_resource(_PARAMETER_GROUPS[name]["ARN"], tags)
    return ActionResult({"CacheParameterGroup": _PARAMETER_GROUPS[name]})


def _parameter_group(name: str) -> dict[str, Any]:
    if name not in _PARAMETER_GROUPS:
        raise ServiceException("CacheParameterGroupNotFound", f"there is no parameter group {name}")
    return _PARAMETER_GROUPS[name]


def describe_cache_parameter_groups(self: ElastiCacheResponse) -> ActionResult:
    """Return the one that is asked for."""
    return ActionResult({"CacheParameterGroups": [_parameter_group(self._get_param("CacheParameterGroupName"))]})


def modify_cache_parameter_group(self: ElastiCacheResponse) -> ActionResult:
    """Set parameters."""
    group = _parameter_group(self._get_param("CacheParameterGroupName"))
    for each in self._get_param("ParameterNameValues", []):
        group["parameters"][each["ParameterName"]] = each["ParameterValue"]
    return ActionResult({"CacheParameterGroupName": group["CacheParameterGroupName"]})


def describe_cache_parameters(self: ElastiCacheResponse) -> ActionResult:
    """Return what was set; AWS would add all defaults."""
    parameters = _parameter_group(self._get_param("CacheParameterGroupName"))["parameters"]
    found = [{"ParameterName": name, "ParameterValue": value, "Source": "user"} for name, value in parameters.items()]
    return ActionResult({"Parameters": found})


def delete_cache_parameter_group(self: ElastiCacheResponse) -> ActionResult:
    """Forget a group."""
    del _PARAMETER_GROUPS[_parameter_group(self._get_param("CacheParameterGroupName"))["CacheParameterGroupName"]]
    return EmptyResult()


def delete_cache_subnet_group(self: ElastiCacheResponse) -> ActionResult:
    """Forget a group."""
    self.elasticache_backend.cache_subnet_groups.pop(self._get_param("CacheSubnetGroupName"), None)
    return EmptyResult()


def _with_members(create: _Method) -> _Method:
    """Let a replication group have the cache clusters that it names: Terraform reads version and network from them."""

    def create_replication_group(self: ElastiCacheResponse) -> ActionResult:
        made: ActionResult = create(self)
        group: ReplicationGroup = made.result["ReplicationGroup"]  # type: ignore[index]
        for name in group.member_clusters:
            member = CacheCluster.__new__(CacheCluster)
            member.__dict__ = {
                "cache_cluster_id": name,
                "replication_group_id": group.replication_group_id,
                "cache_cluster_status": "available",
                "num_cache_nodes": 1,
                "cache_parameter_group": {"CacheParameterGroupName": group.cache_parameter_group_name},
                "security_groups": [
                    {"SecurityGroupId": each, "Status": "active"} for each in group.security_group_ids or []
                ],
                "arn": f"arn:aws:elasticache:{self.region}:{self.current_account}:cluster:{name}",
            } | {
                name: getattr(group, name)
                for name in (
                    *("engine", "engine_version", "cache_node_type", "cache_subnet_group_name", "port"),
                    *("preferred_maintenance_window", "auto_minor_version_upgrade", "snapshot_retention_limit"),
                    *("snapshot_window", "at_rest_encryption_enabled", "transit_encryption_enabled", "network_type"),
                    *("ip_discovery", "notification_topic_arn"),
                )
            }
            self.elasticache_backend.cache_clusters[name] = member
        return made

    return create_replication_group


def delete_replication_group(self: ElastiCacheResponse) -> ActionResult:
    """Forget a group and its members at once."""
    backend, name = self.elasticache_backend, self._get_param("ReplicationGroupId")
    (group,) = backend.describe_replication_groups(name)
    for member in group.member_clusters:
        del backend.cache_clusters[member]
    del backend.replication_groups[name]
    return ActionResult({"ReplicationGroup": group})


# CloudWatch Logs: no saved queries.


def put_query_definition(self: LogsResponse) -> str:
    """Keep a query."""
    query = json.loads(self.body)
    query.setdefault("queryDefinitionId", str(uuid.uuid4()))
    _QUERIES[query["queryDefinitionId"]] = query
    return json.dumps({"queryDefinitionId": query["queryDefinitionId"]})


def describe_query_definitions(self: LogsResponse) -> str:
    """Return all."""
    return json.dumps({"queryDefinitions": list(_QUERIES.values())})


def delete_query_definition(self: LogsResponse) -> str:
    """Forget one."""
    return json.dumps({"success": _QUERIES.pop(json.loads(self.body)["queryDefinitionId"], None) is not None})


# Budgets: no tags, no subscribers.


def _with_tags(create: _Method) -> _Method:
    def create_budget(self: BudgetsResponse) -> str:
        budget = self._get_param("Budget")
        name = f"arn:aws:budgets::{self.current_account}:budget/{budget['BudgetName']}"
        _BUDGET_TAGS[name] = self._get_param("ResourceTags", [])
        answer: str = create(self)
        return answer

    return create_budget


def list_budget_tags(self: BudgetsResponse) -> str:
    """Return a budget's tags."""
    return json.dumps({"ResourceTags": _BUDGET_TAGS.get(self._get_param("ResourceARN"), [])})


def describe_subscribers_for_notification(self: BudgetsResponse) -> str:
    """Return whom a notification of a budget goes to."""
    budgets = budgets_backends[self.current_account][self.partition].budgets
    wanted = self._get_param("Notification")
    budget = budgets[self._get_param("AccountId")][self._get_param("BudgetName")]
    found = [each.subscribers for each in budget.notifications if wanted.items() <= each.details.items()]
    return json.dumps({"Subscribers": found[0]})


def _apply() -> None:
    """Put everything above into moto."""
    Subnet.ipv6_cidr_block_association_set = property(_associations)  # type: ignore[assignment]
    SecurityGroupRule.__init__ = _with_description(SecurityGroupRule.__init__)  # type: ignore[method-assign]
    SecurityGroupRule.description = property(lambda self: self.described)  # type: ignore[assignment,method-assign]
    DEFAULT_USER_POOL_CONFIG["UserPoolTier"] = "ESSENTIALS"
    additions: dict[type, tuple[_Method, ...]] = {
        ApiGatewayV2Response: (_with_address_type(ApiGatewayV2Response.create_api),),
        EC2Backend: (_unless_none(EC2Backend.modify_instance_security_groups),),
        ElastiCacheResponse: (
            *(create_cache_parameter_group, describe_cache_parameter_groups, modify_cache_parameter_group),
            *(describe_cache_parameters, delete_cache_parameter_group, delete_cache_subnet_group),
            *(delete_replication_group, _with_members(ElastiCacheResponse.create_replication_group)),
        ),
        ElastiCacheBackend: (list_tags_for_resource,),
        FakeBucket: (get_permission,),
        LogsResponse: (put_query_definition, describe_query_definitions, delete_query_definition),
        BudgetsResponse: (describe_subscribers_for_notification, _with_tags(BudgetsResponse.create_budget)),
    }
    for kind, methods in additions.items():
        for method in methods:
            setattr(kind, method.__name__, method)
    BudgetsResponse.list_tags_for_resource = list_budget_tags  # type: ignore[attr-defined]


def main() -> None:
    """Serve until killed."""
    host, port = sys.argv[1], int(sys.argv[2])
    _apply()
    ours = with_code_pipeline(with_image_builder(DomainDispatcherApplication(create_backend_app)))
    app = recording(remembering(ours), os.environ["MOTO_ACCOUNT_ID"])
    run_simple(host, port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
