"""A scripted deployment for the smoke test's unit tests, at which time passes in sleeping alone."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.client_cognito import CLIENT_ID, COGNITO_URL, PASSWORD, ScriptedCognito
from tests.client_service import JOB_ID, TOKEN, URL, Clock, Service, Store, gpu, reply
from tests.e2e.smoke import main
from tests.e2e.walk import LOOK_SECONDS, World

WITH_TOKEN = {"TLFIF_URL": URL, "TLFIF_TOKEN": TOKEN}
WITH_PASSWORD = {
    "TLFIF_URL": URL,
    "TLFIF_COGNITO_URL": COGNITO_URL,
    "TLFIF_COGNITO_CLIENT_ID": CLIENT_ID,
    "TLFIF_USERNAME": "smoke",
    "TLFIF_PASSWORD": PASSWORD,
}
SECRETS = (TOKEN, PASSWORD, "access-1", "refresh-1", "secret-signature")
"""What no output may hold."""

DONE = reply("Apple, banana, cherry.", status="done")
READY = gpu("ready", idle_seconds=50)
NOW = 1_790_000_000.0


def cancelling() -> httpx.Response:
    """Return the answer to a POST that cancels the job."""
    return httpx.Response(202, json={"status": "cancelling", "id": JOB_ID})


def posted(service: Service, route: str) -> list[httpx.Request]:
    """Return the POSTs to a route."""
    return [request for request in service.requests if str(request.url) == URL + route]


def cancelled(service: Service) -> list[str]:
    """Return the ids of the jobs that were to be cancelled."""
    return [json.loads(request.content)["id"] for request in posted(service, "/stop")]


def problem(status: int, detail: str, **headers: str) -> httpx.Response:
    """Return a refusal as the router writes it."""
    named = {"content-type": "application/problem+json"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    return httpx.Response(status, content=json.dumps({"status": status, "detail": detail}), headers=named)


class Ran:
    """What came of one smoke test: its exit code, all that it printed and wrote, and how long it took."""

    def __init__(self, exit_code: int, printed: str, folder: Path, summary: Path, seconds: float) -> None:
        self.exit_code = exit_code
        self.printed = printed
        self.seconds = seconds
        self.files = {file.name: file.read_text() for file in folder.iterdir()}
        self.summary = summary.read_text()

    @property
    def result(self) -> dict[str, Any]:
        """What `result.json` says."""
        read: dict[str, Any] = json.loads(self.files["result.json"])
        return read

    @property
    def verdict(self) -> tuple[int, str]:
        """The exit code, and the verdict in words."""
        return self.exit_code, self.result["verdict"]

    def assert_nothing_secret(self) -> None:
        """Look for every secret in everything."""
        for text in (self.printed, self.summary, *self.files.values()):
            for secret in SECRETS:
                assert secret not in text


class Deployment:
    """Runs the smoke test at scripted parts."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.clock = Clock()
        self._folder = folder
        self._capsys = capsys

    def ask(
        self,
        service: Service,
        *options: str,
        cognito: ScriptedCognito | None = None,
        reach: Callable[[httpx.Request], None] = lambda _: None,
    ) -> Ran:
        """Run it: with a token, or with a password where there is a Cognito. `reach` sees each request first."""

        async def answer(request: httpx.Request) -> httpx.Response:
            reach(request)
            is_for_cognito = cognito is not None and str(request.url).startswith(COGNITO_URL)
            script = cognito if is_for_cognito else service
            assert script
            return await script.handle_async_request(request)

        world = World(httpx.MockTransport(answer), self.clock, self.clock.sleep)
        artifacts = self._folder / "artifacts"
        summary = artifacts / "summary.md"  # it may lie among them
        began = self.clock.now
        code = main(
            ["--artifacts", str(artifacts), "--summary", str(summary), *options],
            WITH_PASSWORD if cognito else WITH_TOKEN,
            world,
            lambda: NOW,
        )
        ran = Ran(code, self._capsys.readouterr().out, artifacts, summary, self.clock.now - began)
        ran.assert_nothing_secret()
        return ran

    def reply_at(self, seconds: float, final: dict[str, Any] = DONE, statuses: Sequence[Any] = (READY,)) -> Ran:
        """Run it at a service whose reply is seen so many seconds after the prompt, to the tick."""
        began = self.clock.now
        service = Service(Store.EMPTY, statuses=statuses)

        def reach(request: httpx.Request) -> None:
            if request.url.host == "store.test" and self.clock.now - began + LOOK_SECONDS > seconds:
                self.clock.now = began + seconds
                service._looks = [final]

        return self.ask(service, reach=reach)
