"""`python -m local.moto_server HOST PORT`: moto whose instances take their time, as EC2's do.

moto's own are `running` or `stopped` at once. Here a start leads to `pending` and a stop to `stopping`, until somebody
who plays the machine says that it is done: `PUT /local/instances/{id}` with the next state as its body. `GET` there
returns the state, with `?unlike=STATE` as soon as it is another one, or after `MACHINE_WAIT_SECONDS`.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from moto.ec2.exceptions import EC2ClientError, InvalidInstanceIdError
from moto.ec2.models import ec2_backends
from moto.ec2.models.instances import Instance, InstanceState
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import run_simple

from local.aws_server import MACHINE_PATH, MACHINE_WAIT_SECONDS

_CODES: Final = {"pending": 0, "running": 16, "stopping": 64, "stopped": 80}

_changed: Final = threading.Condition()


def _enter(instance: Instance, state: str) -> None:
    with _changed:
        instance._state.name, instance._state.code = state, _CODES[state]  # noqa: SLF001 - moto has no way from outside
        _changed.notify_all()


def _slow_down() -> None:
    """Let starts and stops begin only."""
    start, stop = Instance.start, Instance.stop

    def begin_start(self: Instance) -> InstanceState:
        state = self.state
        if state == "stopping":
            raise EC2ClientError("IncorrectInstanceState", f"{self.id} is not in a state from which it can be started")
        before: InstanceState = start(self)
        _enter(self, "pending" if state == "stopped" else state)
        if state == "stopped":
            self.launch_time = datetime.now(UTC).replace(tzinfo=None)
        return before

    def begin_stop(self: Instance) -> InstanceState:
        state = self.state
        before: InstanceState = stop(self)
        _enter(self, "stopped" if state == "stopped" else "stopping")
        return before

    Instance.start, Instance.stop = begin_start, begin_stop  # type: ignore[method-assign]


def _find(instance_id: str) -> Instance | None:
    for regions in ec2_backends.values():
        for backend in regions.values():
            try:
                return backend.get_instance(instance_id)
            except InvalidInstanceIdError:
                continue
    return None


Wsgi = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]


def _with_machines(moto: Wsgi) -> Wsgi:
    """Put the door for the one who plays the machines in front of moto."""

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if not path.startswith(MACHINE_PATH):
            return moto(environ, start_response)
        instance = _find(path.removeprefix(MACHINE_PATH))
        if instance is None:
            start_response("404 Not Found", [("Content-Length", "0")])
            return []
        if environ["REQUEST_METHOD"] == "PUT":
            _enter(instance, environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"])).decode())
        else:
            _wait(instance, *parse_qs(environ["QUERY_STRING"]).get("unlike", [""]))
        body = instance.state.encode()
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
        return [body]

    return app


def _wait(instance: Instance, unlike: str) -> None:
    with _changed:
        _changed.wait_for(lambda: instance.state != unlike, MACHINE_WAIT_SECONDS)


def main() -> None:
    """Serve until killed."""
    host, port = sys.argv[1], int(sys.argv[2])
    _slow_down()
    app = _with_machines(DomainDispatcherApplication(create_backend_app))
    run_simple(host, port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
