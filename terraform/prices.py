"""The price list: prices.json, dated, of one region, in USD without VAT."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from terraform.plan import Unpriced

FILE: Final = Path(__file__).with_name("prices.json")


@dataclass(frozen=True, slots=True)
class Price:
    """USD for one `unit`."""

    usd: float
    unit: str


@dataclass(frozen=True, slots=True)
class Prices:
    """The list.

    Attributes:
        date: when it was written, as 2026-11-26.
        region: where it holds.
        free: how much of what costs nothing, each month, for ever; of the whole account.
        nothing: resource types that cost nothing, with the reason.
    """

    date: str
    region: str
    prices: Mapping[str, Price]
    free: Mapping[str, float]
    nothing: Mapping[str, str]

    @classmethod
    def load(cls, file: Path = FILE) -> Prices:
        """Read the list."""
        read = json.loads(file.read_text(encoding="utf-8"))
        prices = {name: Price(each["usd"], each["unit"]) for name, each in read["prices"].items()}
        free = {name: each["count"] for name, each in read["free"].items()}
        return cls(read["date"], read["region"], prices, free, read["nothing"])

    def of(self, name: str) -> Price:
        """Return a price.

        Raises:
            Unpriced: there is none.
        """
        if name not in self.prices:
            raise Unpriced(f"terraform/prices.json has no price for {name}; look it up and add it, with its source")
        return self.prices[name]
