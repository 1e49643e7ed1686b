"""The way of a prompt through a deployed system, as the headless client walks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final, TypeVar
from uuid import uuid4

import httpx

from client.answers import Submission
from client.cognito import Cognito, NewPasswordRequired
from client.errors import (
    Busy,
    ClientError,
    LoginRefused,
    NotFound,
    Refused,
    UnexpectedAnswer,
    Unreachable,
)
from client.gpu import Status
from client.pacing import status_again
from client.quoting import quote
from client.reply import Snapshot
from client.session import Client
from client.waking import Display
from router_lambda.job import CLOSING_SECONDS
from tests.e2e.options import Options, SignIn
from tests.e2e.record import Record
from tests.e2e.tally import COGNITO, MOST_IN_A_ROW, SERVICE, FailedFast, Tally, service_or_store, watch
from tests.e2e.verdict import Outcome, judge, judge_error

T = TypeVar("T")

LOOK_SECONDS: Final = 0.5
"""Longest time between two looks at the reply, by which the measured time is too long at most."""

IDLE_MINUTES: Final = 1
"""How long the GPU stays up afterwards: nobody waits for it."""

PARAMS: Final = {"max_tokens": 32, "temperature": 0}

_AGAIN_SECONDS: Final = 1.0
_MOST_AGAIN_SECONDS: Final = 5.0
_GIVE_UP_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class World:
    """What a test replaces: the network, the time in seconds, and how it passes."""

    transport: httpx.AsyncBaseTransport | None = None
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Walk:
    """One prompt from the sign-in to the final reply.

    Attributes:
        tally: who has answered what.
        found: what the GPU did when the prompt was sent; `None` before that is known.
        submission: the accepted job.
        reply: the last snapshot of its reply.
        first_text_seconds: when its first text was there, counted from the prompt.
    """

    def __init__(self, options: Options, record: Record, world: World) -> None:
        self.tally = Tally(record.say)
        self.found: Status | None = None
        self.submission: Submission | None = None
        self.reply: Snapshot | None = None
        self.first_text_seconds: float | None = None
        self._options = options
        self._record = record
        self._world = world
        self._gpu: Status | None = None

    async def run(self) -> Outcome:
        """Walk to the end. Whatever else ends it, such as a cancellation, takes the job along."""
        limits = self._options.limits
        try:
            token = self._options.token or await self._sign_in()
            self._record.hide(token)
            async with self._client(token, limits.deadline_seconds + LOOK_SECONDS) as client:
                watch(client, self.tally, service_or_store(self._options.url))
                try:
                    reply = await self._ask(client)
                except BaseException:
                    await self._give_up(token)
                    raise
        except (ClientError, FailedFast) as error:
            outcome = judge_error(error, limits, self._gpu_in_words())
            if str(error) not in outcome.reason:
                self._record.say(str(error))
            return outcome
        return judge(reply, limits)

    async def _sign_in(self) -> str:
        sign_in = self._options.sign_in
        assert sign_in, "the options have a token or this"
        self._record.hide(sign_in.password)
        self._record.say(f"signing in as {sign_in.username}")
        return await self._insist(COGNITO, lambda: self._token(sign_in), _MOST_AGAIN_SECONDS, tries=MOST_IN_A_ROW)

    async def _token(self, sign_in: SignIn) -> str:
        async with Cognito(sign_in.cognito_url, sign_in.client_id, transport=self._world.transport) as cognito:
            watch(cognito, self.tally, lambda _: COGNITO)
            tokens = await cognito.sign_in(sign_in.username, sign_in.password)
        if isinstance(tokens, NewPasswordRequired):
            what_to_do = "run `tlfif login` once to choose it, and put it where TLFIF_PASSWORD comes from"
            raise LoginRefused(
                f"Cognito wants a new password of {sign_in.username} first; {what_to_do}", code="NEW_PASSWORD_REQUIRED"
            )
        self._record.hide(tokens.refresh_token)
        return tokens.access_token

    async def _ask(self, client: Client) -> Snapshot:
        """Send the prompt and wait for the final reply; the time runs from the first try on."""
        self.found = self._gpu = await self._settled(client)
        self._record.say(self._gpu_in_words())
        began = self._world.clock()
        self.submission = submission = replace(await self._submit(client), posted_at=began)
        self._record.hide(submission.reply_url)
        self._record.say(f"job {submission.id} is accepted, {quote(submission.status)}")
        return await self._reply(client, submission)

    async def _settled(self, client: Client) -> Status:
        """Wait, while the GPU stops, until it has: how long a start takes is measured from there."""
        give_up_at = self._world.clock() + CLOSING_SECONDS
        while True:
            status = await self._insist(SERVICE, client.status, CLOSING_SECONDS)
            if status.state != "stopping" or self._world.clock() >= give_up_at:
                return status
            self._record.say("the GPU is stopping; the prompt waits until it has")
            await self._world.sleep(2 * status_again())

    async def _submit(self, client: Client) -> Submission:
        key = uuid4().hex  # the same for every try, so that it is one job

        def post() -> Awaitable[Submission]:
            return client.submit(
                prompt=self._options.prompt, params=PARAMS, idle_minutes=IDLE_MINUTES, idempotency_key=key
            )

        return await self._insist(SERVICE, post, self._options.limits.deadline_seconds)

    async def _reply(self, client: Client, submission: Submission) -> Snapshot:
        try:
            async with asyncio.TaskGroup() as group:
                listening = group.create_task(self._listen(client, submission), name="status of the GPU")
                reply = await self._follow(client, submission)
                listening.cancel()
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None
        return reply

    async def _follow(self, client: Client, submission: Submission) -> Snapshot:
        async with aclosing(client.follow(submission)) as snapshots:
            async for snapshot in snapshots:
                self.reply = snapshot
                if self.first_text_seconds is None and snapshot.text:
                    self.first_text_seconds = snapshot.elapsed_seconds
                    self._record.say(f"the first text is there after {snapshot.elapsed_seconds:.1f} s")
        assert self.reply, "follow ends with a final snapshot or raises"
        self._record.say(f"the reply is final after {self.reply.elapsed_seconds:.1f} s: {self.reply.status}")
        return self.reply

    async def _listen(self, client: Client, submission: Submission) -> None:
        """Write down what the GPU does until it is ready; what goes wrong with that is only counted."""
        if submission.status != "starting":
            await self._world.sleep(status_again())  # a worker is there: most replies need no more than that
        display = Display(on_terminal=False)
        while True:
            busy = None
            try:
                self._gpu = status = await client.status()
            except Busy as error:
                busy = error
            except ClientError as error:
                self._record.say(str(error))
            else:
                for line in display.heard(status, self._world.clock() - submission.posted_at):
                    self._record.say(line.removeprefix("tlfif: "))
            await self._world.sleep(status_again(busy))

    async def _insist(self, party: str, call: Callable[[], Awaitable[T]], seconds: float, tries: int = 1) -> T:
        """Call again what was answered with 5xx, until that is too many, or with 429, for so many seconds.

        Of a call that gets no answer there are so many `tries`.
        """
        give_up_at = self._world.clock() + seconds
        problem: ClientError | None = None
        while True:
            try:
                return await call()
            except FailedFast as error:
                raise FailedFast(f"{error}; before: {problem}" if problem else str(error)) from None
            except Unreachable as error:
                tries -= 1
                if not tries:
                    raise
                problem = error
            except (Refused, LoginRefused, UnexpectedAnswer) as error:
                if not (self.tally.is_failing(party) or isinstance(error, Busy)):
                    raise
                problem = error
            wait = self._again(problem)
            if self._world.clock() + wait > give_up_at:
                raise problem
            self._record.say(f"{problem}; the smoke test tries again in {wait:g} s")
            await self._world.sleep(wait)

    @staticmethod
    def _again(problem: ClientError) -> float:
        """Return the wait before the next try. A service that fails may ask for minutes, but is to fail fast."""
        asked = problem.retry_after_seconds if isinstance(problem, Refused) else None
        wait = _AGAIN_SECONDS if asked is None else float(asked)
        throttled = isinstance(problem, Refused) and problem.status == httpx.codes.TOO_MANY_REQUESTS
        return wait if throttled else min(wait, _MOST_AGAIN_SECONDS)

    async def _give_up(self, token: str) -> None:
        """Cancel the job, so that no GPU works for nobody."""
        if self.submission is None:
            return
        try:
            async with self._client(token, _GIVE_UP_SECONDS) as client:
                await client.cancel(self.submission.id)
        except NotFound:
            self._record.say("the job has ended already")
        except ClientError as error:
            self._record.say(f"the job is not cancelled: {error}")
        else:
            self._record.say("the job is cancelled")

    def _client(self, token: str, deadline_seconds: float) -> Client:
        world = self._world

        async def sleep(seconds: float) -> None:
            await world.sleep(min(seconds, LOOK_SECONDS))

        return Client(
            self._options.url,
            token,
            deadline_seconds=deadline_seconds,
            transport=world.transport,
            clock=world.clock,
            sleep=sleep,
        )

    def _gpu_in_words(self) -> str:
        if self._gpu is None:
            return ""
        problem = f", {quote(self._gpu.problem)}" if self._gpu.problem else ""
        return f"the GPU is {quote(self._gpu.state)}{problem}"
