"""`guard/spend.json`: what the month has cost so far, for those who start GPUs, and what its author needs next time.

The cost publisher alone writes it:

    {"month": "2026-11", "spend_eur": 12.34, "cap_eur": 20.0, "at": <Unix s>,
     "parts": {"bill_usd": …, "fixed_usd": …, "gpu_usd": …, "eur_per_usd": …},
     "bill": {"usd_by_day": {"2026-11-01": …, …}, "asked_at": <Unix s>} | null, "bill_tried_at": <Unix s> | null,
     "rate": {"eur_per_usd": 0.8787, "day": "2026-11-25", "asked_at": <Unix s>} | null}
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final, TypeVar

from router_lambda.cost import HOUR_SECONDS, Bill, Spend
from router_lambda.exchange_rate import SANE_EUR_PER_USD, Rate
from router_lambda.heartbeat import finite, read_object

MOST_BYTES: Final = 65_536
"""Of what is read. A month has less than 2 kB."""

_LARGEST_USD: Final = 1e9
_LATEST: Final = 32_503_680_000.0
"""The year 3000, in Unix seconds: later ones are no dates in Python some time."""

_Read = TypeVar("_Read")


@dataclass(frozen=True, slots=True)
class Memory:
    """What an earlier run has left.

    Attributes:
        bill: Cost Explorer's last answer, `None` if there never was one.
        tried_at: when it was last asked, whether it answered or not, in Unix seconds; `None` if never.
        rate: the ECB's last answer, `None` if there never was one.
    """

    bill: Bill | None = None
    tried_at: float | None = None
    rate: Rate | None = None

    @classmethod
    def read(cls, text: bytes) -> Memory:
        """Read the document. What is not in it, or is of another form, is as if it had never been known."""
        said = read_object(text)
        tried_at = _read(_moment, said.get("bill_tried_at"))
        return cls(_read(_bill, said.get("bill")), tried_at, _read(_rate, said.get("rate")))

    def is_due(self, now: float, hours: int) -> bool:
        """Tell whether to ask Cost Explorer at `now`: its answer is `hours` old, and it was not asked just before.

        After a failure it is asked again in an hour, as it may want money for that too. A time to come means that the
        clock was set back: it does not hold.
        """
        is_fresh = self.bill is not None and 0 <= now - self.bill.asked_at < hours * HOUR_SECONDS
        is_tried = self.tried_at is not None and 0 <= now - self.tried_at < min(hours, 1) * HOUR_SECONDS
        return not (is_fresh or is_tried)


def document(now: datetime, spend: Spend, eur_per_usd: float, cap_eur: float, memory: Memory) -> dict[str, Any]:
    """Return what is to be written at `now`, a time of UTC; `memory` is what the next run is to know."""
    bill, rate = memory.bill, memory.rate
    parts = {"bill_usd": spend.bill_usd, "fixed_usd": spend.fixed_usd, "gpu_usd": spend.gpu_usd}
    return {
        "month": now.strftime("%Y-%m"),
        "spend_eur": round(spend.eur(eur_per_usd), 4),
        "cap_eur": cap_eur,
        "at": now.timestamp(),
        "parts": {name: round(usd, 6) for name, usd in parts.items()} | {"eur_per_usd": eur_per_usd},
        "bill": bill
        and {
            "usd_by_day": {day.isoformat(): round(usd, 6) for day, usd in sorted(bill.usd_by_day.items())},
            "asked_at": bill.asked_at,
        },
        "bill_tried_at": memory.tried_at,
        "rate": rate and {"eur_per_usd": rate.eur_per_usd, "day": rate.day.isoformat(), "asked_at": rate.asked_at},
    }


def _read(how: Callable[[Any], _Read], said: Any) -> _Read | None:
    """Return what a member says, `None` if it is not of our form."""
    try:
        return how(said)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def _bill(said: Any) -> Bill:
    days = {
        date.fromisoformat(day): _number(usd, -_LARGEST_USD, _LARGEST_USD) for day, usd in said["usd_by_day"].items()
    }
    return Bill(days, _moment(said["asked_at"]))


def _rate(said: Any) -> Rate:
    eur_per_usd = _number(said["eur_per_usd"], *SANE_EUR_PER_USD)
    return Rate(eur_per_usd, date.fromisoformat(said["day"]), _moment(said["asked_at"]))


def _moment(said: Any) -> float:
    return _number(said, 0.0, _LATEST)


def _number(said: Any, least: float, most: float) -> float:
    number = finite(said)
    if number is None or not least <= number <= most:
        raise ValueError("not such a number")
    return number
