"""Where clients read their replies."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from typing import Final

from router_lambda.job import reply_key
from router_lambda.signing import Signer

URL_SECONDS: Final = 3_600
"""Life of a signed address: the wait for a boot, the longest reply, and time to read it afterwards."""


class Replies:
    """Reply objects of one `bucket`, as seen by the router."""

    def __init__(
        self, bucket: str, environment: Mapping[str, str] = os.environ, clock: Callable[[], float] = time.time
    ) -> None:
        """Take the variables that Lambda sets and every AWS SDK reads.

        Raises:
            RouterConfigError: naming every variable that is missing or wrong.
        """
        self.bucket = bucket
        self._signer = Signer(bucket, environment, clock)

    def sign_get(self, job_id: str) -> str:
        """Return the presigned GET address of a job's reply object.

        Raises:
            RouterConfigError: the credentials are no longer in the environment.
        """
        return self._signer.sign_get(reply_key(job_id), URL_SECONDS)
