"""Whether the month's budget lets an instance be started.

Two objects in the bucket of the replies say so: `guard/spend.json`, which the cost publisher writes, and
`guard/block.json`, which `router_lambda.budget_killer` writes before it stops what runs. Both are read right before
StartInstances, and at no other time. Whatever is not known for certain is a refusal. docs/failures.md goes through
every order in which a look at them, a block, a stop and a start can come.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, urlsplit

from router_lambda import logs, web
from router_lambda.ec2 import Ec2Unavailable
from router_lambda.heartbeat import finite, read_object
from router_lambda.http import TRY_AGAIN_SECONDS
from router_lambda.signing import Signer

if TYPE_CHECKING:
    from http.client import HTTPConnection

OVER_BUDGET: Final = "OverBudget"
"""Code of the refusal that holds until the month is over or the cap is raised."""

BUDGET_UNKNOWN: Final = "BudgetUnknown"
"""Code of the refusal because nobody knows what was spent."""

REFUSALS: Final = frozenset({OVER_BUDGET, BUDGET_UNKNOWN})

SPEND_KEY: Final = "guard/spend.json"
BLOCK_KEY: Final = "guard/block.json"

FRESH_SECONDS: Final = 86_400.0
"""Age up to which a spend is believed: the publisher writes one every 15 minutes."""

CLOCKS_SECONDS: Final = 300.0
"""How far the clock of whoever wrote a document may be ahead of ours."""

LONGEST_BLOCK_SECONDS: Final = 31 * 86_400.0 + CLOCKS_SECONDS
"""No block is longer: it ends with its month, see `block_end`."""

STEP_SECONDS: Final = 1.0
"""Longest wait for a connection, for a TLS handshake and for any one piece of an answer."""

CHECK_SECONDS: Final = 2
"""Longest that a look at both documents may take; a start that has waited for longer is none of that look's."""

MAX_DOCUMENT_BYTES: Final = 65_536
URL_SECONDS: Final = 60
"""Life of the signed addresses."""

STALE_RETRY_SECONDS: Final = 60
"""When to come back if the cost publisher has to write first."""

Check = Callable[[], None]
"""Raises `Ec2Unavailable` unless an instance may be started."""


def unlimited() -> None:
    """Let every start pass: nobody has set a cap."""


def make_check(bucket: str, cap_eur: float | None) -> Check:
    """Return the check of a cap, `None` being none; `bucket` has the documents.

    Raises:
        RouterConfigError: there is a cap, and the environment lacks what signing takes.
    """
    return unlimited if cap_eur is None else Budget(cap_eur, Guard(Signer(bucket).sign_get).read)


class Unreadable(Exception):
    """The documents could not be read. The message says why, and holds nothing of an address, which is signed."""


