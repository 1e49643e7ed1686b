"""EC2's instance metadata service, IMDSv2: a session token first, then paths by it.

Source: Amazon EC2 User Guide, "Use the Instance Metadata Service".
"""

from __future__ import annotations

import re
from contextlib import suppress
from http import HTTPStatus
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import structlog

ENDPOINT: Final = "http://169.254.169.254"
"""Where EC2 has it."""

BOARD_TAG: Final = Path("/sys/devices/virtual/dmi/id/board_asset_tag")
"""Holds the instance's id on Nitro, as the g4dn is: it is there before the network is.

Source: Amazon EC2 User Guide, "Detect whether a host is an EC2 instance"."""

REQUEST_SECONDS: Final = 2.0
"""Longest time that one request may take."""

TOKEN_TTL_SECONDS: Final = 21_600
"""Life of a token, the longest that EC2 grants."""

_TOKEN_PATH: Final = "/latest/api/token"  # noqa: S105 - where tokens come from, not one
_ID_PATH: Final = "/latest/meta-data/instance-id"
# Anything else would break the header that it is sent in.
_TOKEN: Final = re.compile(rb"[!-~]+")
_ID: Final = re.compile(r"i-[0-9a-f]{1,32}")
_ID_SECONDS: Final = 3.0
_ID_PAUSE_SECONDS: Final = 0.5

log = structlog.get_logger(__name__)


class Unanswered(Exception):
    """The metadata service does not answer, or not as EC2's does."""


class Metadata:
    """The metadata service through one session, with the token of the moment."""

    def __init__(self, session: aiohttp.ClientSession, endpoint: str) -> None:
        """Take the service's address without a path, such as `http://169.254.169.254`."""
        self._session = session
        self._endpoint = endpoint.rstrip("/")
        self._token = ""

    async def get(self, path: str) -> bytes | None:
        """Return what lies under a path, `None` if nothing does.

        Raises:
            Unanswered: nobody knows whether there is something.
        """
        try:
            if not self._token:
                self._token = await self._new_token()
            status, body = await self._get(path)
            if status == HTTPStatus.UNAUTHORIZED:
                self._token = await self._new_token()
                status, body = await self._get(path)
        except (aiohttp.ClientError, OSError) as error:
            raise Unanswered(f"{type(error).__name__}: {error}") from error
        if status == HTTPStatus.NOT_FOUND:
            return None
        if status == HTTPStatus.OK:
            return body
        raise Unanswered(f"{path} answered {status}")

    async def _new_token(self) -> str:
        headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL_SECONDS)}
        url = self._endpoint + _TOKEN_PATH
        async with self._session.put(url, headers=headers, allow_redirects=False) as response:
            if response.status != HTTPStatus.OK:
                raise Unanswered(f"{_TOKEN_PATH} answered {response.status}")
            token = await response.read()
        if not _TOKEN.fullmatch(token):
            raise Unanswered(f"{_TOKEN_PATH} answered no token")
        return token.decode()

    async def _get(self, path: str) -> tuple[int, bytes]:
        headers = {"X-aws-ec2-metadata-token": self._token}
        async with self._session.get(self._endpoint + path, headers=headers, allow_redirects=False) as response:
            try:
                return response.status, await response.read()
            except (aiohttp.ClientError, OSError):
                # The status alone says whether there is something.
                return response.status, b""


def session() -> aiohttp.ClientSession:
    """Return a session for `Metadata`, which goes through no proxy and waits for no answer longer than it should."""
    return aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=REQUEST_SECONDS), trust_env=False)


def id_on_board(tag: Path) -> str | None:
    """Return the id that the machine's firmware has for this instance, `None` where it has none."""
    with suppress(OSError, UnicodeDecodeError):
        found = tag.read_text("ascii").strip()
        if looks_like_an_instance(found):
            return found
    return None


async def instance_id(endpoint: str) -> str | None:
    """Return this instance's id, `None` where nobody says it, as on a machine that is not EC2's; within 3 s.

    The firmware is asked only where the service is EC2's own: elsewhere somebody plays EC2, on an instance perhaps.
    """
    if endpoint == ENDPOINT and (on_board := id_on_board(BOARD_TAG)) is not None:
        return on_board
    reason = "no answer"
    async with session() as http:
        metadata = Metadata(http, endpoint)
        with anyio.move_on_after(_ID_SECONDS):
            while True:
                try:
                    found = (await metadata.get(_ID_PATH) or b"").decode("ascii", "replace")
                except Unanswered as failure:
                    reason = str(failure)
                    await anyio.sleep(_ID_PAUSE_SECONDS)
                else:
                    if _ID.fullmatch(found):
                        return found
                    reason = "no id"
                    break
    log.info("no instance metadata here", reason=reason)
    return None


def looks_like_an_instance(name: str) -> bool:
    """Tell whether a worker's name is an instance's id."""
    return _ID.fullmatch(name) is not None
