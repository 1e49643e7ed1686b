"""Signs the address under which a client reads its reply."""

from __future__ import annotations

from typing import Any, Final

import boto3
from botocore.config import Config

from router_lambda.job import reply_key

URL_SECONDS: Final = 3_600
"""Life of a signed address: the wait for a boot, the longest reply, and time to read it afterwards."""


class Replies:
    """Reply objects of one bucket, as seen by the router. Signing is arithmetic: no request leaves it."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket
        # Without the style, boto3 signs for the global endpoint, which redirects for a young bucket outside
        # us-east-1; the signature covers the host name and does not survive that.
        config = Config(signature_version="s3v4", s3={"addressing_style": "virtual"})
        # A session of its own, as the default one keeps the credentials that it found first.
        self._client: Any = boto3.Session().client("s3", config=config)

    def sign_get(self, job_id: str) -> str:
        """Return the presigned GET address of a job's reply object."""
        where = {"Bucket": self._bucket, "Key": reply_key(job_id)}
        url: str = self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=URL_SECONDS)
        return url
