"""An SDK repeats a call whose answer got lost, under the same id, and moto would take it for another one."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
"""A server: it is asked, told how to begin its answer, and returns the body."""


def remembering(moto: Wsgi) -> Wsgi:
    """Answer a call that comes again, under the same id, as it was answered before; but not one that failed here."""
    answers: dict[str, tuple[str, list[tuple[str, str]], bytes]] = {}

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        call = environ.get("HTTP_AMZ_SDK_INVOCATION_ID")
        answer = answers.get(call) if call else None
        if answer is None:
            begun: list[Any] = []
            body = b"".join(moto(environ, lambda status, headers, *_: begun.extend((status, headers))))
            answer = (*begun, body)
            if call and not answer[0].startswith("5"):
                answers[call] = answer
        status, headers, body = answer
        start_response(status, headers)
        return [body]

    return app
