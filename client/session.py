"""The client as a library.

    async with Client(url, token) as client:
        submission = await client.submit(prompt="Why is the sky blue?")
        async for snapshot in client.follow(submission):
            print(snapshot.text)

One request is under way at a time and nothing runs between two steps of the iteration, so cancelling it or
leaving it stops everything.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Final, Self

import httpx

from client.answers import Submission, has_news, read_submission
from client.deadline import Deadline
from client.errors import InvalidSettings, NotConnected, UnexpectedAnswer, Unreachable
from client.pacing import Pacing
from client.reply import Snapshot
from client.request import encode_body
from client.settings import DEFAULT_DEADLINE_SECONDS, LOOPBACK_HOSTS, Settings

_TIMEOUT: Final = httpx.Timeout(30.0, connect=10.0)
"""Longest silence within one request, in seconds; API Gateway itself gives up after 30."""

_POST_TRIES: Final = 3


class Client:
    """One connection to one service; times are seconds of `clock`, any monotonic one.

    Raises:
        InvalidSettings: the URL, the token or the deadline cannot be used.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings = Settings(url, token, deadline_seconds)
        try:
            self._infer_url = httpx.URL(self._settings.endpoint("/infer"))
            _ = self._infer_url.host  # decoded, and refused, only when read
        except (httpx.InvalidURL, ValueError):
            raise InvalidSettings(["the service's URL cannot be used; give one like https://host/stage"]) from None
        self._clock = clock
        self._sleep = sleep
        self._chance = chance
        # A proxy that is set for the outside world cannot see the loopback of this machine.
        direct = {f"all://[{host}]" if ":" in host else f"all://{host}": None for host in LOOPBACK_HOSTS}
        self._http = httpx.AsyncClient(timeout=_TIMEOUT, transport=transport, mounts=direct)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self._http.aclose()

    async def submit(
        self,
        *,
        prompt: str | None = None,
        messages: Sequence[Mapping[str, str]] | None = None,
        raw: bool = False,
        idle_minutes: int | None = None,
        params: Mapping[str, Any] | None = None,
    ) -> Submission:
        """Post a job; names and meanings as in the body of `POST /infer`.

        Tries again only where no connection came about: a POST that was sent may have queued its job.

        Raises:
            InvalidSettings: the job cannot be written as JSON.
            Refused: the service does not accept it.
            Unreachable: no answer; unless it is `NotConnected`, the job may have been queued.
            UnexpectedAnswer: the answer breaks the contract.
            DeadlinePassed: no answer within the deadline.
        """
        body = encode_body(prompt=prompt, messages=messages, raw=raw, idle_minutes=idle_minutes, params=params)
        posted_at = self._clock()
        deadline = Deadline(self._settings.deadline_seconds, posted_at, self._clock)
        request = self._post(self._infer_url, body)
        pacing = Pacing(self._chance)
        tries = 0
        while True:
            try:
                return read_submission(await self._send(request, deadline), posted_at)
            except NotConnected as error:
                tries += 1
                if tries == _POST_TRIES:
                    raise
                deadline.trouble = error
                await self._sleep(min(pacing.broken(), deadline.left()))
            except Unreachable as error:
                raise Unreachable(f"{error}; the job may have been queued, so it was not sent again") from error

    async def follow(self, submission: Submission) -> AsyncGenerator[Snapshot, None]:
        """Yield the reply each time it has changed, the final snapshot last; no text in it ever shrinks.

        A failing network or store is waited out. How the job ended is the last snapshot's `status`, no error.

        Raises:
            LinkExpired: the presigned link is no longer honoured.
            UnexpectedAnswer: the reply object breaks the contract.
            DeadlinePassed: no final snapshot within the deadline, counted from the POST.
        """
        deadline = Deadline(self._settings.deadline_seconds, submission.posted_at, self._clock)
        pacing = Pacing(self._chance)
        etag: str | None = None
        shown: Snapshot | None = None
        while True:
            try:
                response = await self._send(self._get(submission.reply_url, etag), deadline)
                news = has_news(response)
            except Unreachable as error:
                deadline.trouble = error
                wait = pacing.broken()
            else:
                if news:
                    etag = response.headers.get("etag")
                    shown = self._read(response, submission, shown)
                    yield shown
                    if shown.is_final:
                        return
                wait = pacing.changed() if news else pacing.unchanged()
            await self._sleep(min(wait, deadline.left()))

    def _read(self, response: httpx.Response, submission: Submission, earlier: Snapshot | None) -> Snapshot:
        snapshot = Snapshot.from_json(response.content, self._clock() - submission.posted_at)
        if snapshot.id != submission.id:
            raise UnexpectedAnswer("the reply is that of another job; check how the bucket is set up")
        if earlier and not snapshot.continues(earlier):
            raise UnexpectedAnswer("the reply went back on text that it had shown; see the worker's log")
        return snapshot

    def _post(self, url: httpx.URL, body: bytes) -> httpx.Request:
        # The token goes to the gateway alone: a store that gets it beside a signed query refuses the request.
        headers = {"Authorization": f"Bearer {self._settings.token}", "Content-Type": "application/json"}
        return self._http.build_request("POST", url, headers=headers, content=body)

    def _get(self, url: str, etag: str | None) -> httpx.Request:
        return self._http.build_request("GET", url, headers={"If-None-Match": etag} if etag else None)

    async def _send(self, request: httpx.Request, deadline: Deadline) -> httpx.Response:
        """Send one request and read the whole answer: the one place that knows what httpx raises."""
        try:
            async with asyncio.timeout(deadline.left()):
                return await self._http.send(request)
        except TimeoutError:
            raise deadline.passed() from None
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            reason = str(error) or "it does not answer"
            raise NotConnected(
                f"cannot connect to {request.url.host}: {reason}; check --url and the network"
            ) from error
        except httpx.HTTPError as error:
            what = type(error).__name__
            raise Unreachable(f"{request.url.host} gave no whole answer ({what})") from error
