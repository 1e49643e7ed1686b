"""A Lambda's environment with a real Redis and an emulated EC2 that it reaches as it would reach AWS."""

from __future__ import annotations

import pytest

from local.aws_server import AwsServer


def configure(monkeypatch: pytest.MonkeyPatch, redis_url: str, aws_server: AwsServer, **more: str) -> None:
    """Set what Lambda's configuration sets, and `more`."""
    own = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_REGION": aws_server.region}
    own |= {"AWS_DEFAULT_REGION": aws_server.region, "TLFIF_REDIS_URL": redis_url, "TLFIF_BUCKET": "tl-fif"}
    for name, value in (aws_server.environment() | own | more).items():
        monkeypatch.setenv(name, value)


def state(aws_server: AwsServer, instance_id: str = "") -> str:
    """Return EC2's word for an instance, the first one if none is named."""
    named = [instance_id or aws_server.instance_id]
    described = aws_server.client("ec2").describe_instances(InstanceIds=named)
    word: str = described["Reservations"][0]["Instances"][0]["State"]["Name"]
    return word
