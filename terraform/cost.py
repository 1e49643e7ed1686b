"""`python -m terraform.cost [PLAN]`: what a plan costs a month, as a table; of other roots, a build or a push.

Reads what `terraform show -json` prints, from a file or from standard input:

    terraform plan -var-file=profiles/lean.tfvars -out=lean.tfplan
    terraform show -json lean.tfplan | python -m terraform.cost

Prices are those of prices.json, what a plan cannot say is assumed in usage.py, and what is free each month counts as
free, as if the account held nothing else.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from terraform.bake import PIPELINE, Bake
from terraform.bill import Line, bill
from terraform.plan import Plan, Unpriced
from terraform.prices import Prices
from terraform.push import DELIVERY, Push
from terraform.usage import Usage

VAT: Final = 0.19
"""Of Germany, for who owes it; AWS's prices are without."""

_SMALL: Final = 0.01
"""Below it, the four decimal places of a figure say too little."""


@dataclass(frozen=True, slots=True)
class Cost:
    """A month's bill, added up.

    Attributes:
        usd_per_eur: what a euro costs.
        cap_eur: what may be spent.
    """

    lines: tuple[Line, ...]
    gpu_hours: float
    usd_per_eur: float
    cap_eur: float

    @classmethod
    def of(cls, plan: Plan, prices: Prices, usage: Usage, usd_per_eur: float | None = None) -> Cost:
        """Add up a plan; exchange rate and cap are the plan's own unless given.

        Raises:
            Unpriced: see `terraform.bill.bill`.
        """
        rate = usd_per_eur or plan.variables["usd_per_eur"]
        return cls(tuple(bill(plan, prices, usage)), usage.gpu_hours, rate, plan.variables["cap_eur"])

    @property
    def fixed_usd(self) -> float:
        """USD a month for everything but the hours of the GPU."""
        return sum(line.usd for line in self.lines if not line.by_gpu_hour)

    @property
    def gpu_usd(self) -> float:
        """USD a month for the hours of the GPU."""
        return sum(line.usd for line in self.lines if line.by_gpu_hour)

    @property
    def total_eur(self) -> float:
        """EUR a month."""
        return (self.fixed_usd + self.gpu_usd) / self.usd_per_eur

    def hours_under(self, cap_eur: float) -> float:
        """Return how many hours of the GPU fit under a cap; none where the rest is above it."""
        an_hour = sum(line.price.usd for line in self.lines if line.by_gpu_hour)
        return max(0.0, cap_eur * self.usd_per_eur - self.fixed_usd) / an_hour


def _number(value: float) -> str:
    """Write a quantity or a price."""
    text = f"{value:,.4f}" if value >= _SMALL or not value else f"{value:.10f}"
    return text.rstrip("0").rstrip(".")


_Row = tuple[str, str, str, str]


def _row(line: Line) -> _Row:
    quantity = f"{_number(round(line.quantity, 4))} {line.price.unit}"
    return line.what, quantity, _number(line.price.usd), f"{line.usd:.2f}"


