"""From a plan, a price list and an assumed use to the lines of a month's bill. Pure: it reads and writes nothing."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from terraform.plan import HOURS_PER_MONTH, Plan, Resource, Unpriced, runs_per_month, scheduled_runs
from terraform.prices import Price, Prices
from terraform.usage import Usage

_CANARY_CALLS: Final = ("router", "queue-health")
"""Functions that our canary's two questions reach."""

_SYNTHETICS: Final = "AWS::Synthetics::Canary"
_SYNTHETICS_MB: Final = 960


@dataclass(frozen=True, slots=True)
class Line:
    """One line: so much of something a month, at a price.

    Attributes:
        by_gpu_hour: whether it grows with the hours that the GPU runs; all others are the fixed costs.
    """

    what: str
    quantity: float
    price: Price
    by_gpu_hour: bool = False

    @property
    def usd(self) -> float:
        """USD a month."""
        return self.quantity * self.price.usd


@dataclass(frozen=True, slots=True)
class _World:
    plan: Plan
    prices: Prices
    usage: Usage

    def line(self, what: str, quantity: float, price: str, free: str = "", *, by_gpu_hour: bool = False) -> Line:
        """Return a line, for what is beyond the free part."""
        if free:
            count = self.prices.free[free]
            what += f" beyond the {count:,} free"
            quantity = max(0.0, quantity - count)
        return Line(what, quantity, self.prices.of(price), by_gpu_hour)

    def synthetics_runs(self) -> float:
        """Return how often canaries of CloudWatch Synthetics run."""
        return sum(runs_per_month(each["Schedule"]["Expression"]) for each in self._canaries())

    def _canaries(self) -> Iterator[dict[str, Any]]:
        for stack in self.plan.of("aws_cloudformation_stack"):
            if "template_body" not in stack.values:  # it names what the first apply has yet to make
                yield {"Schedule": {"Expression": self.usage.synthetics_schedule}}
                continue
            for name, each in json.loads(stack.values["template_body"])["Resources"].items():
                if each["Type"] != _SYNTHETICS:
                    raise Unpriced(
                        f"{stack.address} makes {name}, an {each['Type']}; add its price to terraform/bill.py"
                    )
                yield each["Properties"]

    def calls(self) -> dict[str, float]:
        """Return how often each function is called in a month, by its short name."""
        calls = scheduled_runs(self.plan)
        for name in _CANARY_CALLS:
            calls[name] = calls.get(name, 0.0) + calls.get("canary", 0.0)
        by_clients = self.usage.requests * self.usage.calls_per_request
        calls["router"] += self.synthetics_runs() + by_clients
        calls["authorizer"] = by_clients
        return calls

    def api_calls(self) -> float:
        """Return how often the API is called."""
        calls = self.calls()
        return calls["router"] + calls["queue-health"]


Rule = Callable[[_World, Sequence[Resource]], Iterator[Line]]


def _queue(world: _World, groups: Sequence[Resource]) -> Iterator[Line]:
    for each in groups:
        kind = f"node {each.values['engine']} {each.values['node_type']}"
        yield world.line(f"Queue: {kind}", HOURS_PER_MONTH * each.values["num_cache_clusters"], kind)


def _gpu(world: _World, instances: Sequence[Resource]) -> Iterator[Line]:
    volumes = [volume for each in instances for volume in each.values["root_block_device"]]
    for volume in volumes:
        if volume["volume_type"] != "gp3":
            raise Unpriced(
                f"a volume of the type {volume['volume_type']} has no price; add it to terraform/prices.json"
            )
    yield world.line("GPU: disks, running or not", sum(volume["volume_size"] for volume in volumes), "gp3")
    yield world.line("GPU: snapshot of the image", world.usage.ami_gb, "snapshot")
    kind = f"instance {instances[0].values['instance_type']}"
    yield world.line(f"GPU: {kind}", world.usage.gpu_hours, kind, by_gpu_hour=True)
    if any(subnet.values["map_public_ip_on_launch"] for subnet in world.plan.of("aws_subnet")):
        yield world.line("GPU: its public IPv4 address", world.usage.gpu_hours, "public ipv4", by_gpu_hour=True)


def _functions(world: _World, functions: Sequence[Resource]) -> Iterator[Line]:
    calls, usage = world.calls(), world.usage
    seconds, traces, architectures = 0.0, 0.0, set()
    for each in functions:
        # Their names are the system's and then the short name, which the system's own may not hold.
        full = each.values["function_name"]
        name = next((known for known in usage.milliseconds if full.endswith(f"-{known}")), None)
        if name is None:
            raise Unpriced(f"{each.address}: say in terraform/usage.py how long a call of it takes")
        count = calls.get(name, 0.0)
        seconds += count * usage.milliseconds[name] / 1000 * each.values["memory_size"] / 1024
        traces += count if each.values["tracing_config"][0]["mode"] == "Active" else 0.0
        architectures.update(each.values["architectures"])
    (architecture,) = architectures
    seconds += world.synthetics_runs() * usage.synthetics_seconds * _SYNTHETICS_MB / 1024
    total = sum(calls.values()) + world.synthetics_runs()
    yield world.line("Functions: calls", total, "lambda request", "lambda request")
    yield world.line("Functions: GB seconds", seconds, f"lambda {architecture}", "lambda GB second")
    yield world.line("X-Ray: traces", traces, "trace", "trace")
    # The publisher asks at each run, or when its answer is older than that.
    hours = world.plan.variables["bill_hours"]
    runs = calls["cost-publisher"]
    asked = min(runs, HOURS_PER_MONTH / hours) if hours else runs
    yield world.line("Cost Explorer: requests", asked, "cost explorer request")