class Budget:
    """The cap, held against what `read` finds: what lies at `SPEND_KEY` and at `BLOCK_KEY`, `None` for nothing."""

    def __init__(
        self,
        cap_eur: float,
        read: Callable[[], tuple[bytes | None, bytes | None]],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the parts; `read` may raise `Unreadable`, and `clock` gives Unix seconds."""
        self._cap_eur = cap_eur
        self._read = read
        self._clock = clock

    def __call__(self) -> None:
        """Look once.

        Raises:
            Ec2Unavailable: `OVER_BUDGET` or `BUDGET_UNKNOWN`, nothing may be started.
        """
        try:
            spend, block = self._read()
        except Unreadable as error:
            logs.line(event="budget not read", reason=str(error))
            raise _unknown(str(error), TRY_AGAIN_SECONDS) from None
        refused = refusal(spend, block, self._cap_eur, self._clock())
        if refused is not None:
            raise refused


# The decision


def refusal(spend: bytes | None, block: bytes | None, cap_eur: float, now: float) -> Ec2Unavailable | None:
    """Return why nothing may be started at `now`, in Unix seconds, `None` if something may.

    `spend` and `block` are the two documents, `None` for one that is not there.
    """
    spent, until = _spent(spend, now), _blocked_until(block, cap_eur, now)
    if isinstance(until, float):
        return _over(spent if isinstance(spent, float) else None, cap_eur, until, now)
    if isinstance(spent, float) and spent >= cap_eur:
        return _over(spent, cap_eur, month_end(now), now)
    doubts = [doubt for doubt in (spent, until) if isinstance(doubt, str)]
    return _unknown(" and ".join(doubts), STALE_RETRY_SECONDS) if doubts else None


def _spent(document: bytes | None, now: float) -> float | str:
    """Return what was spent this month, in EUR, or why that is not known."""
    if document is None:
        return f"{SPEND_KEY} is not there"
    said = read_object(document)
    month, spent, at = said.get("month"), finite(said.get("spend_eur")), finite(said.get("at"))
    # Who writes as a month turns may have begun in the old one.
    if spent is None or at is None or not 0 <= at <= now + CLOCKS_SECONDS or month not in _months_around(at):
        return f"{SPEND_KEY} holds no spend"
    if now - at > FRESH_SECONDS:
        return f"{SPEND_KEY} is {(now - at) / 3_600:.0f} h old"
    this = month_of(now)
    if month == this:
        return spent
    # "2026-11" < "2026-12": what is left of the old month says that the new one is younger than a day.
    return 0.0 if month < this else f"{SPEND_KEY} is of a month to come"


def _blocked_until(document: bytes | None, cap_eur: float, now: float) -> float | str | None:
    """Return until when the killer blocks every start, in Unix seconds, or why that is not known; `None`: it does not.

    A block is lifted by the end of its month, and by a cap above the one that was reached.
    """
    if document is None:
        return None
    said = read_object(document)
    blocked_at, until = finite(said.get("cap_eur")), finite(said.get("until"))
    if blocked_at is None or until is None or until > now + LONGEST_BLOCK_SECONDS:
        return f"{BLOCK_KEY} holds no block"
    return until if until > now and blocked_at >= cap_eur else None


def _months_around(at: float) -> tuple[str, str]:
    return month_of(at), month_of(max(0.0, at - CLOCKS_SECONDS))


def _over(spent: float | None, cap_eur: float, until: float, now: float) -> Ec2Unavailable:
    if spent is None:
        what = f"this month's budget of €{cap_eur:.2f} is used up"
    elif spent < cap_eur:  # AWS counts otherwise than the cost publisher
        what = f"this month's spend is €{spent:.2f} of €{cap_eur:.2f}, and the budget killer has stopped the GPU"
    else:
        what = f"this month's spend is €{spent:.2f} of €{cap_eur:.2f}"
    day = datetime.fromtimestamp(until, UTC).strftime("%Y-%m-%d %H:%M UTC")
    message = f"{what}; the GPU is not started before {day} unless the cap is raised"
    return Ec2Unavailable(OVER_BUDGET, message, math.ceil(until - now))


def _unknown(why: str, retry_after: int) -> Ec2Unavailable:
    message = (
        f"the GPU is not started, as nobody knows whether this month's budget allows it: {why}; send the request again"
        " after Retry-After seconds, and look at the cost publisher's log if that does not help"
    )
    return Ec2Unavailable(BUDGET_UNKNOWN, message, retry_after)


def month_of(at: float) -> str:
    """Return the month of a moment, in Unix seconds, by UTC: like `2026-11`."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m")


def month_end(at: float) -> float:
    """Return when the month of a moment ends, by UTC; both in Unix seconds."""
    first = datetime.fromtimestamp(at, UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return (first + timedelta(days=31)).replace(day=1).timestamp()


def block_end(at: float) -> float:
    """Return until when a block of a moment holds; both in Unix seconds.

    To the end of its month; but a block of a month's first day ends with that day: AWS Budgets counts up to a day late,
    so that the word may be of the month before. If the new one is used up as well, its spend says so.
    """
    begins = datetime.fromtimestamp(at, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    return (begins + timedelta(days=1)).timestamp() if begins.day == 1 else month_end(at)


# The reading


class Guard:
    """Reads both documents over one connection, without boto3, which would be imported for nothing else by then."""

    def __init__(self, sign: Callable[[str, int], str], clock: Callable[[], float] = time.monotonic) -> None:
        """Take what returns the signed address of a key for so many seconds; `clock` gives seconds, any monotonic."""
        self._sign = sign
        self._clock = clock

    def read(self) -> tuple[bytes | None, bytes | None]:
        """Return what lies at `SPEND_KEY` and at `BLOCK_KEY`, `None` for nothing.

        The block comes last, so that as little time as can be passes between it and the start that it lets through.

        Raises:
            Unreadable: S3 does not answer in time, or not with an object.
        """
        from http.client import HTTPException  # noqa: PLC0415 - see `router_lambda.web`

        began = self._clock()
        spend, block = (urlsplit(self._sign(key, URL_SECONDS)) for key in (SPEND_KEY, BLOCK_KEY))
        try:
            connection = web.connection(spend, STEP_SECONDS)
            try:
                found = _get(connection, spend), _get(connection, block)
            finally:
                connection.close()
        except (OSError, ValueError, HTTPException) as error:
            raise Unreadable(f"S3 does not answer ({type(error).__name__})") from None
        if self._clock() - began > CHECK_SECONDS:
            raise Unreadable("S3 answers too slowly")
        return found


def _get(connection: HTTPConnection, url: SplitResult) -> bytes | None:
    """Return an object, `None` if there is none.

    Raises:
        Unreadable: S3 says anything else, or the object is too large to be one of ours.
        OSError, http.client.HTTPException: it says nothing.
    """
    connection.request("GET", web.target(url))
    with connection.getresponse() as response:
        body = response.read(MAX_DOCUMENT_BYTES + 1)
        if len(body) > MAX_DOCUMENT_BYTES:
            raise Unreadable("S3 answers with too large an object")
        match response.status:
            case 200:
                return body
            case 404:
                return None
        raise Unreadable(f"S3 answers {response.status}")
