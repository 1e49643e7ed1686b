"""The engine over HTTP as OpenAI's API has it: who may ask, in which line he stands, and when he is cut off.

The answers themselves are vLLM's own (`VllmEngine.openai_app`). What runs here is a guest of the queue: it shares the
places with jobs, keeps the GPU up as they do, and is not kept when this worker ends.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Iterable
from typing import Any, Final

import anyio
import structlog
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from router_lambda.job import DEFAULT_IDLE_MINUTES
from worker import metrics
from worker.exchange import GIVE_UP_SECONDS, Exchange, Refusal
from worker.places import Places
from worker.run import Services

MODELS: Final = "/v1/models"
METHODS: Final = {MODELS: "GET", "/v1/chat/completions": "POST", "/v1/completions": "POST"}
"""What is served, and by which method."""

MOST_SEQUENCES: Final = 8
"""Prompts times choices in a request; a job may have as many choices."""

REQUEST_SECONDS: Final = 900.0
"""Longest time that a request may take with its wait for a place."""

RETRY_SECONDS: Final = 5
"""When to come again, for whoever finds the line full or the worker draining."""

log = structlog.get_logger(__name__)


class OpenAiApi:
    """An ASGI app that lets in who has a key, for as long as there is a place."""

    def __init__(self, app: ASGIApp | None, services: Services, places: Places, keys: Iterable[bytes]) -> None:
        """Take vLLM's app, `None` without keys; `keys` are SHA-256 digests, for the keys are nobody's business."""
        self._app = app
        self._services = services
        self._places = places
        self._keys = tuple(keys)
        self._running: set[Exchange] = set()
        self._changed = anyio.Event()
        metrics.REQUESTS_RUNNING.set_function(lambda: places.requests)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":  # a websocket, of which there is none
            await send({"type": "websocket.close", "code": 1008})
            return
        exchange = Exchange(scope, receive, send)
        try:
            await self._answer(exchange)
        except Refusal as refusal:
            await refusal.response()(scope, receive, exchange.send)
        self._report(exchange)

    async def _answer(self, exchange: Exchange) -> None:
        """Let vLLM answer.

        Raises:
            Refusal: it is not asked.
        """
        path = exchange.path
        if not path.startswith("/v1/"):
            raise Refusal(404, "not_found", "there is nothing here; the API is at /v1")
        self._check_key(exchange.headers)
        method = METHODS.get(path)
        if method is None:
            raise Refusal(404, "not_found", f"there are {', '.join(METHODS)} here")
        if exchange.method != method:
            raise Refusal(405, "method_not_allowed", f"{path} takes {method}", {"Allow": method})
        assert self._app is not None
        if path == MODELS:
            await self._app(exchange.scope, exchange.receive, exchange.send)
            return
        await exchange.read_body()
        check_sequences(exchange.body)
        await self._run(self._app, exchange)

    def _check_key(self, headers: Headers) -> None:
        if not self._keys:
            raise Refusal(401, "no_api_key", "this worker has no API key; set TLFIF_API_KEY_SHA256 to the hash of one")
        scheme, _, key = headers.get("authorization", "").partition(" ")
        digest = hashlib.sha256(key.strip().encode("utf-8", "surrogateescape")).digest()
        known = [secrets.compare_digest(digest, each) for each in self._keys]  # all of them, whichever it is
        if scheme.lower() != "bearer" or not any(known):
            challenge = {"WWW-Authenticate": "Bearer"}
            raise Refusal(401, "invalid_api_key", "send the API key as Authorization: Bearer KEY", challenge)

    async def _run(self, app: ASGIApp, exchange: Exchange) -> None:
        if self._places.waiting_requests >= self._places.limit:
            retry = {"Retry-After": str(RETRY_SECONDS)}
            raise Refusal(429, "line_full", "too many requests wait for a place; come again later", retry)
        self._running.add(exchange)
        try:
            with anyio.move_on_after(REQUEST_SECONDS) as patience:
                await self._in_a_place(app, exchange)
            if patience.cancelled_caught:
                log.warning("cut a request off", request=exchange.id, seconds=REQUEST_SECONDS)
        finally:
            self._running.discard(exchange)
            self._notify()

    async def _in_a_place(self, app: ASGIApp, exchange: Exchange) -> None:
        # Mostly there is one, and then this request is to reach the engine together with those that came beside it.
        has_place: bool | None = self._places.take_free("request")
        if not has_place:
            has_place = await exchange.unless_gone(lambda: self._places.take("request"))
        if has_place is None:
            return
        if not has_place:
            retry = {"Retry-After": str(RETRY_SECONDS)}
            raise Refusal(503, "draining", "this worker is about to stop; POST /infer wakes the GPU", retry)
        idle = self._services.idle
        idle.begin()
        try:
            async with self._services.turns.together():
                await exchange.answered_by(app)
        finally:
            self._places.leave("request")
            idle.end(DEFAULT_IDLE_MINUTES if exchange.is_success else None)

    def _report(self, exchange: Exchange) -> None:
        """Log what came of it and count it: no prompt, no text, no key."""
        path = exchange.path if exchange.path in METHODS else "other"
        metrics.REQUESTS.labels(path, str(exchange.status) if exchange.is_whole else "cut off").inc()
        log.info(
            "request",
            request=exchange.id,
            path=path,
            status=exchange.status,
            whole=exchange.is_whole,
            first_byte_ms=exchange.first_byte_ms,
            total_ms=exchange.total_ms,
        )

    async def finished(self, within: float) -> None:
        """Wait until no request runs; those that still do after `within` seconds are cut off."""
        with anyio.move_on_after(within):
            await self._until_idle()
            return
        log.warning("drain deadline passed", requests=len(self._running))
        for exchange in self._running:
            exchange.hang_up()
        with anyio.move_on_after(2 * GIVE_UP_SECONDS):
            await self._until_idle()

    async def _until_idle(self) -> None:
        while self._running:
            await self._changed.wait()

    def _notify(self) -> None:
        changed, self._changed = self._changed, anyio.Event()
        changed.set()


def check_sequences(body: bytes) -> None:
    """Refuse what would take more of the engine than a job may: a batch of prompts, or of choices.

    What is no request at all is left to vLLM, which says what is wrong with it.

    Raises:
        Refusal: it would.
    """
    try:
        asked: Any = json.loads(body)
    except ValueError:
        return
    if not isinstance(asked, dict):
        return
    prompt, choices = asked.get("prompt"), asked.get("n")
    # A list of numbers is one prompt, in tokens.
    prompts = len(prompt) if isinstance(prompt, list) and prompt and isinstance(prompt[0], (str, list)) else 1
    count = prompts * (choices if isinstance(choices, int) else 1)
    if count > MOST_SEQUENCES:
        message = f"{count} replies at once are too many; send at most {MOST_SEQUENCES} prompts times choices (n)"
        raise Refusal(400, "too_many_sequences", message)
