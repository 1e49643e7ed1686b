"""What a plan of Terraform says that costs depend on: resources, their quantities, and how often schedules call."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

HOURS_PER_MONTH: Final = 730
"""As AWS's own calculator counts."""

_RATE: Final = re.compile(r"rate\((\d+) (minute|hour|day)s?\)")
_HOURS: Final = {"minute": 1 / 60, "hour": 1.0, "day": 24.0}


class Unpriced(Exception):
    """The plan holds something whose cost is not known; the message names it and says what to do."""


@dataclass(frozen=True, slots=True)
class Resource:
    """One resource that the plan would have in the end: its address, its type, and its values as far as known."""

    address: str
    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """All of them, and the root's variables."""

    resources: tuple[Resource, ...]
    variables: Mapping[str, Any]

    @classmethod
    def from_json(cls, shown: Mapping[str, Any]) -> Plan:
        """Read what `terraform show -json` prints of a plan.

        Raises:
            Unpriced: it is none.
        """
        if "planned_values" not in shown:
            raise Unpriced("this is no plan; make one: terraform plan -out=PLAN, then terraform show -json PLAN")
        variables = {name: each.get("value") for name, each in shown.get("variables", {}).items()}
        return cls(tuple(_walk(shown["planned_values"]["root_module"])), variables)

    def of(self, kind: str) -> list[Resource]:
        """Return the resources of a type."""
        return [each for each in self.resources if each.kind == kind]

    def is_there(self, kind: str) -> bool:
        """Tell whether there is any of a type."""
        return bool(self.of(kind))


def _walk(module: Mapping[str, Any]) -> Iterator[Resource]:
    for each in module.get("resources", []):
        if each["mode"] == "managed":
            yield Resource(each["address"], each["type"], each.get("values", {}))
    for child in module.get("child_modules", []):
        yield from _walk(child)


def runs_per_month(expression: str) -> float:
    """Return how often a schedule such as `rate(15 minutes)` calls in a month.

    Raises:
        Unpriced: it is written in another way.
    """
    rate = _RATE.fullmatch(expression)
    if rate is None:
        raise Unpriced(f"{expression} is no rate(…); teach terraform/plan.py how often that is")
    return HOURS_PER_MONTH / (int(rate[1]) * _HOURS[rate[2]])


def scheduled_runs(plan: Plan) -> dict[str, float]:
    """Return how often schedules call each function in a month, by the target's id, which is its short name."""
    schedules = {
        rule.values["name"]: rule.values["schedule_expression"] for rule in plan.of("aws_cloudwatch_event_rule")
    }
    runs: dict[str, float] = {}
    for target in plan.of("aws_cloudwatch_event_target"):
        if schedule := schedules[target.values["rule"]]:
            name = target.values["target_id"]
            runs[name] = runs.get(name, 0.0) + runs_per_month(schedule)
    return runs
