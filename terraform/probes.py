"""Calls that prove a new version before any caller is led to it: by the version's number, past the alias.

Only functions that answer requests are called. The others act on a schedule: to call one is to have its effect twice.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import ip_network
from typing import Any, Final

from terraform.aliases import DeployError

USUAL_CIDRS: Final = "10.20.0.0/22"
"""Where the functions let /ping be asked from unless TLFIF_PING_CIDRS says otherwise."""

_ROOT: Final = re.compile(r"\bRoot=(1-[0-9a-f]{8}-[0-9a-f]{24})\b", re.IGNORECASE)


class Unproven(DeployError):
    """A new version does not answer as it should; nobody is led to it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function returned, and the id of the call's trace where X-Ray has one."""

    content: Any
    trace: str | None = None


Invoke = Callable[[str, str, Mapping[str, Any]], Answer]
"""Calls a version of a function with an event."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One call: what it asks, the event, and what is wrong with an answer (`None`: nothing)."""

    asks: str
    event: Mapping[str, Any]
    fault: Callable[[Any], str | None]


def _request(method: str, path: str, address: str, **headers: str) -> dict[str, Any]:
    """Return an event of API Gateway's HTTP API, payload format 2.0."""
    return {
        "version": "2.0",
        "routeKey": f"{method} {path}",
        "rawPath": path,
        "rawQueryString": "",
        "headers": headers,
        "requestContext": {
            "http": {"method": method, "path": path, "protocol": "HTTP/1.1", "sourceIp": address},
            "requestId": "deployment",
            "stage": "$default",
        },
        "isBase64Encoded": False,
    }


def _status(expected: int, **members: str) -> Callable[[Any], str | None]:
    """Return what wants a status, and members of the JSON in the body."""

    def fault(answer: Any) -> str | None:
        if not isinstance(answer, dict) or answer.get("statusCode") != expected:
            return f"it answers {_shown(answer)}, and should answer {expected}"
        if not members:
            return None
        try:
            body = json.loads(answer.get("body") or "")
        except ValueError:
            body = None
        is_right = isinstance(body, dict) and members.items() <= body.items()
        return None if is_right else f"it answers {_shown(answer)}, whose body should have {json.dumps(members)}"

    return fault


def _refusal(answer: Any) -> str | None:
    is_right = isinstance(answer, dict) and answer.get("isAuthorized") is False
    return None if is_right else f"it answers {_shown(answer)} to a token that is none, and should refuse it"


def _shown(answer: Any) -> str:
    return json.dumps(answer)[:300]


def probes(kind: str, environment: Mapping[str, str]) -> list[Probe]:
    """Return the calls for a function of a kind with these settings; none for one that acts on a schedule."""
    first, _, _ = (environment.get("TLFIF_PING_CIDRS") or USUAL_CIDRS).partition(",")
    address = str(ip_network(first.strip(), strict=False)[0])
    if kind == "router":
        return [
            Probe("GET /ping", _request("GET", "/ping", address), _status(200, status="ok")),
            Probe("OPTIONS", _request("OPTIONS", "/infer", address, origin="http://localhost"), _status(204)),
        ]
    if kind == "queue-health":
        return [Probe("GET /queue-health", _request("GET", "/queue-health", address), _status(200, redis="ok"))]
    if kind == "authorizer":
        event = _request("POST", "/infer", address, authorization="Bearer nonsense")
        return [Probe("a token that is none", event | {"type": "REQUEST"}, _refusal)]
    return []


@dataclass(frozen=True, slots=True)
class Proof:
    """A call that was answered as it should be."""

    function: str
    asks: str
    trace: str | None


def prove(invoke: Invoke, function: str, version: str, calls: list[Probe]) -> Iterator[Proof]:
    """Call a version of a function, and yield each call that it answers as it should.

    Raises:
        Unproven: it does not, or fails.
    """
    for probe in calls:
        answer = invoke(function, version, probe.event)
        fault = probe.fault(answer.content)
        if fault is not None:
            raise Unproven(
                f"{function}:{version} is asked {probe.asks}: {fault}; nothing was moved; see its log, mend it and"
                " deploy again"
            )
        yield Proof(function, probe.asks, answer.trace)


def invoker(client: Any) -> Invoke:
    """Return what calls functions by Lambda's API."""

    def invoke(function: str, version: str, event: Mapping[str, Any]) -> Answer:
        answer = client.invoke(FunctionName=function, Qualifier=version, Payload=json.dumps(event).encode())
        text = answer["Payload"].read()
        if "FunctionError" in answer:
            said = text.decode(errors="replace")[:300]
            raise Unproven(f"{function}:{version} fails: {said}; nothing was moved; see its log, mend it, deploy again")
        try:
            content = json.loads(text or b"null")
        except ValueError:
            content = text.decode(errors="replace")
        return Answer(content, trace_of(answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})))

    return invoke


def trace_of(headers: Mapping[str, str]) -> str | None:
    """Return the id of the trace that an answer of Lambda's names, `None` where X-Ray keeps none of it."""
    said = headers.get("x-amzn-trace-id", "")
    found = _ROOT.search(said)
    return found[1] if found and "sampled=0" not in said.lower() else None
