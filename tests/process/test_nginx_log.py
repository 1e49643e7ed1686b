"""The real nginx with the node's configuration: what its log says of a request, and what it does not."""

from __future__ import annotations

from typing import Any

from ami.pair import Pair
from tests.process.nginx_world import NginxProcess, running_nginx
from tests.process.stand_in_api import StandInApi
from tests.process.worker_process import wait_for
from worker.exchange import BODY_BYTES
from worker.openai_api import METHODS

SECRET = "do-not-log-me"


def provoke(nginx: NginxProcess) -> None:
    """Put a secret wherever a client can put one, in requests that end in all sorts of ways."""
    headers = dict.fromkeys(("Authorization", "User-Agent", "Referer", "X-Request-Id", "Cookie"), SECRET)
    with nginx.client() as client:
        for path in ("/v1/models", "/v1/busy", f"/v1/{SECRET}", f"/{SECRET}", "/v1/silent"):
            client.post(path, params={"key": SECRET}, headers=headers, content=SECRET)
        client.post("/v1/x", params={"key": SECRET}, headers=headers, content=SECRET * BODY_BYTES)
        client.request(SECRET.upper(), "/v1/x", headers=headers)
        while client.get("/v1/models", params={"key": SECRET}, headers=headers).status_code != 429:
            pass


def logged(nginx: NginxProcess) -> str:
    """Return all that nginx has written anywhere."""
    return "".join(path.read_text() for path in nginx.logs.iterdir())


SOON = {"proxy_read_timeout 16m;": "proxy_read_timeout 1s;", "rate=20r/s": "rate=1r/s"}
"""A configuration that loses patience while a test waits."""


def test_the_log_has_nothing_that_a_client_wrote(pair: Pair, api: StandInApi) -> None:
    """No key, no prompt, no address beyond the routes; but enough to find the request again."""
    with running_nginx(pair, api.server_port, SOON) as nginx:
        provoke(nginx)
        for path, method in METHODS.items():
            with nginx.client() as client:
                answer = client.request(method, path, headers={"Connection": "close"})
        wait_for(lambda: nginx.access_log()[-1]["id"] == answer.headers["x-request-id"])
        text = logged(nginx).lower()
        lines: list[dict[str, Any]] = nginx.access_log()
    assert SECRET not in text
    assert {each["path"] for each in lines} == {*METHODS, "other"}
    assert {each["method"] for each in lines} == {"GET", "POST", "other"}
    assert {each["status"] for each in lines} >= {200, 404, 413, 429, 503}
    assert all(each["client"] == "127.0.0.1" and each["tls"] == "TLSv1.3" for each in lines)


def test_a_log_that_says_more_would_be_noticed(pair: Pair, api: StandInApi) -> None:
    """At nginx's usual level of errors the whole address is in there."""
    with running_nginx(pair, api.server_port, SOON | {"error_log stderr crit;": "error_log stderr error;"}) as nginx:
        provoke(nginx)
        assert SECRET in logged(nginx)
