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
import shlex
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import httpx

from client.answers import Submission, has_news, read_cancelling, read_status, read_stop, read_submission
from client.connection import Connected, Connection, usable
from client.deadline import Deadline
from client.errors import NotConnected, UnexpectedAnswer, Unreachable
from client.gpu import Status
from client.idempotency import checked_key
from client.pacing import Pacing
from client.reply import Snapshot
from client.request import encode_body, encode_cancel
from client.settings import DEFAULT_DEADLINE_SECONDS, Settings


class Client(Connected):
    """One connection to one service; times are seconds of `clock`, any monotonic one, and pass in `sleep`.

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
        usable(self._settings.url, "the service's URL")
        self.clock = clock
        self.sleep = sleep
        self._chance = chance
        self._connection = Connection("--url", transport)

    async def submit(
        self,
        *,
        prompt: str | None = None,
        messages: Sequence[Mapping[str, str]] | None = None,
        raw: bool = False,
        idle_minutes: int | None = None,
        params: Mapping[str, Any] | None = None,
        idempotency_key: str | None = None,
    ) -> Submission:
        """Post a job; names and meanings as in the body of `POST /infer`.

        The service queues one job for a key, a random one unless the caller gives it, so that a POST without
        an answer is sent again.

        Raises:
            InvalidSettings: the job cannot be written as JSON, or the key not sent.
            Refused: the service does not accept it.
            Unreachable: no answer; unless it is `NotConnected`, the job may have been queued.
            UnexpectedAnswer: the answer breaks the contract.
            DeadlinePassed: no answer within the deadline.
        """
        body = encode_body(prompt=prompt, messages=messages, raw=raw, idle_minutes=idle_minutes, params=params)
        key = checked_key(idempotency_key)
        posted_at = self.clock()
        deadline = Deadline(self._settings.deadline_seconds, posted_at, self.clock)
        try:
            response = await self._call("POST", "/infer", deadline, body, {"Idempotency-Key": key})
        except NotConnected:
            raise
        except Unreachable as error:
            advice = f"ask again with --idempotency-key {shlex.quote(key)}, which cannot queue it twice"
            raise Unreachable(f"{error}; the job may have been queued: {advice}") from error
        return read_submission(response, posted_at)

    async def follow(self, submission: Submission) -> AsyncGenerator[Snapshot, None]:
        """Yield the reply each time it has changed, the final snapshot last; no text in it ever shrinks.

        A failing network or store is waited out. How the job ended is the last snapshot's `status`, no error.

        Raises:
            LinkExpired: the presigned link is no longer honoured.
            UnexpectedAnswer: the reply object breaks the contract.
            DeadlinePassed: no final snapshot within the deadline, counted from the POST.
        """
        deadline = Deadline(self._settings.deadline_seconds, submission.posted_at, self.clock)
        pacing = Pacing(self._chance)
        etag: str | None = None
        shown: Snapshot | None = None
        while True:
            try:
                response = await self._connection.send(self._get(submission.reply_url, etag), deadline)
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
            await self.sleep(min(wait, deadline.left()))

    def _read(self, response: httpx.Response, submission: Submission, earlier: Snapshot | None) -> Snapshot:
        snapshot = Snapshot.from_json(response.content, self.clock() - submission.posted_at)
        if snapshot.id != submission.id:
            raise UnexpectedAnswer("the reply is that of another job; check how the bucket is set up")
        if earlier and not snapshot.continues(earlier):
            raise UnexpectedAnswer("the reply went back on text that it had shown; see the worker's log")
        return snapshot

    async def stop(self) -> str:
        """Stop the GPU as soon as no job is running; return `stopping`, or `stopped` when it is down already.

        Raises:
            Refused: the service does not accept it.
            Unreachable: no answer; the GPU may stop all the same.
            UnexpectedAnswer: the answer breaks the contract.
            DeadlinePassed: no answer within the deadline.
        """
        return read_stop(await self._call("POST", "/stop", self._deadline("answer to POST /stop")))

    async def cancel(self, job_id: str) -> None:
        """Cancel a job that waits or runs; its reply ends as `cancelled`.

        Raises:
            InvalidSettings: that is no id of a job.
            Refused: the service does not accept it; `NotFound` when the caller has no such job that waits or runs.
            Unreachable: no answer; the job may end all the same.
            UnexpectedAnswer: the answer breaks the contract.
            DeadlinePassed: no answer within the deadline.
        """
        body = encode_cancel(job_id)
        read_cancelling(await self._call("POST", "/stop", self._deadline("answer to POST /stop"), body), job_id)

    async def status(self) -> Status:
        """Ask what the GPU does.

        Raises:
            Refused: the service does not tell; `NotFound` when it has no such route, `Busy` when asked too often.
            Unreachable: no answer.
            UnexpectedAnswer: the answer breaks the contract.
            DeadlinePassed: no answer within the deadline.
        """
        return read_status(await self._call("GET", "/status", self._deadline("answer to GET /status")))

    def _deadline(self, awaited: str) -> Deadline:
        return Deadline(self._settings.deadline_seconds, self.clock(), self.clock, awaited)

    async def _call(
        self, method: str, route: str, deadline: Deadline, body: bytes = b"", headers: Mapping[str, str] | None = None
    ) -> httpx.Response:
        """Send the gateway what may arrive twice."""
        # The token goes to the gateway alone: a store that gets it beside a signed query refuses the request.
        all_headers = {"Authorization": f"Bearer {self._settings.token}", **(headers or {})}
        if body:
            all_headers["Content-Type"] = "application/json"
        request = self._connection.request(method, self._settings.endpoint(route), all_headers, body)
        return await self._connection.send_until_answered(request, deadline, Pacing(self._chance), self.sleep)

    def _get(self, url: str, etag: str | None) -> httpx.Request:
        return self._connection.request("GET", url, {"If-None-Match": etag} if etag else {})
