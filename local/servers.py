"""The servers that the system on this machine runs instead of AWS's, as one: Redis, S3, and Cognito with EC2."""

from __future__ import annotations

import logging
from pathlib import Path

from local.aws_server import AwsServer
from local.redis_server import RedisServer
from local.s3_server import S3Server

log = logging.getLogger(__name__)


class Servers:
    """All of them, side by side; see `Server` for what the constructor takes and where the calls belong."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self.redis = RedisServer(folder, logs)
        self.aws = AwsServer(folder, logs, has_machine=True)
        self.s3 = S3Server(folder, logs)
        self._by_speed = (self.redis, self.aws, self.s3)

    def start(self) -> None:
        """Start them all and return once the last one answers; `stop()` has to follow even when this fails.

        Raises:
            StartFailed: one of them did not come up.
        """
        for server in self._by_speed:
            server.launch()
        for server in self._by_speed:
            server.wait_ready()
            log.info("%s is up (pid %d)", server.name, server.pid)

    def stop(self) -> None:
        """Stop those that run."""
        for server in reversed(self._by_speed):
            server.stop()

    def pids(self) -> dict[str, int | None]:
        """Return their process ids by name."""
        return {server.name: server.pid for server in self._by_speed}

    def environment(self) -> dict[str, str]:
        """Return the variables by which the worker and the Lambdas find all of them."""
        where = {
            "TLFIF_REDIS_URL": self.redis.url,
            "TLFIF_BUCKET": self.s3.bucket,
            "AWS_EC2_METADATA_DISABLED": "true",  # but for the worker, this machine is nobody's EC2 instance
        }
        return self.aws.environment() | self.s3.environment() | where
