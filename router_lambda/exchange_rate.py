"""What a dollar is worth in euros: the reference rate that the European Central Bank publishes on working days.

Source: https://www.ecb.europa.eu/stats/policy_and_exchange_rates/euro_reference_exchange_rates. It comes around 16:00
CET, in USD per EUR. On weekends and holidays the last one holds; the longest gap, at Easter, is four days.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from router_lambda import fetch

URL: Final = "https://www.ecb.europa.eu/stats/eurofxref/eurofxref-daily.xml"
STEP_SECONDS: Final = 0.8
MOST_BYTES: Final = 16_384
"""The document has less than 2 kB."""

OLDEST_DAYS: Final = 7
"""How old a rate may be, in days, that stands in for today's."""

SANE_EUR_PER_USD: Final = (0.5, 2.0)
"""A rate outside of this is a mistake: since the euro began it was between 0.62 and 1.21."""

# By expressions and not by a parser: nothing in the document can make these read files, or grow.
_DAY: Final = re.compile(rb"""<Cube time=(['"])(\d{4}-\d\d-\d\d)\1>""")
_USD: Final = re.compile(rb"""<Cube currency=(['"])USD\1 rate=(['"])(\d{1,3}(?:\.\d{1,8})?)\2 ?/>""")


class RateUnavailable(Exception):
    """The ECB's rate could not be had; the message says why."""


@dataclass(frozen=True, slots=True)
class Rate:
    """The rate of a `day`, as the ECB answered at `asked_at`, in Unix seconds."""

    eur_per_usd: float
    day: date
    asked_at: float

    def is_of(self, today: date) -> bool:
        """Tell whether the ECB was asked today, in UTC: once a day is enough."""
        return datetime.fromtimestamp(self.asked_at, UTC).date() == today

    def holds(self, today: date) -> bool:
        """Tell whether it may still be used."""
        return 0 <= (today - self.day).days <= OLDEST_DAYS


def ask(now: float) -> Rate:
    """Ask the ECB at `now`, in Unix seconds.

    Raises:
        RateUnavailable: it does not answer, or with something else than a rate of these days.
    """
    try:
        answer = fetch.get(URL, STEP_SECONDS, MOST_BYTES)
    except fetch.GetFailed as error:
        raise RateUnavailable(str(error)) from error
    if answer.status != 200:  # noqa: PLR2004 - HTTP's own name for it is no clearer
        raise RateUnavailable(f"the answer was {answer.status}")
    rate = read(answer.body, now)
    if not rate.holds(datetime.fromtimestamp(now, UTC).date()):
        raise RateUnavailable(f"the rate is of {rate.day}")
    return rate


def read(document: bytes, now: float) -> Rate:
    """Read the ECB's document, which it sent at `now`.

    Raises:
        RateUnavailable: it has no day, no rate of the dollar, more than one, or an absurd one.
    """
    days, rates = _DAY.findall(document), _USD.findall(document)
    if len(days) != 1 or len(rates) != 1:
        raise RateUnavailable("the document is not the one of the daily rates")
    usd_per_eur = float(rates[0][2])
    try:
        day = date.fromisoformat(days[0][1].decode())
    except ValueError:
        raise RateUnavailable("the document's day is none") from None
    least, most = SANE_EUR_PER_USD
    if not 1 / most <= usd_per_eur <= 1 / least:
        raise RateUnavailable(f"a rate of {usd_per_eur} USD for a euro is a mistake")
    return Rate(1 / usd_per_eur, day, now)
