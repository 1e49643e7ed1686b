"""One request through a Lambda: route, answer or problem, CORS, access line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from router_lambda import cors, logs
from router_lambda.http import Problem, Request
from router_lambda.job import InvalidJob

Route = Callable[[Request], dict[str, Any]]


class App:
    """Answers events by `routes`: path → method → function."""

    def __init__(self, routes: Mapping[str, Mapping[str, Route]]) -> None:
        self._routes = routes

    def __call__(self, event: Mapping[str, Any]) -> dict[str, Any]:
        """Answer one event and write its access line."""
        began = time.perf_counter()
        request = Request.from_event(event)
        answer: dict[str, Any] = {"statusCode": 500, "headers": {}}
        try:
            answer = self._answer(request)
        finally:
            job = {"job": answer["headers"]["x-request-id"]} if "x-request-id" in answer["headers"] else {}
            logs.line(
                requestId=request.request_id,
                ip=request.source_ip,
                route=self._route_name(request),
                status=answer["statusCode"],
                latencyMs=round((time.perf_counter() - began) * 1e3, 2),
                **job,
            )
        return answer

    def _answer(self, request: Request) -> dict[str, Any]:
        try:
            answer = self._dispatch(request)
        except InvalidJob as error:
            detail = "correct the fields named in errors and send the request again"
            answer = Problem(400, detail, errors=error.errors).answer(request.request_id)
        except Problem as problem:
            answer = problem.answer(request.request_id)
        answer["headers"] |= cors.headers(request)
        return answer

    def _dispatch(self, request: Request) -> dict[str, Any]:
        if request.method == "OPTIONS":
            return cors.preflight(request)
        methods = self._routes.get(request.path)
        if methods is None:
            raise Problem(404, f"there is no such route; known are {', '.join(self._routes)}")
        route = methods.get(request.method)
        if route is None:
            allowed = ", ".join([*methods, "OPTIONS"])
            raise Problem(405, f"use {allowed} on this route", headers={"allow": allowed})
        return route(request)

    def _route_name(self, request: Request) -> str:
        """Name the route as API Gateway would; a path that we do not know may be anything and stays out of the log."""
        return f"{request.method} {request.path}" if request.path in self._routes else "$default"
