"""The router Lambda: checks a request, queues its job and answers where the reply will appear."""

from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from functools import cache
from http import HTTPStatus
from typing import Any, Final

from router_lambda.http import Request, answer, problem
from router_lambda.job import InvalidJob, Job, new_job_id, parse_request, reply_path
from router_lambda.queue import Queue, QueueUnavailable
from router_lambda.replies import Replies
from router_lambda.settings import RouterSettings

log = logging.getLogger(__name__)

_TRACEPARENT: Final = re.compile(r"00-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")
"""W3C Trace Context, version 00; ids of nothing but zeros are invalid there."""


class Router:
    """The routes. Everything that differs between Lambda and a test comes in through the constructor."""

    def __init__(
        self, settings: RouterSettings, queue: Queue, replies: Replies, clock: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._queue = queue
        self._replies = replies
        self._clock = clock
        self._routes: dict[str, dict[str, Callable[[Request], dict[str, Any]]]] = {
            "/infer": {"POST": self._infer},
            "/ping": {"GET": self._ping},
        }

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one event."""
        request_id = event["requestContext"].get("requestId", "")
        try:
            request = Request.from_event(event)
            return self._dispatch(request)
        except InvalidJob as error:
            detail = "correct the fields named in errors and send the request again"
            return problem(HTTPStatus.BAD_REQUEST, detail, request_id, errors=error.errors)

    def _dispatch(self, request: Request) -> dict[str, Any]:
        methods = self._routes.get(request.path)
        if methods is None:
            known = ", ".join(self._routes)
            return problem(HTTPStatus.NOT_FOUND, f"there is no such route; known are {known}", request.request_id)
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join(methods)
            return problem(
                HTTPStatus.METHOD_NOT_ALLOWED,
                f"use {allowed} on this route",
                request.request_id,
                headers={"allow": allowed},
            )
        return route(request)

    def _infer(self, request: Request) -> dict[str, Any]:
        if request.subject is None:
            detail = "send a valid token as Authorization: Bearer"
            return problem(HTTPStatus.UNAUTHORIZED, detail, request.request_id)
        fields = parse_request(request.body)
        job_id = new_job_id(os.urandom(16))
        traceparent = request.headers.get("traceparent", "")
        job = Job(
            id=job_id,
            sub=request.subject,
            reply_path=reply_path(self._settings.bucket, job_id),
            enqueued_at=self._clock(),
            traceparent=traceparent if _TRACEPARENT.fullmatch(traceparent) else None,
            **fields,
        )
        headers = {"x-request-id": job_id, "location": self._replies.sign_get(job_id)}
        try:
            self._queue.enqueue(job)
        except QueueUnavailable as error:
            log.error("RedisEnqueueFail=1 %s", error)
            detail = "the queue cannot be reached; send the request again after Retry-After seconds"
            return problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, request.request_id, headers={"retry-after": "5"})
        return answer(HTTPStatus.ACCEPTED, {"status": "queued", "id": job_id}, headers)

    def _ping(self, _request: Request) -> dict[str, Any]:
        return answer(HTTPStatus.OK, {"status": "ok"})


@cache
def _router() -> Router:
    settings = RouterSettings.from_environment(os.environ)
    return Router(settings, Queue.from_url(settings.redis_url), Replies(settings.bucket))


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda's entry point. What it builds on the first call is kept for the later ones."""
    return _router()(event)
