"""The router's settings, read once from the environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


class RouterConfigError(Exception):
    """The function's environment is incomplete; the message names every variable that is missing."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """What the router needs to know. AWS endpoints and credentials come by the SDK's own variables."""

    redis_url: str
    bucket: str

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> RouterSettings:
        """Read the settings.

        Raises:
            RouterConfigError: naming every missing variable at once.
        """
        names = ("TLFIF_REDIS_URL", "TLFIF_BUCKET")
        missing = [name for name in names if not environment.get(name)]
        if missing:
            raise RouterConfigError(f"set {' and '.join(missing)} in the function's environment")
        return cls(*(environment[name] for name in names))
