"""HTTP as the client uses it: no proxy before loopback, and one place that knows what httpx raises."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Final, Self

import httpx

from client.deadline import Deadline
from client.errors import InvalidSettings, NotConnected, Unreachable
from client.pacing import Pacing
from client.settings import LOOPBACK_HOSTS

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
"""Longest silence within one request, in seconds; API Gateway itself gives up after 30."""

TRIES: Final = 3
"""How often a request is sent that may arrive twice."""


class Connection:
    """Sends requests; `option` is what gave their address, for errors that tell the reader to check it."""

    def __init__(self, option: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._option = option
        # A proxy that is set for the outside world cannot see the loopback of this machine.
        direct = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in LOOPBACK_HOSTS}
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, mounts=direct)

    async def close(self) -> None:
        """Give up every socket."""
        await self._http.aclose()

    def request(self, method: str, url: str, headers: dict[str, str], content: bytes | None = None) -> httpx.Request:
        """Build what `send` takes."""
        return self._http.build_request(method, url, headers=headers, content=content)

    async def send(self, request: httpx.Request, deadline: Deadline | None = None) -> httpx.Response:
        """Send one request and read the whole answer.

        Raises:
            NotConnected: there was nobody to send it to.
            Unreachable: no answer, or only part of one.
            DeadlinePassed: no answer within the deadline.
        """
        try:
            async with asyncio.timeout(deadline.left() if deadline else None):
                return await self._http.send(request)
        except TimeoutError:
            assert deadline, "without a deadline nothing times out but httpx, whose errors are its own"
            raise deadline.passed() from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            reason = str(error) or "it does not answer"
            raise NotConnected(
                f"cannot connect to {request.url.host}: {reason}; check {self._option} and the network"
            ) from error
        except httpx.HTTPError as error:
            what = type(error).__name__
            raise Unreachable(f"{request.url.host} gave no whole answer ({what})") from error

    async def send_until_answered(
        self,
        request: httpx.Request,
        deadline: Deadline,
        pacing: Pacing,
        sleep: Callable[[float], Awaitable[None]],
    ) -> httpx.Response:
        """Send what may arrive twice, `TRIES` times at most.

        Raises:
            NotConnected: there was nobody to send it to, at any time.
            Unreachable: no answer, though it may have arrived.
            DeadlinePassed: no answer within the deadline.
        """
        tries = 0
        sent = False
        while True:
            try:
                return await self.send(request, deadline)
            except Unreachable as error:
                tries += 1
                sent = sent or not isinstance(error, NotConnected)
                if tries == TRIES:
                    # What was sent once may have taken effect, even if nobody was there for the last try.
                    raise (Unreachable if sent else NotConnected)(str(error)) from error
                deadline.trouble = error
                await sleep(min(pacing.broken(), deadline.left()))


class Connected:
    """Whatever has a `Connection` and is used in an `async with` block, which closes it."""

    _connection: Connection

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._connection.close()


def usable(url: str, name: str) -> str:
    """Return a URL that httpx takes as well.

    Raises:
        InvalidSettings: it does not, and calls the URL `name`.
    """
    try:
        _ = httpx.URL(url).host  # decoded, and refused, only when read
    except (httpx.InvalidURL, ValueError):
        raise InvalidSettings([f"{name} cannot be used; check how its host is spelt"]) from None
    return url