def _markdown(rows: Sequence[_Row]) -> list[str]:
    """Return the lines of a table, of which the first row is the head."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|---|---|---|---|", *lines[1:]]


def table(cost: Cost) -> str:
    """Return the bill as a table in Markdown, with its sums."""
    rows: list[_Row] = [("what", "a month", "USD for one", "USD a month")]
    for by_gpu_hour in (False, True):
        rows += [_row(line) for line in cost.lines if line.by_gpu_hour is by_gpu_hour]
        if not by_gpu_hour:
            rows.append(("**fixed**", "", "", f"**{cost.fixed_usd:.2f}**"))
    rows.append(
        (f"**with the GPU's {_number(cost.gpu_hours)} hours**", "", "", f"**{cost.fixed_usd + cost.gpu_usd:.2f}**")
    )
    net, gross = (cost.hours_under(cap) for cap in (cost.cap_eur, cost.cap_eur / (1 + VAT)))
    sums = (
        f"That is EUR {cost.total_eur:.2f} at USD {cost.usd_per_eur} for a euro. Under the cap of EUR"
        f" {_number(cost.cap_eur)} fit {net:.1f} hours of GPU, and {gross:.1f} where {VAT:.0%} VAT comes on top."
    )
    return "\n".join([*_markdown(rows), "", sums])


def bake_table(bake: Bake) -> str:
    """Return what a build costs, and what stays, as a table in Markdown."""
    rows: list[_Row] = [("what", "quantity", "USD for one", "USD")]
    for lines, title in ((bake.build, "a build"), (bake.month, "a month")):
        rows += [_row(line) for line in lines]
        rows.append((f"**{title}**", "", "", f"**{sum(line.usd for line in lines):.2f}**"))
    return "\n".join(_markdown(rows))


def push_table(push: Push) -> str:
    """Return what pushes cost as a table in Markdown."""
    titles = ("a push", "where it bakes an image: the wait for it", f"a month of {_number(push.pushes)} pushes")
    rows: list[_Row] = [("what", "quantity", "USD for one", "USD")]
    for lines, title in zip((push.push, push.bake, push.month), titles, strict=True):
        rows += [_row(line) for line in lines]
        if lines:
            rows.append((f"**{title}**", "", "", f"**{sum(line.usd for line in lines):.2f}**"))
    return "\n".join(_markdown(rows))


def free_list(plan: Plan, prices: Prices) -> str:
    """Return the resource types of a plan that cost nothing, each with the reason."""
    kinds = sorted({each.kind for each in plan.resources} & prices.nothing.keys())
    return "\n".join(f"- `{kind}`: {prices.nothing[kind]}" for kind in kinds)


def _read(path: Path | None) -> Plan:
    text = sys.stdin.read() if path is None else path.read_text(encoding="utf-8")
    try:
        return Plan.from_json(json.loads(text))
    except json.JSONDecodeError as error:
        raise Unpriced(f"this is no JSON ({error}); give what `terraform show -json PLAN` prints") from error


def _amount(text: str) -> float:
    """Read a number that is not below 0."""
    value = float(text)
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is no amount: give a number that is not below 0")
    return value


def _rate(text: str) -> float:
    """Read a number above 0."""
    value = _amount(text)
    if not value:
        raise argparse.ArgumentTypeError("a dollar is worth something: give a rate above 0")
    return value


def main(arguments: Sequence[str]) -> int:
    """Print the table; return 1 where a check fails, 2 where something has no price."""
    usual = Usage()
    parser = argparse.ArgumentParser(prog="python -m terraform.cost", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("plan", nargs="?", type=Path, help="output of `terraform show -json`; default: standard input")
    parser.add_argument("--gpu-hours", type=_amount, default=usual.gpu_hours, help="hours of GPU a month; default: 10")
    parser.add_argument(
        "--requests", type=_amount, default=usual.requests, help="calls of /infer a month; default: 3000"
    )
    parser.add_argument("--eur-per-usd", type=_rate, help="exchange rate; default: the plan's usd_per_eur")
    parser.add_argument(
        "--check", type=_amount, metavar="EUR", help="end with status 1 if the month costs more than that"
    )
    options = parser.parse_args(arguments)
    prices = Prices.load()
    usage = dataclasses.replace(usual, gpu_hours=options.gpu_hours, requests=options.requests)
    try:
        plan = _read(options.plan)
        if plan.is_there(PIPELINE):
            print(bake_table(Bake.of(plan, prices, usage)))
            return 0
        if plan.is_there(DELIVERY):
            print(push_table(Push.of(plan, prices, usage)))
            return 0
        cost = Cost.of(plan, prices, usage, 1 / options.eur_per_usd if options.eur_per_usd else None)
    except (OSError, Unpriced) as error:
        print(f"cost: {error}", file=sys.stderr)
        return 2
    print(f"Prices of {prices.region}, {prices.date}, without VAT.\n\n{table(cost)}")
    print(f"\nWhat costs nothing:\n\n{free_list(plan, prices)}")
    if options.check is not None and cost.total_eur > options.check:
        print(f"cost: EUR {cost.total_eur:.2f} a month is more than EUR {options.check:.2f}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
