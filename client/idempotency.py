"""The `Idempotency-Key` of a POST: with one, the service queues a job once, however often the POST arrives."""

from __future__ import annotations

import re
import secrets
from typing import Final

from client.errors import InvalidSettings

_KEY: Final = re.compile(r"[!-~]([ -~]{0,62}[!-~])?")
"""1 to 64 printable ASCII characters. HTTP drops a space at either end, which would make it another key."""


def checked_key(given: str | None) -> str:
    """Return the caller's key, or a random one where there is none.

    Raises:
        InvalidSettings: the key cannot be sent.
    """
    if given is None:
        return secrets.token_hex(16)
    if not _KEY.fullmatch(given):
        raise InvalidSettings(
            ["the idempotency key must be 1 to 64 printable ASCII characters, without a space at either end"]
        )
    return given
