"""Makes clients of AWS's services."""

from __future__ import annotations

from typing import Any


def make_client(
    service: str, *, connect_seconds: float, read_seconds: float, attempts: int, region: str | None = None
) -> Any:
    """Return a boto3 client that gives up after so many attempts, each within these limits.

    It speaks to the function's own region if none is named.

    boto3 is imported here and not at the top: that takes longer than all the rest of a Lambda together.
    """
    import boto3  # noqa: PLC0415
    from botocore.config import Config  # noqa: PLC0415

    config = Config(
        connect_timeout=connect_seconds,
        read_timeout=read_seconds,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
    return boto3.Session().client(service, region_name=region, config=config)