def _api(world: _World, _apis: Sequence[Resource]) -> Iterator[Line]:
    yield world.line("API: calls, our canaries' included", world.api_calls(), "http api call")


def _alarms(world: _World, alarms: Sequence[Resource]) -> Iterator[Line]:
    # AWS bills each metric that an alarm looks at as an alarm.
    metrics = sum(len([each for each in alarm.values["metric_query"] or [] if each["metric"]]) or 1 for alarm in alarms)
    yield world.line(f"CloudWatch: metrics of {len(alarms)} alarms", metrics, "alarm metric", "alarm metric")
    with_gpu = world.usage.metrics_with_gpu * min(1.0, world.usage.gpu_hours / HOURS_PER_MONTH)
    yield world.line("CloudWatch: custom metrics", world.usage.metrics_at_all_times + with_gpu, "metric", "metric")


def _dashboards(world: _World, dashboards: Sequence[Resource]) -> Iterator[Line]:
    # Free are those with up to 50 metrics, which ours has with one GPU.
    if len(world.plan.of("aws_instance")) > 1:
        yield world.line("CloudWatch: dashboard of more than 50 metrics", len(dashboards), "dashboard")
    else:
        yield world.line("CloudWatch: dashboards", len(dashboards), "dashboard", "dashboard")


def _logs(world: _World, _groups: Sequence[Resource]) -> Iterator[Line]:
    usage = world.usage
    kilobytes = (sum(world.calls().values()) + world.synthetics_runs()) * usage.call_log_kb
    kilobytes += world.api_calls() * usage.access_log_kb + usage.gpu_hours * usage.worker_log_mb * 1e3
    yield world.line("CloudWatch: GB of logs", kilobytes / 1e6, "log", "log")


def _buckets(world: _World, _buckets: Sequence[Resource]) -> Iterator[Line]:
    usage, published = world.usage, world.calls()["cost-publisher"]
    puts = usage.requests * usage.snapshots_per_reply + published + world.synthetics_runs() * usage.synthetics_puts
    yield world.line("S3: writes", puts, "s3 put")
    yield world.line("S3: reads", usage.requests * usage.polls_per_reply + published, "s3 get")
    kept = usage.requests * usage.reply_kb / 1e6 * usage.reply_days * 24 / HOURS_PER_MONTH
    yield world.line("S3: GB kept", kept, "s3 storage")


def _balancers(world: _World, balancers: Sequence[Resource]) -> Iterator[Line]:
    for each in balancers:
        if each.values["load_balancer_type"] != "network":
            raise Unpriced(
                f"{each.address} is no network load balancer; add the price of its type to terraform/bill.py"
            )
        yield world.line("TLS: network load balancer", HOURS_PER_MONTH, "nlb")
        yield world.line("TLS: what it does", HOURS_PER_MONTH * world.usage.nlb_capacity_units, "nlb capacity")


def _stacks(world: _World, _stacks: Sequence[Resource]) -> Iterator[Line]:
    yield world.line("CloudWatch Synthetics: runs", world.synthetics_runs(), "canary run")


def _topics(world: _World, _topics: Sequence[Resource]) -> Iterator[Line]:
    yield world.line("SNS: mails", world.usage.mails, "sns mail", "sns mail")


RULES: Final[dict[str, Rule]] = {
    "aws_elasticache_replication_group": _queue,
    "aws_instance": _gpu,
    "aws_lb": _balancers,
    "aws_cloudformation_stack": _stacks,
    "aws_lambda_function": _functions,
    "aws_apigatewayv2_api": _api,
    "aws_cloudwatch_metric_alarm": _alarms,
    "aws_cloudwatch_dashboard": _dashboards,
    "aws_cloudwatch_log_group": _logs,
    "aws_s3_bucket": _buckets,
    "aws_sns_topic": _topics,
}
"""By resource type, what it costs."""


def check(plan: Plan, prices: Prices, priced: Collection[str], file: str) -> None:
    """Let nothing pass unpriced: `priced` are the resource types that `file` has rules for.

    Raises:
        Unpriced: the plan holds what is neither priced nor known to cost nothing.
    """
    for each in plan.resources:
        if each.kind not in priced and each.kind not in prices.nothing:
            raise Unpriced(
                f"{each.address}: nobody says what an {each.kind} costs; add a rule to {file},"
                ' or the reason why it costs nothing to "nothing" in terraform/prices.json'
            )
        if each.kind == "aws_vpc_endpoint" and each.values["vpc_endpoint_type"] != "Gateway":
            raise Unpriced(
                f"{each.address}: only endpoints of the type Gateway cost nothing; add a price for the other"
            )
    if plan.variables["region"] != prices.region:
        raise Unpriced(
            f"the prices are those of {prices.region}, the plan is for {plan.variables['region']}; add a list"
        )


def bill(plan: Plan, prices: Prices, usage: Usage) -> list[Line]:
    """Return the lines of a month's bill.

    Raises:
        Unpriced: see `check`.
    """
    check(plan, prices, RULES, "terraform/bill.py")
    world = _World(plan, prices, usage)
    return [line for kind, rule in RULES.items() if plan.is_there(kind) for line in rule(world, plan.of(kind))]
