"""Counts the answers of the service, of the store and of Cognito, and ends a walk that gets nothing but 5xx."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Final

import httpx

from client.connection import Connected

SERVICE: Final = "the service"
STORE: Final = "the store"
COGNITO: Final = "Cognito"

MOST_IN_A_ROW: Final = 3
"""So many 5xx answers one after the other end the walk."""


class FailedFast(Exception):
    """One party has given nothing but 5xx answers."""


class Tally:
    """Who has answered what; `tell` hears of every 5xx.

    Attributes:
        answers: party → HTTP status → how often.
    """

    def __init__(self, tell: Callable[[str], None]) -> None:
        self.answers: dict[str, Counter[int]] = defaultdict(Counter)
        self._tell = tell
        self._row: dict[str, list[int]] = defaultdict(list)

    def heard(self, party: str, status: int) -> None:
        """Count an answer. Those of one party make a row, whatever the others answer meanwhile.

        Raises:
            FailedFast: it is the last 5xx that is put up with.
        """
        self.answers[party][status] += 1
        row = self._row[party]
        if status < httpx.codes.INTERNAL_SERVER_ERROR:
            row.clear()
            return
        row.append(status)
        self._tell(f"{party} answered {status}")
        if len(row) >= MOST_IN_A_ROW:
            raise FailedFast(f"{party} answered {', '.join(map(str, row))} one after the other; see its logs")

    def is_failing(self, party: str) -> bool:
        """Tell whether the last answer was a 5xx."""
        return bool(self._row[party])

    def counts(self) -> dict[str, dict[str, int]]:
        """Return `answers` for a JSON document."""
        return {party: {str(status): count for status, count in of.items()} for party, of in self.answers.items()}


def watch(connected: Connected, tally: Tally, party: Callable[[httpx.URL], str]) -> None:
    """Let the tally hear every answer that a client gets, those that it asks for again by itself included.

    By httpx's own hook: a transport of ours would lose the proxies that the environment names.
    """

    async def heard(response: httpx.Response) -> None:
        tally.heard(party(response.request.url), response.status_code)

    connected._connection._http.event_hooks = {"response": [heard]}


def service_or_store(service_url: str) -> Callable[[httpx.URL], str]:
    """Return what tells by an address who answers there."""
    service = httpx.URL(service_url)

    def party(url: httpx.URL) -> str:
        return SERVICE if (url.scheme, url.host, url.port) == (service.scheme, service.host, service.port) else STORE

    return party
