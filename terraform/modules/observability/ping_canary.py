"""Ask /ping once, as an uptime checker would. CloudWatch Synthetics runs this as a file of its own, every minute."""  # noqa: INP001 - no package there

import json
import os
import urllib.request

TIMEOUT_SECONDS = 10


def handler(_event: object, _context: object) -> str:
    """Pass if /ping says that it is well; the address is in `PING_URL`.

    Raises:
        OSError: nobody answers, or with a status other than 2xx.
        ValueError: the answer is another than `{"status": "ok"}`.
    """
    url = os.environ["PING_URL"]
    with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as response:  # noqa: S310 - Terraform lets https alone in
        said = response.read(1000)
    if json.loads(said) != {"status": "ok"}:
        raise ValueError(f"{url} answered {said!r}; look at the router's log")
    return "ok"
